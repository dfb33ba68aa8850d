// Running a sweep: a process a run, several at a time, results kept line by line.
#include "attune/train/sweep.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <fstream>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "attune/base/error.hpp"
#include "attune/train/run_files.hpp"
#include "attune/train/run_log_reader.hpp"
#include "train/child_process.hpp"
#include "train/sweep_rows.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// What a run's log says of how it went.
SweepRow read_log(const SweepRun& run, const fs::path& file) {
  SweepRow row;
  row.recipe = run.recipe;
  row.remedy = run.remedy;
  row.seed = run.seed;
  row.value = run.value;
  row.learning_rate = run.config.optimizer.learning_rate;
  row.hash = run.hash;
  row.initial_loss = row.loss = kNan;
  const RunHistory log = fs::exists(file) ? read_run_log(file) : RunHistory{};
  for (const ValidLine& valid : log.valids) {
    if (valid.step == 0) row.initial_loss = valid.loss;
    if (valid.step == run.config.train.steps) row.loss = valid.loss;
  }
  for (const StepLine& step : log.steps) {
    if (!(step.largest_logit <= row.max_logit)) row.max_logit = step.largest_logit;  // also if it is NaN
    row.entropy = step.entropy;
    row.sharpest = step.smallest_entropy;
    row.seconds = step.seconds;
  }
  row.actions = std::int64_t(log.guard.size());
  row.diverged = !std::isfinite(row.loss) || row.loss > row.initial_loss;
  return row;
}

/// What the program says a trained run is worth, by its task's own metric.
SweepScore score_of(const SweepRun& run, const fs::path& folder, const SweepOptions& options) {
  const ChildResult child = run_child(
      {"env", "ATTUNE_THREADS=1", options.program.string(), "eval", folder.string(), "--json"}, fs::current_path());
  const std::size_t begin = std::min(child.output.find('{'), child.output.size());
  const auto score = score_from_json(nlohmann::ordered_json::parse(child.output.substr(begin), nullptr, false));
  if (child.exit_code != 0 || !score)
    fail("run_sweep", fmt::format("a score of run {}", run.hash), child.output.substr(0, 200));
  return *score;
}

/// Trains one run to its end, or finds that it cannot be trained.
SweepRow train_one(const SweepRun& run, bool scored, const SweepOptions& options) {
  const fs::path folder = options.out / "runs" / run.hash;
  const RunFiles files(folder);
  std::vector<std::string> command{"env", "ATTUNE_THREADS=1", options.program.string(), "train"};
  if (fs::exists(files.config)) {
    command.insert(command.end(), {"--resume", folder.string()});
  } else {
    const fs::path recipe = options.out / "runs" / (run.hash + ".toml");
    write_config(run.config, recipe);
    command.insert(command.end(), {recipe.string(), "--out", folder.string()});
  }
  command.insert(command.end(), {"--data", options.data_folder.string()});
  const ChildResult child = run_child(command, fs::current_path());
  if (child.exit_code >= 128)
    fail("run_sweep", "runs that end by themselves", fmt::format("run {} was stopped", run.hash));
  SweepRow row = read_log(run, files.log);
  // Training that cannot go on because of its loss is a result; anything else is not.
  const bool gave_up = child.output.find("a finite loss") != std::string::npos ||
                       child.output.find("AttentionGuard") != std::string::npos;
  if (child.exit_code != 0 && !gave_up)
    fail("run_sweep", fmt::format("run {} to end", run.hash),
         child.output.substr(child.output.rfind('\n', child.output.size() - 2) + 1));
  if (child.exit_code != 0) row.loss = kNan, row.diverged = true;
  if (scored && std::isfinite(row.loss)) row.score = score_of(run, folder, options);
  if (!options.keep_runs) fs::remove_all(files.checkpoint);
  return row;
}

}  // namespace

std::vector<SweepRow> run_sweep(const SweepPlan& plan, const SweepOptions& options) {
  std::error_code error;
  fs::create_directories(options.out / "runs", error);
  if (error) fail("run_sweep", fmt::format("a folder {}", (options.out / "runs").string()), error.message());
  const fs::path store = options.out / "runs.jsonl";

  std::map<std::string, SweepRow> known;
  if (fs::exists(store)) {
    std::ifstream in(store);
    for (std::string line; std::getline(in, line);)
      if (const std::optional<SweepRow> row = row_from_json(line)) known[row->hash] = *row;
  }
  std::ofstream out(store, std::ios::app);
  if (!out) fail("run_sweep", fmt::format("a file {} that can be written", store.string()), "it cannot be opened");

  std::vector<std::optional<SweepRow>> rows(plan.runs.size());
  std::vector<std::size_t> left;
  for (std::size_t i = 0; i < plan.runs.size(); ++i) {
    const auto found = known.find(plan.runs[i].hash);
    const bool complete =
        found != known.end() && (!plan.score || found->second.score || !std::isfinite(found->second.loss));
    if (complete) {
      rows[i] = found->second;
      rows[i]->remedy = plan.runs[i].remedy;  // plans may name equal settings differently
    } else {
      left.push_back(i);
    }
  }

  std::mutex mutex;
  std::exception_ptr failure;
  std::size_t next = 0, done = plan.runs.size() - left.size();
  const auto work = [&] {
    while (true) {
      std::size_t i;
      {
        const std::lock_guard lock(mutex);
        if (failure || next == left.size() || (options.stop && options.stop())) return;
        i = left[next++];
      }
      try {
        SweepRow row = train_one(plan.runs[i], plan.score, options);
        const std::lock_guard lock(mutex);
        out << row_json(row) << '\n' << std::flush;
        if (!out) fail("run_sweep", fmt::format("room for a line in {}", store.string()), "writing failed");
        ++done;
        if (options.finished) options.finished(row, done, plan.runs.size());
        rows[i] = std::move(row);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    }
  };
  std::vector<std::thread> threads;
  const int jobs = options.jobs > 0 ? options.jobs : int(std::max(1u, std::thread::hardware_concurrency()));
  for (int j = 0; j < std::min<int>(jobs, int(left.size())); ++j) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  if (failure && !(options.stop && options.stop())) std::rethrow_exception(failure);

  std::vector<SweepRow> finished;
  for (std::optional<SweepRow>& row : rows)
    if (row) finished.push_back(std::move(*row));
  return finished;
}

}  // namespace attune::train
