// attune explain-lr RUN --param NAME: which learning rate a parameter got in an update, factor by factor.
#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "attune/train/explain_rate.hpp"
#include "cli/commands.hpp"

namespace attune::cli {
namespace {

struct ExplainRateArguments {
  std::string run, parameter;
  std::int64_t step = 0;
  bool json = false;
};

void explain_lr(const ExplainRateArguments& arguments) {
  const train::RateExplanation e = train::explain_rate(arguments.run, arguments.parameter, arguments.step);
  if (arguments.json) {
    Json rows = Json::array();
    for (const train::RateOfRows& r : e.rows) {
      Json factors = Json::array();
      for (const optim::RateFactor& f : r.factors) factors.push_back({{"name", f.name}, {"value", f.value}});
      rows.push_back({{"parameter", r.parameter},
                      {"first", r.first},
                      {"end", r.end},
                      {"role", std::string(name_of(r.role))},
                      {"head", r.head},
                      {"factors", factors},
                      {"rate", r.rate()}});
    }
    return print_json({{"step", e.step},
                       {"line_step", e.line_step},
                       {"logged_rate", std::isfinite(e.logged_rate) ? Json(e.logged_rate) : Json(nullptr)},
                       {"rows", rows},
                       {"notes", e.notes}});
  }
  print_line(fmt::format("update {}", e.step));
  for (const train::RateOfRows& r : e.rows)
    print_line(fmt::format("{} rows {} .. {} ({}{}): {}", r.parameter, r.first, r.end - 1, name_of(r.role),
                           r.head < 0 ? "" : fmt::format(" head {}", r.head), train::rate_text(r.factors)));
  for (const std::string& note : e.notes) print_line("note: " + note);
}

}  // namespace

void add_explain_lr(CLI::App& program) {
  auto arguments = std::make_shared<ExplainRateArguments>();
  CLI::App* command =
      program.add_subcommand("explain-lr", "Say which learning rate a parameter got in an update, and why.");
  command->add_option("RUN", arguments->run, "folder of a run, such as out/demo")->required();
  command->add_option("--param", arguments->parameter, "layer1.attention.query.head0, or a parameter's name")
      ->required();
  command->add_option("--step", arguments->step, "number of the update; the last one logged unless given")
      ->check(CLI::PositiveNumber);
  command->add_flag("--json", arguments->json, "print JSON");
  command->footer("Example:\n  attune explain-lr out/demo --param encoder.layer0.attention.query.head1 --step 400");
  command->callback([arguments] { explain_lr(*arguments); });
}

}  // namespace attune::cli
