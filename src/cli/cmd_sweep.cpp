// attune sweep PLAN | --preset NAME: trains every combination of a plan and says what each remedy is worth.
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
  std::string plan, preset, out, data_folder = "data";
  int jobs = 0;
  bool keep = false, json = false;
};

/// A line for each run that ends, with the time that is left.
class SweepLines {
 public:
  void show(const train::SweepPlan& plan, const train::SweepRow& row, std::size_t done, std::size_t all) {
    ++trained_;
    const double left = (train::steady_seconds() - began_) / double(trained_) * double(all - done);
    complain(fmt::format("{}/{}  {} {} {}={:g} seed {}  loss {:.3f}{}  logit {:.3g}  entropy {:.2f}{}  eta {}:{:02}",
                         done, all, row.recipe, row.remedy, plan.axis_label, row.value, row.seed, row.loss,
                         row.score ? fmt::format("  {} {:.4g}", row.score->name, row.score->value) : "", row.max_logit,
                         row.entropy, row.diverged ? "  diverged" : "", int(left) / 60, int(left) % 60));
  }

 private:
  const double began_ = train::steady_seconds();
  std::size_t trained_ = 0;
};

void sweep(const SweepArguments& arguments) {
  const std::filesystem::path file =
      arguments.preset.empty() ? arguments.plan : "recipes/sweeps/" + arguments.preset + ".toml";
  const std::string name = file.stem().string();
  const std::vector<train::SweepPlan> plans = train::read_sweeps(file);
  const std::filesystem::path out = arguments.out.empty() ? "out/sweep_" + name : arguments.out;
  const bool one = plans.size() == 1 && plans.front().name == name;
  const train::StopOnSignal signal;
  std::vector<std::vector<train::SweepRow>> rows;
  std::filesystem::path page;
  std::string table;
  std::size_t runs = 0;
  for (const train::SweepPlan& plan : plans) {
    const std::filesystem::path folder = one ? out : out / plan.name;
    SweepLines lines;
    rows.push_back(train::run_sweep(plan, {.program = std::filesystem::read_symlink("/proc/self/exe"),
                                           .out = folder,
                                           .data_folder = arguments.data_folder,
                                           .jobs = arguments.jobs,
                                           .keep_runs = arguments.keep,
                                           .finished = [&](const train::SweepRow& row, std::size_t done,
                                                           std::size_t all) { lines.show(plan, row, done, all); },
                                           .stop = [&] { return signal.requested(); }}));
    if (signal.requested()) {
      complain(fmt::format("stopped after {} of {} runs of {}; the same command goes on", rows.back().size(),
                           plan.runs.size(), plan.name));
      throw Interrupted{};
    }
    page = train::write_sweep_report(plan, rows.back(), folder);
    table += train::sweep_table(train::summarize_sweep(plan, rows.back()));
    runs += rows.back().size();
  }
  if (!one) page = train::write_sweeps_report(name, plans, rows, out);
  if (arguments.json)
    return print_json(Json{{"report", (out / "report.json").string()}, {"page", page.string()}, {"runs", runs}});
  print_line(table + page.string());
}

}  // namespace

void add_sweep(CLI::App& program) {
  auto arguments = std::make_shared<SweepArguments>();
  CLI::App* command = program.add_subcommand(
      "sweep", "Train the same recipes with many settings: loss against learning rate, by remedy.");
  CLI::Option* plan =
      command->add_option("PLAN", arguments->plan, "a TOML file, such as recipes/sweeps/characters.toml");
  CLI::Option* preset = command
                            ->add_option("--preset", arguments->preset,
                                         "recipes/sweeps/<preset>.toml: seconds, a minute or two, or the tables of "
                                         "docs/learning_rate.md")
                            ->check(CLI::IsMember({"ci", "quick", "full"}));
  plan->excludes(preset);
  command->add_option("--out", arguments->out, "folder of the runs and the report; out/sweep_<name of the plan>");
  command->add_option("--data", arguments->data_folder, "folder that data is fetched to")->capture_default_str();
  command->add_option("--jobs", arguments->jobs, "runs at a time; one a core")->check(CLI::PositiveNumber);
  command->add_flag("--keep", arguments->keep, "keep the runs' checkpoints");
  command->add_flag("--json", arguments->json, "print where the report is as JSON");
  command->footer("Example:\n  attune sweep --preset quick\n  attune sweep recipes/sweeps/recall.toml");
  command->callback([arguments, plan, preset] {
    if (plan->empty() && preset->empty()) throw CLI::RequiredError("PLAN or --preset NAME");
    sweep(*arguments);
  });
}

}  // namespace attune::cli
