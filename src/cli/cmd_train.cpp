// attune train RECIPE | --resume RUN: trains what a recipe describes.
#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <iostream>
#include <memory>

#include "attune/base/error.hpp"
#include "attune/train/dashboard.hpp"
#include "attune/train/doctor.hpp"
#include "attune/train/run_files.hpp"
#include "attune/train/signals.hpp"
#include "cli/training.hpp"

namespace attune::cli {

train::RunResult train_here(const train::RunConfig& config, const std::string& run, const std::string& data_folder,
                            bool resume, std::string_view how_to_go_on, std::optional<int> dashboard_port) {
  train::Progress progress(std::cerr, {.terminal = isatty(STDERR_FILENO) != 0});
  std::optional<train::Dashboard> dashboard;
  if (dashboard_port) {
    dashboard.emplace(*dashboard_port);
    progress.note("dashboard: " + dashboard->address());
  }
  const train::StopOnSignal signal;
  const train::RunHooks hooks{.told = [&](std::string_view line) { progress.note(std::string(line)); },
                              .progress = &progress,
                              .stop = [&] { return signal.requested(); },
                              .dashboard = dashboard ? &*dashboard : nullptr};
  const train::RunResult result =
      resume ? train::resume_run(run, data_folder, hooks) : train::start_run(config, run, data_folder, hooks);
  if (result.refused > 0)
    complain(fmt::format("warning: {} updates were refused, their loss or gradient was not finite", result.refused));
  if (result.interrupted) {
    complain(fmt::format("stopped and saved at step {} of {}; {} goes on", result.step, result.steps, how_to_go_on));
    throw Interrupted{};
  }
  return result;
}

namespace {

struct TrainArguments {
  std::string recipe, resume, out, data_folder = "data";
  double minutes = 0;
  std::int64_t steps = 0;
  std::int64_t seed = -1;
  bool json = false, dashboard = false;
  int port = 0;
};

/// What became of a run whose guard gave up: how often it went back, and what the log says about the reason.
void report_giving_up(const std::string& run, bool json) {
  const train::RunHistory history = train::read_run_log(train::RunFiles(run).log);
  const train::Diagnosis diagnosis = train::diagnose(history);
  Json rollbacks = Json::array();
  std::string told;
  for (const train::GuardEvent& e : history.guard) {
    if (e.action != "roll_back") continue;
    rollbacks.push_back({{"from", e.before}, {"to", e.after}, {"signal", e.signal}});
    told += fmt::format("went back from step {:.0f} to {:.0f} ({})\n", e.before, e.after, e.signal);
  }
  if (!json) return print_line(told + train::diagnosis_text(diagnosis));
  Json symptoms = Json::array();
  for (const train::Finding& f : diagnosis.findings) symptoms.push_back(f.symptom);
  print_json({{"run", run},
              {"gave_up", true},
              {"step", history.last_step()},
              {"rollbacks", rollbacks},
              {"symptoms", symptoms}});
}

void train(const TrainArguments& arguments) {
  train::RunConfig config;
  std::string run = arguments.resume;
  if (run.empty()) {
    config = train::read_config(arguments.recipe);
    if (arguments.minutes > 0) config.train.minutes = arguments.minutes, config.train.steps = 0;
    if (arguments.steps > 0) config.train.steps = arguments.steps, config.train.minutes = 0;
    if (arguments.seed >= 0) config.seed = std::uint64_t(arguments.seed);
    run = arguments.out.empty() ? "out/" + std::filesystem::path(arguments.recipe).stem().string() : arguments.out;
  }
  train::RunResult result;
  try {
    result = train_here(config, run, arguments.data_folder, !arguments.resume.empty(), "attune train --resume " + run,
                        arguments.dashboard ? std::optional(arguments.port) : std::nullopt);
  } catch (const train::GaveUp&) {
    report_giving_up(run, arguments.json);
    throw;  // main() tells the reason
  }
  if (arguments.json)
    return print_json({{"run", run},
                       {"step", result.step},
                       {"steps", result.steps},
                       {"minutes", result.minutes},
                       {"tokens_per_second", result.tokens_per_second},
                       {"parameters", result.parameters},
                       {"refused", result.refused},
                       {"valid_loss", std::isfinite(result.valid_loss) ? Json(result.valid_loss) : Json()}});
  print_line(
      fmt::format("{}: {} steps in {:.1f} minutes, {} tokens/s, {} parameters{}", run, grouped(result.step),
                  result.minutes, grouped(std::llround(result.tokens_per_second)), grouped(result.parameters),
                  std::isfinite(result.valid_loss) ? fmt::format(", valid loss {:.3f}", result.valid_loss) : ""));
}

}  // namespace

void add_train(CLI::App& program) {
  auto arguments = std::make_shared<TrainArguments>();
  CLI::App* command = program.add_subcommand("train", "Train what a recipe describes, or go on with a run.");
  CLI::Option* recipe =
      command->add_option("RECIPE", arguments->recipe, "a TOML file, such as recipes/translate_en_de.toml");
  CLI::Option* resume = command->add_option("--resume", arguments->resume, "folder of a run to go on with");
  CLI::Option* out = command->add_option("--out", arguments->out, "folder of the new run; out/<name of the recipe>");
  CLI::Option* minutes =
      command->add_option("--minutes", arguments->minutes, "train for so long, instead of the recipe's")
          ->check(CLI::PositiveNumber);
  CLI::Option* steps = command->add_option("--steps", arguments->steps, "train so many steps, instead of the recipe's")
                           ->check(CLI::PositiveNumber);
  CLI::Option* seed =
      command->add_option("--seed", arguments->seed, "instead of the recipe's")->check(CLI::NonNegativeNumber);
  command->add_option("--data", arguments->data_folder, "folder that data is fetched to")->capture_default_str();
  command->add_flag("--json", arguments->json, "print the result as JSON");
  CLI::Option* dashboard = command->add_flag("--dashboard", arguments->dashboard,
                                             "serve a page that shows the training live, to this machine");
  command->add_option("--port", arguments->port, "of the dashboard; any free one unless given")
      ->check(CLI::Range(1, 65535))
      ->needs(dashboard);
  minutes->excludes(steps);
  for (CLI::Option* of_new_runs : {recipe, out, minutes, steps, seed}) resume->excludes(of_new_runs);
  command->footer(
      "Example:\n  attune train recipes/translate_en_de.toml --minutes 5\n  attune train --resume "
      "out/translate_en_de\n\n"
      "Exit code 3: the guard gave up, at a spike after its last rollback.");
  command->callback([arguments, recipe, resume] {
    if (recipe->empty() && resume->empty()) throw CLI::RequiredError("RECIPE or --resume RUN");
    train(*arguments);
  });
}

}  // namespace attune::cli
