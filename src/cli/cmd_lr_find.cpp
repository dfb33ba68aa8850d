// attune lr-find RECIPE: which learning rate to begin with.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "attune/io/atomic_file.hpp"
#include "attune/train/lr_find.hpp"
#include "attune/train/task.hpp"
#include "cli/commands.hpp"

namespace attune::cli {
namespace {

struct LrFindArguments {
  std::string recipe, out, data_folder = "data";
  train::LrFindOptions options;
  int seeds = 1;
  bool json = false;
};

/// Exit code for a loss that never fell.
constexpr int kNoValley = 4;

train::LrFindResult find_once(const LrFindArguments& arguments, train::RunConfig config,
                              const std::filesystem::path& out) {
  const std::unique_ptr<train::Learner> learner =
      train::make_learner(config, {.files = train::RunFiles(out),
                                   .data_folder = arguments.data_folder,
                                   .told = [](std::string_view line) { complain(line); },
                                   .data_sha256 = ""});
  const std::unique_ptr<optim::Optimizer> optimizer = train::make_optimizer(config, learner->model());
  return train::find_learning_rate(*learner, *optimizer, {.accumulate = config.train.accumulate}, arguments.options);
}

void lr_find(const LrFindArguments& arguments) {
  const train::RunConfig config = train::read_config(arguments.recipe);
  const std::filesystem::path out =
      arguments.out.empty() ? "out/lr_find_" + std::filesystem::path(arguments.recipe).stem().string() : arguments.out;
  std::filesystem::create_directories(out);

  std::vector<train::LrFindResult> results;
  for (int k = 0; k < arguments.seeds; ++k) {
    train::RunConfig of_seed = config;
    of_seed.seed += std::uint64_t(k);
    results.push_back(find_once(arguments, of_seed, out));
    const train::LrFindResult& r = results.back();
    complain(fmt::format(
        "seed {}: {}{}", of_seed.seed, r.valley ? fmt::format("valley {:.2g}", *r.valley) : "no valley",
        r.attention_limit
            ? fmt::format(", attention limit {:.2g} ({} head {})", *r.attention_limit, r.limiting_site, r.limiting_head)
            : ""));
  }
  const std::filesystem::path page = train::write_lr_find_report(arguments.recipe, results, out);
  const std::optional<double> suggestion = train::mean_suggestion(results);
  if (arguments.json) {
    print_json(Json::parse(io::read_file(out / "lr_find.json")));
  } else if (suggestion) {
    const auto found =
        std::count_if(results.begin(), results.end(), [](const auto& r) { return r.suggestion().has_value(); });
    print_line(fmt::format("suggestion       {:.2g}   the smaller of valley and a third of the attention limit{}",
                           *suggestion, found > 1 ? fmt::format(", mean of {} seeds", found) : ""));
    print_line(page.string());
  } else {
    print_line(fmt::format("no valley: the loss never fell between {:g} and {:g}", arguments.options.low,
                           arguments.options.high));
  }
  if (!suggestion) throw ExitCode{kNoValley};
}

}  // namespace

void add_lr_find(CLI::App& program) {
  auto arguments = std::make_shared<LrFindArguments>();
  CLI::App* command = program.add_subcommand("lr-find", "Try rising learning rates for a few steps and suggest one.");
  command->add_option("RECIPE", arguments->recipe, "a TOML file, such as recipes/tiny_novels.toml")->required();
  command->add_option("--lo", arguments->options.low, "lowest rate")->capture_default_str()->check(CLI::PositiveNumber);
  command->add_option("--hi", arguments->options.high, "highest rate")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--iters", arguments->options.iterations, "steps from one to the other")->capture_default_str();
  command->add_option("--seeds", arguments->seeds, "how often, each with a seed of its own")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--out", arguments->out, "folder of pictures and page; out/lr_find_<name of the recipe>");
  command->add_option("--data", arguments->data_folder, "folder that data is fetched to")->capture_default_str();
  command->add_flag("--json", arguments->json, "print the result as JSON");
  command->footer("Example:\n  attune lr-find recipes/tiny_novels.toml --seeds 3\nExit code 4: the loss never fell.");
  command->callback([arguments] { lr_find(*arguments); });
}

}  // namespace attune::cli
