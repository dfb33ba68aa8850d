// What each stage costs over the plain path: every kind of bias, score, normalizer, mask and dropout alone, forward and
// backward, beside the plain row of the same shape in the same run. runner.hpp says which options there are; the column
// "x plain" is the figure that counts. Windows see a quarter of the pairs, so their column is read against that, and
// their share against plain's.
#include "attention_rows.hpp"
#include "runner.hpp"

namespace {
using namespace attune;
using bench::Ceiling;
using bench::Problem;

void add(bench::Bench& rows, const Problem& p, const std::string& variant, const AttendOptions& options,
         double visible = 0, Ceiling ceiling = Ceiling::fma_f32) {
  for (bool backward : {false, true}) {
    rows.add(
        attention_row(p, options, {.variant = variant, .backward = backward, .visible = visible, .ceiling = ceiling}));
  }
}

/// Asks for statistics beside the output: forward only.
void add_statistics(bench::Bench& rows, const Problem& p) {
  bench::Row row = attention_row(p, {}, {.variant = "statistics"});
  row.prepare = [p] {
    auto call = std::make_shared<bench::AttentionCall>(p, DType::float32, AttendOptions{}, false);
    auto found = std::make_shared<Statistics>();
    call->outputs.statistics = found.get();
    return bench::Call([call, found] { call->forward(); });
  };
  rows.add(row);
}

void add_shape(bench::Bench& rows, const Problem& p) {
  add(rows, p, "plain", {});
  // A stage that changes nothing: what leaving the plain path costs by itself.
  add(rows, p, "walk", {.bias = SoftCap{.cap = 0}});
  add(rows, p, "alibi", {.bias = Alibi{}});
  add(rows, p, "soft_cap", {.bias = SoftCap{.cap = 30}});
  add(rows, p, "affine",
      {.bias = pointwise([](auto logit, auto at) { return logit * 1.5f - 0.01f * float(at.query - at.key); })});
  add(rows, p, "dense_bias", {.bias = Dense{}});
  add(rows, p, "sink", {.normalizer = SoftmaxWithSink{}});
  add(rows, p, "sigmoid", {.normalizer = Sigmoid{}});
  const double tokens = p.queries, width = tokens / 4;
  add(rows, p, "window", {.mask = Causal{} & Window{.left = int(width) - 1}},
      (width * tokens - width * (width - 1) / 2) / tokens / tokens);
  add(rows, p, "dropout", {.dropout_p = 0.1, .seed = 1});
  add(rows, p, "alibi_dropout", {.bias = Alibi{}, .dropout_p = 0.1, .seed = 1});
  add_statistics(rows, p);
}
}  // namespace

int main(int argc, char** argv) {
  bench::Bench rows("stages_bench");
  for (char name : {'A', 'D'}) add_shape(rows, bench::problem(name));
  add(rows, bench::problem('A'), "additive", {.score = Additive{.hidden_dim = 64}}, 0, Ceiling::none);
  return rows.run(argc, argv);
}
