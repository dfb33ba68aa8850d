// attune compare RUN RUN...: runs side by side.
#include <cmath>
#include <filesystem>
#include <memory>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/compare.hpp"
#include "cli/commands.hpp"

namespace attune::cli {
namespace {

struct CompareArguments {
  std::vector<std::string> runs;
  std::string out;
  bool json = false;
};

/// JSON knows no number that is not finite.
Json finite_or_null(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }

Json points_json(const std::vector<train::EqualPoint>& points, const char* where) {
  Json out = Json::array();
  for (const train::EqualPoint& point : points) {
    Json losses = Json::array();
    for (const double loss : point.losses) losses.push_back(finite_or_null(loss));
    out.push_back({{where, point.at}, {"losses", losses}});
  }
  return out;
}

Json comparison_json(const train::Comparison& c) {
  Json out;
  out["runs"] = Json::array();
  for (const train::RunSummary& r : c.runs) {
    out["runs"].push_back({{"name", r.name},
                           {"steps", r.steps},
                           {"loss", finite_or_null(r.loss)},
                           {"best_valid_loss", finite_or_null(r.best_valid)},
                           {"best_valid_step", r.best_valid_step},
                           {"last_valid_loss", finite_or_null(r.last_valid)},
                           {"largest_logit", finite_or_null(r.largest_logit)},
                           {"entropy", finite_or_null(r.entropy)},
                           {"smallest_entropy", finite_or_null(r.smallest_entropy)},
                           {"seconds", finite_or_null(r.seconds)},
                           {"tokens_per_second", finite_or_null(r.tokens_per_second)},
                           {"milliseconds_a_step", finite_or_null(r.milliseconds_a_step)},
                           {"refused", r.refused},
                           {"guard_actions", r.guard_actions},
                           {"rollbacks", r.rollbacks}});
  }
  out["configuration"] = Json::object();
  for (const train::ConfigDifference& d : c.differences) out["configuration"][d.key] = d.values;
  out["by_step"] = points_json(c.by_step, "step");
  out["by_seconds"] = points_json(c.by_seconds, "seconds");
  out["valid_by_step"] = points_json(c.valid_by_step, "step");
  return out;
}

void compare(const CompareArguments& arguments) {
  std::vector<train::ComparedRun> runs;
  for (const std::string& run : arguments.runs) runs.push_back(train::read_compared_run(run));
  const train::Comparison comparison = train::compare_runs(runs);
  std::vector<std::string> pictures;
  if (!arguments.out.empty()) {
    std::error_code error;
    std::filesystem::create_directories(arguments.out, error);
    if (error) fail("compare", "a folder " + arguments.out, error.message());
    const std::pair<train::LossAxis, const char*> charts[] = {{train::LossAxis::steps, "loss_by_step.svg"},
                                                              {train::LossAxis::seconds, "loss_by_seconds.svg"},
                                                              {train::LossAxis::held_out, "valid_by_step.svg"}};
    for (const auto& [axis, name] : charts) {
      if (!train::has_losses(runs, axis)) continue;
      pictures.push_back((std::filesystem::path(arguments.out) / name).string());
      io::write_file(pictures.back(), train::loss_chart(runs, axis));
    }
  }
  if (arguments.json) {
    Json out = comparison_json(comparison);
    if (!pictures.empty()) out["pictures"] = pictures;
    return print_json(out);
  }
  std::string text = train::comparison_text(comparison);
  for (const std::string& picture : pictures) text += picture + '\n';
  text.pop_back();
  print_line(text);
}

}  // namespace

void add_compare(CLI::App& program) {
  auto arguments = std::make_shared<CompareArguments>();
  CLI::App* command = program.add_subcommand("compare", "Put runs side by side: settings, losses, attention, speed.");
  command->add_option("RUN", arguments->runs, "folders of runs")->required()->expected(2, 100);
  command->add_option("--out", arguments->out, "folder for pictures of the losses (SVG)");
  command->add_flag("--json", arguments->json, "print JSON");
  command->footer("Example:\n  attune compare out/base out/guard --out out/base_or_guard");
  command->callback([arguments] { compare(*arguments); });
}

}  // namespace attune::cli
