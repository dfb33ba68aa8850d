// The contract test of a stage: which combinations, and the verdict. Figures are in check_figures.cpp.
#include "attune/attention/check_stage.hpp"

#include <fmt/format.h>

#include "attention/check_parts.hpp"
#include "attune/base/error.hpp"

namespace attune {

static void check_formulas(const AttendOptions& options, const PlainStages& plain) {
  const auto expect_formula = [](bool has, std::string_view kind, std::string_view name) {
    if (!has) fail("check_stage", fmt::format("a plain formula of the {} {}", kind, name), "none");
  };
  expect_formula(plain.position || !options.position, "position", options.position.name());
  expect_formula(plain.score || options.score.as<ScaledDot>(), "score", options.score.name());
  expect_formula(plain.mask || options.mask.get() == nullptr, "mask", options.mask.name());
  expect_formula(plain.normalizer || options.normalizer.as<Softmax>(), "normalizer", options.normalizer.name());
  if (plain.bias.size() != options.bias.size())
    fail("check_stage", fmt::format("{} plain formulas of biases", options.bias.size()),
         fmt::format("got {}", plain.bias.size()));
}

StageReport check_stage(const AttendOptions& options, const PlainStages& plain, const StageCheck& check) {
  using namespace checking;
  constexpr const char* kAround[] = {"as given", "causal, soft cap", "sink, dropout"};
  check_formulas(options, plain);
  StageReport report;
  Generator random(check.seed);
  for (const AttendShape& shape : check.shapes.empty() ? toy_shapes() : check.shapes) {
    if (options.mask) check_mask(report, options.mask, plain, shape);
    const bool large = shape.num_queries * shape.num_keys > 1000;  // for the engine's own tiles: what needs them alone
    for (const Around around : {Around::nothing, Around::causal_and_cap, Around::sink_and_dropout}) {
      if (large && around != Around::causal_and_cap) continue;
      const ToyCall c = make_toy(options, plain, check, shape, around, random);
      Judge judge(report, fmt::format("{}, {} x {} tokens, {} heads", kAround[std::size_t(around)], shape.num_queries,
                                      shape.num_keys, shape.num_heads));
      const ToyResult<double> run = check_values(judge, c);
      check_hidden(judge, c, run);
      check_threads(judge, c);
      if (!large) check_derivatives(judge, c, check.kinks, run, random);
      ++report.combinations;
    }
  }
  return report;
}

std::string StageReport::text() const {
  std::string t = fmt::format(
      "{} combinations, {}; worst: forward {:.1e} backward {:.1e} float32 {:.1e} {:.1e} adjoint {:.1e} duals {:.1e} "
      "Hessian {:.1e} Taylor {:.3f}",
      combinations, failed.empty() ? "exact" : fmt::format("{} failures", failed.size()), forward, backward,
      forward_float32, backward_float32, adjoint, duals, hessian, taylor);
  for (const std::string& f : failed) t += "\n  " + f;
  return t;
}

void StageReport::expect_exact() const {
  if (!failed.empty())
    fail("check_stage", "a stage that is exact", fmt::format("{} failures, the first: {}", failed.size(), failed[0]));
}

}  // namespace attune
