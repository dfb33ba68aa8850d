// What each mechanism costs over the plain path: every one that a name and options are enough for, alone, at shapes A
// and D, forward and backward, beside the plain row of the same shape in the same run. runner.hpp says which options
// there are; the column "x plain" is the figure that counts. Masks are read against the share of the pairs that they
// show: their operations are counted, so their share of the peak stands beside plain's; the JSON also says the share of
// the pairs that their tiles hold.
//
// Options are those of the table, fitted to the shape; masks that would then show everything, or next to nothing, get
// some that a user would choose.
#include "attune/attention/mechanisms.hpp"

#include <algorithm>
#include <numeric>

#include "attention/mask_cut.hpp"
#include "attention_rows.hpp"
#include "runner.hpp"

namespace {
using namespace attune;
using bench::Ceiling;
using bench::Problem;

/// Shares of the pairs of one head; 0: all, or not said.
struct Pairs {
  double shown = 0, visited = 0;
};

void add(bench::Bench& rows, const Problem& p, const std::string& variant, const AttendOptions& options,
         Pairs pairs = {}, Ceiling ceiling = Ceiling::fma_f32) {
  for (bool backward : {false, true}) {
    rows.add(attention_row(p, options,
                           {.variant = variant,
                            .backward = backward,
                            .visible = pairs.shown,
                            .visited = pairs.visited,
                            .ceiling = ceiling}));
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

/// What a mask shows of one head, and what the plain path multiplies for it: strips of 16 queries against the keys that
/// one of them sees.
Pairs pairs_of(const AnyMask& mask, AttendShape shape) {
  std::vector<int> counts(std::size_t(shape.num_queries), 0);
  engine::count_visible(*mask.get(), shape, 0, 0, 0, counts.data());
  const double all = double(shape.num_queries) * shape.num_keys;
  Pairs pairs{std::accumulate(counts.begin(), counts.end(), 0.0) / all, 0};
  // A dilated mask is a window over each of its residue classes.
  AnyMask cut_mask = mask;
  double classes = 1;
  if (const auto* dilated = mask.as<Dilated>()) {
    classes = dilated->dilation;
    shape.num_queries /= dilated->dilation, shape.num_keys /= dilated->dilation;
    cut_mask = Window{dilated->left, dilated->right};
  }
  engine::MaskCut cut;
  for (int q = 0; q < shape.num_queries; q += kLanes) {
    const int queries = std::min(kLanes, shape.num_queries - q);
    cut.bind(*cut_mask.get(), shape, 0, 0, q, 0);
    for (const auto& piece : cut.pieces(0, 0, queries, 0, shape.num_keys, shape.num_keys))
      pairs.visited += classes / all * piece.keys * (std::min(piece.end, queries) - piece.first);
  }
  return pairs;
}

/// What a user would choose for masks whose options say nothing at first, T tokens.
OptionValues mask_options(const std::string& name, double tokens) {
  if (name == "window") return {{"left", tokens / 4 - 1}, {"right", 0.0}};
  if (name == "dilated") return {{"left", tokens / 2}, {"right", 0.0}, {"dilation", 2.0}};
  if (name == "prefix_lm") return {{"prefix", std::vector<double>{tokens / 4}}};
  if (name == "longformer") return {{"half_window", tokens / 16}, {"global_tokens", std::vector<double>{0}}};
  if (name == "local_m") return {{"half_width", tokens / 16}};
  return {};
}

/// Work for every pair that grows with a hidden width: seconds at shape D, and no multiply-add peak to be read against.
bool hidden_a_pair(const Mechanism& m) {
  return m.kind == "score" && (m.name == "additive" || m.name == "concat" || m.name == "mlp");
}

AttendOptions options_of(const Mechanism& m, const AttendShape& shape) {
  AttendOptions o;
  if (m.kind == "position") o.position = position_named(m.name, {}, shape);
  if (m.kind == "score") o.score = score_named(m.name, {}, shape);
  if (m.kind == "bias") o.bias = bias_named(m.name, {}, shape);
  if (m.kind == "mask") o.mask = mask_named(m.name, mask_options(m.name, shape.num_queries), shape);
  if (m.kind == "normalizer") o.normalizer = normalizer_named(m.name, {}, shape);
  return o;
}

/// The name of its rows: a mechanism's own, with its kind where two kinds share it or an older row has another.
std::string variant_of(const Mechanism& m, const std::vector<Mechanism>& all) {
  if (m.kind == "bias" && m.name == "dense") return "dense_bias";
  if (m.name == "softmax_with_sink") return "sink";
  const auto same =
      std::count_if(all.begin(), all.end(), [&](const Mechanism& o) { return o.by_name && o.name == m.name; });
  return same > 1 ? m.name + "_" + m.kind : m.name;
}

void add_shape(bench::Bench& rows, const Problem& p, const std::vector<Mechanism>& all) {
  add(rows, p, "plain", {});
  // A stage that changes nothing: what leaving the plain path costs by itself.
  add(rows, p, "walk", {.bias = SoftCap{.cap = 0}});
  for (const Mechanism& m : all) {
    if (!m.by_name || m.name == ScaledDot::name || m.name == Softmax::name) continue;
    if (hidden_a_pair(m) && p.name != "A") continue;
    const AttendShape shape = p.shape();
    const AttendOptions options = options_of(m, shape);
    add(rows, p, variant_of(m, all), options, options.mask ? pairs_of(options.mask, shape) : Pairs{},
        hidden_a_pair(m) ? Ceiling::none : Ceiling::fma_f32);
  }
  add(rows, p, "affine",
      {.bias = pointwise([](auto logit, auto at) { return logit * 1.5f - 0.01f * float(at.query - at.key); })});
  add(rows, p, "dropout", {.dropout_p = 0.1, .seed = 1});
  add(rows, p, "alibi_dropout", {.bias = Alibi{}, .dropout_p = 0.1, .seed = 1});
  add_statistics(rows, p);
}
}  // namespace

int main(int argc, char** argv) {
  bench::Bench rows("stages_bench");
  const std::vector<Mechanism> all = mechanisms();
  for (char name : {'A', 'D'}) add_shape(rows, bench::problem(name), all);
  return rows.run(argc, argv);
}
