// attune sweep PLAN: trains every combination of a plan and says what each remedy is worth.
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "attune/base/error.hpp"
#include "attune/train/clock.hpp"
#include "attune/train/signals.hpp"
#include "attune/train/sweep.hpp"
#include "cli/commands.hpp"

namespace attune::cli {
namespace {

struct SweepArguments {
  std::string plan, out, data_folder = "data";
  int jobs = 0;
  bool keep = false, json = false;
};

void sweep(const SweepArguments& arguments) {
  const train::SweepPlan plan = train::read_sweep(arguments.plan);
  const std::filesystem::path out = arguments.out.empty() ? "out/sweep_" + plan.name : arguments.out;
  const train::StopOnSignal signal;
  const double began = train::steady_seconds();
  std::size_t trained = 0;
  const train::SweepOptions options{
      .program = std::filesystem::read_symlink("/proc/self/exe"),
      .out = out,
      .data_folder = arguments.data_folder,
      .jobs = arguments.jobs,
      .keep_runs = arguments.keep,
      .finished =
          [&](const train::SweepRow& row, std::size_t done, std::size_t all) {
            ++trained;
            const double left = (train::steady_seconds() - began) / double(trained) * double(all - done);
            complain(fmt::format(
                "{}/{}  {} {} {}={:g} seed {}  loss {:.3f}  logit {:.3g}  entropy {:.2f}{}  eta {}:{:02}", done, all,
                row.recipe, row.remedy, plan.axis_label, row.value, row.seed, row.loss, row.max_logit, row.entropy,
                row.diverged ? "  diverged" : "", int(left) / 60, int(left) % 60));
          },
      .stop = [&] { return signal.requested(); }};
  const std::vector<train::SweepRow> rows = train::run_sweep(plan, options);
  if (signal.requested()) {
    complain(fmt::format("stopped after {} of {} runs; the same command goes on", rows.size(), plan.runs.size()));
    throw Interrupted{};
  }
  const std::filesystem::path page = train::write_sweep_report(plan, rows, out);
  if (arguments.json)
    return print_json(Json{{"report", (out / "report.json").string()}, {"page", page.string()}, {"runs", rows.size()}});
  print_line(train::sweep_table(train::summarize_sweep(plan, rows)) + page.string());
}

}  // namespace

void add_sweep(CLI::App& program) {
  auto arguments = std::make_shared<SweepArguments>();
  CLI::App* command = program.add_subcommand(
      "sweep", "Train the same recipes with many settings: loss against learning rate, by remedy.");
  command->add_option("PLAN", arguments->plan, "a TOML file, such as recipes/sweeps/quick.toml")->required();
  command->add_option("--out", arguments->out, "folder of the runs and the report; out/sweep_<name of the plan>");
  command->add_option("--data", arguments->data_folder, "folder that data is fetched to")->capture_default_str();
  command->add_option("--jobs", arguments->jobs, "runs at a time; one a core")->check(CLI::PositiveNumber);
  command->add_flag("--keep", arguments->keep, "keep the runs' checkpoints");
  command->add_flag("--json", arguments->json, "print where the report is as JSON");
  command->footer("Example:\n  attune sweep recipes/sweeps/quick.toml");
  command->callback([arguments] { sweep(*arguments); });
}

}  // namespace attune::cli
