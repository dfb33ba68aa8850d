// The loop around the updates. Whatever it measures (time, tokens) or shows changes no bit of what is learned.
#include "attune/train/run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include "attune/base/error.hpp"
#include "attune/nn/roles.hpp"
#include "attune/train/checkpoint.hpp"
#include "attune/train/clock.hpp"
#include "attune/train/guard_config.hpp"
#include "attune/train/task.hpp"
#include "attune/train/trainer.hpp"
#include "train/run_log.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;

constexpr double kStepShare = 0.985;  // of the minutes; the rest is for validation and checkpoints

/// Everything that a run has in its hands.
struct Run {
  RunFiles files;
  RunConfig config;
  const RunHooks& hooks;
  std::unique_ptr<Learner> learner;
  std::unique_ptr<optim::Optimizer> optimizer;
  std::optional<Trainer> trainer;
  std::optional<AttentionGuard> guard;  // once the number of updates is known
  RunFacts facts;
  std::vector<ParameterRows> roles;  // of the model's parameters

  // Carried from piece to piece of the run, by way of the checkpoints.
  double seconds = 0, tokens = 0;
  double refused = 0;
  double interval_loss = 0, interval_tokens = 0;  // since the last line of the log: nats, target tokens
  std::optional<std::int64_t> log_bytes;          // at the last checkpoint

  nn::Module& model() const { return learner->model(); }
  void tell(const std::string& line) const {
    if (hooks.told) hooks.told(line);
  }
};

/// Data, vocabulary, model, optimizer and trainer at step 0; the vocabulary is made where the folder has none yet.
void build(Run& run, const fs::path& data_folder) {
  TaskContext context{.files = run.files, .data_folder = data_folder, .told = run.hooks.told};
  if (fs::exists(run.files.facts)) {
    run.facts = read_facts(run.files);
    run.config.data.folder = run.facts.task.data_folder;
    context.data_sha256 = run.facts.task.data_sha256;
  }
  run.learner = make_learner(run.config, context);
  run.roles = nn::parameter_roles(run.learner->model());
  run.optimizer = make_optimizer(run.config, run.model());
  run.trainer.emplace(*run.learner, *run.optimizer, TrainerOptions{.accumulate = run.config.train.accumulate});
  run.facts.task = run.learner->facts();
  run.facts.parameters = run.model().num_parameters();
}

/// Minutes become steps: a few updates are timed and undone. At a learning rate of 0 they leave the weights alone;
/// moments, generator and cursor are put back.
void decide_steps(Run& run) {
  if (run.config.train.steps == 0) {
    run.facts.planned_minutes = run.config.train.minutes;
    const optim::OptimizerState optimizer = run.optimizer->state();
    const Generator generator = run.model().generator();
    const BatchCursor cursor = run.learner->cursor();
    run.optimizer->set_schedule(optim::Schedule::from_function([](std::int64_t) { return 0.0; }));
    const double tokens_an_update = run.learner->tokens_a_batch() * double(run.config.train.accumulate);
    const StepBudget budget = steps_for_minutes(
        run.config.train.minutes, [&] { return run.trainer->update().tokens; }, tokens_an_update, kStepShare);
    run.optimizer->load_state(optimizer);
    run.model().set_generator(generator);
    run.learner->seek(cursor);
    run.tell(fmt::format("{} minutes are {} steps of {:.1f} ms", run.config.train.minutes, budget.steps,
                         1000 * budget.seconds_a_step));
    run.config.train.steps = budget.steps;
    run.config.train.minutes = 0;
  }
  run.config.data.folder = run.facts.task.data_folder;
  // Lengths of the schedule in epochs and tokens become steps, which config.toml then holds.
  const double batches = double(run.config.train.accumulate);
  run.config.schedule =
      optim::in_steps(run.config.schedule, {.steps_per_epoch = run.learner->batches_an_epoch() / batches,
                                            .tokens_per_step = run.learner->tokens_a_batch() * batches});
  run.optimizer->set_schedule(make_schedule(run.config));
  write_facts(run.facts, run.files);
  write_config(run.config, run.files.config);
}

/// The recipe's guard, from now on around every update.
void guard(Run& run) {
  run.guard.emplace(run.model(), *run.optimizer, guard_options(run.config));
  if (run.guard->watches()) run.trainer->set_guard(&*run.guard);
}

void save(const Run& run, const RunJournal& log) {
  Checkpoint checkpoint;
  checkpoint.weights = run.model().named_parameters();
  checkpoint.optimizer = run.optimizer->state();
  checkpoint.step = run.optimizer->step();
  checkpoint.data = run.learner->cursor();
  checkpoint.generators = {{"dropout", GeneratorState(run.model().generator())}};
  checkpoint.schedule = make_schedule(run.config).json();
  checkpoint.numerics = numerics_of_this_machine();
  checkpoint.numbers = {{"seconds", run.seconds},
                        {"tokens", run.tokens},
                        {"refused", run.refused},
                        {"interval_loss", run.interval_loss},
                        {"interval_tokens", run.interval_tokens}};
  checkpoint.logs = {{run.files.log.filename().string(), log.bytes()}};
  checkpoint.guard = run.guard->state();
  // The weights of a checkpoint are those to evaluate with; where others are trained, the optimizer's state has them.
  const EvaluationWeights weights(*run.optimizer);
  save_checkpoint(run.files.checkpoint, checkpoint);
}

void restore(Run& run) {
  const Checkpoint checkpoint = load_checkpoint(run.files.checkpoint);
  const auto dropout = checkpoint.generators.find("dropout");
  if (dropout == checkpoint.generators.end())
    fail("resume_run", "a checkpoint with the generator \"dropout\"", run.files.checkpoint.string());
  // Compared as schedules, not as texts: a field that the program of the checkpoint did not know has its default.
  if (optim::Schedule::from_json(checkpoint.schedule).spec() != make_schedule(run.config).spec())
    fail("resume_run", fmt::format("the schedule of config.toml, {}", make_schedule(run.config).json()),
         fmt::format("{} in {}", checkpoint.schedule, run.files.checkpoint.string()));
  if (checkpoint.numerics != numerics_of_this_machine())
    run.tell(fmt::format("warning: the run began on {}, this machine is {}: the last bits may differ",
                         checkpoint.numerics, numerics_of_this_machine()));
  restore_weights(checkpoint.weights, run.model());
  run.optimizer->load_state(checkpoint.optimizer);
  run.model().set_generator(dropout->second.generator());
  run.learner->seek(checkpoint.data);
  run.guard->load_state(checkpoint.guard);
  const auto number = [&](const char* name) {
    const auto found = checkpoint.numbers.find(name);
    return found == checkpoint.numbers.end() ? 0.0 : found->second;
  };
  run.seconds = number("seconds");
  run.tokens = number("tokens");
  run.refused = number("refused");
  run.interval_loss = number("interval_loss");
  run.interval_tokens = number("interval_tokens");
  if (const auto log = checkpoint.logs.find(run.files.log.filename().string()); log != checkpoint.logs.end())
    run.log_bytes = log->second;
}

/// The validation loss, which the log and a plateau hear. False if it made the guard go back.
bool validate(Run& run, RunJournal& log, double& loss) {
  {
    const EvaluationWeights weights(*run.optimizer);
    loss = run.trainer->validation_loss();
  }
  const std::int64_t step = run.optimizer->step();
  log.valid(step, loss);
  if (!run.optimizer->listens()) return true;
  if (std::isfinite(loss)) {
    run.optimizer->observe(loss);
    return true;
  }
  // Nothing that a plateau could compare: a spike, for whoever can go back from one.
  if (!run.guard->inspect({.loss = loss, .staged = false, .attention = {}})) return false;
  fail("train", "a finite validation loss for the schedule's plateau ([guard] mode = \"full\" goes back from a spike)",
       fmt::format("got {} at step {}", loss, step));
}

/// Updates until the last step, or until somebody wants it to stop.
RunResult train(Run& run) {
  const TrainConfig& plan = run.config.train;
  const double seconds_before = run.seconds, tokens_before = run.tokens, began = steady_seconds();
  const std::int64_t first_step = run.optimizer->step();
  const bool begins = !has_checkpoint(run.files.checkpoint);
  RunJournal log(run.files, plan.tensorboard, {.begins = begins, .step = first_step, .bytes = run.log_bytes},
                 run.hooks.dashboard);
  RunResult result{
      .steps = plan.steps, .parameters = run.facts.parameters, .valid_loss = std::numeric_limits<double>::quiet_NaN()};
  ProgressState shown{.step = first_step, .steps = plan.steps};
  double smooth_loss = 0, smooth_weight = 0;  // of the progress line
  const bool validates = run.learner->has_validation();
  bool look = true;  // ask the next update for its attention
  bool worked = false;
  bool gave_up = false;
  run.guard->on_event([&](const GuardEvent& e) {
    log.guard(e);
    gave_up = gave_up || e.action == "stop";
  });
  if (run.optimizer->listens() && !validates) fail("train", "data to validate with for the schedule's plateau", "none");
  if (begins && validates && plan.validate_every > 0) {
    const EvaluationWeights weights(*run.optimizer);
    log.valid(0, run.trainer->validation_loss());
  }
  // Does something that the guard may end.
  const auto guarded = [&](const auto& act) {
    try {
      return act();
    } catch (const Error& error) {
      if (gave_up) throw GaveUp(error.what());
      throw;
    }
  };

  while (run.optimizer->step() < plan.steps) {
    if (run.hooks.stop && run.hooks.stop()) {
      result.interrupted = true;
      break;
    }
    const bool log_due = (run.optimizer->step() + 1) % plan.log_every == 0 || run.optimizer->step() + 1 == plan.steps;
    log.begin_update(log_due);
    const UpdateReport update =
        guarded([&] { return run.trainer->update({.attention = look || log_due, .output = log_due}); });
    worked = true;
    const std::int64_t step = run.optimizer->step();
    run.tokens += double(update.tokens);
    run.seconds = seconds_before + steady_seconds() - began;
    if (look || log_due) shown.max_logit = update.attention.largest_logit, shown.entropy = update.attention.entropy;
    look = false;
    if (update.went_back) continue;
    if (!update.applied) {
      run.refused += 1;
      log.refused(step, update);
      continue;
    }
    run.interval_loss += update.loss * double(update.target_tokens);
    run.interval_tokens += double(update.target_tokens);
    smooth_loss = 0.98 * smooth_loss + 0.02 * update.loss;
    smooth_weight = 0.98 * smooth_weight + 0.02;

    if (log_due) {
      log.step(update, *run.optimizer, &*run.guard,
               {.loss = run.interval_loss / run.interval_tokens, .tokens = run.tokens, .seconds = run.seconds});
      log.epsilon(*run.optimizer, run.roles);
      run.interval_loss = run.interval_tokens = 0;
    }
    const bool last = step == plan.steps;
    if (validates && (last || (plan.validate_every > 0 && step % plan.validate_every == 0))) {
      double valid_loss = 0;
      if (!guarded([&] { return validate(run, log, valid_loss); })) continue;
      if (last) result.valid_loss = valid_loss;
    }
    if (!last && plan.checkpoint_every > 0 && step % plan.checkpoint_every == 0) save(run, log);
    if (run.hooks.progress && (last || run.hooks.progress->due())) {
      const double elapsed = run.seconds - seconds_before;
      shown.step = step;
      shown.loss = smooth_loss / smooth_weight;
      shown.learning_rate = update.learning_rate;
      shown.tokens_per_second = (run.tokens - tokens_before) / elapsed;
      shown.seconds_left = elapsed / double(std::max<std::int64_t>(1, step - first_step)) * double(plan.steps - step);
      run.hooks.progress->show(shown);
    }
  }
  run.seconds = seconds_before + steady_seconds() - began;
  if (worked || !has_checkpoint(run.files.checkpoint)) save(run, log);
  if (run.hooks.progress && worked) run.hooks.progress->finish(shown);
  result.step = run.optimizer->step();
  result.refused = std::int64_t(run.refused);
  result.minutes = run.seconds / 60;
  result.tokens_per_second = run.seconds > 0 ? run.tokens / run.seconds : 0;
  return result;
}

RunResult open(Run run, const fs::path& data_folder) {
  build(run, data_folder);
  if (has_checkpoint(run.files.checkpoint)) {
    run.optimizer->set_schedule(make_schedule(run.config));
    guard(run);
    restore(run);
  } else {
    decide_steps(run);
    guard(run);
  }
  return train(run);
}

}  // namespace

RunResult start_run(const RunConfig& config, const fs::path& run, const fs::path& data_folder, const RunHooks& hooks) {
  const RunFiles files(run);
  if (fs::exists(files.config))
    fail("start_run", "a folder without a run",
         fmt::format("{} (resume it, or choose another)", files.config.string()));
  std::error_code error;
  fs::create_directories(files.folder, error);
  if (error) fail("start_run", fmt::format("a folder {}", files.folder.string()), error.message());
  write_config(config, files.config);
  return open({.files = files, .config = config, .hooks = hooks}, data_folder);
}

RunResult resume_run(const fs::path& run, const fs::path& data_folder, const RunHooks& hooks) {
  const RunFiles files(run);
  if (!fs::exists(files.config))
    fail("resume_run", "a folder with a run (config.toml)", fmt::format("none in {}", files.folder.string()));
  return open({.files = files, .config = read_run_config(files.config), .hooks = hooks}, data_folder);
}

}  // namespace attune::train
