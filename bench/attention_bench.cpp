// How fast attention is, as a share of what this machine can do: attend_forward and attend_backward on the shapes that
// public benchmarks use, full and causal, and in every variant that other libraries have. runner.hpp says which options
// there are. GFLOP/s count what has to be done, not what is done: half of all pairs where causal, the visible ones in a
// window. F is decoding, bound by reading keys and values: its share is of the rate at which memory is read.
//
// The rows 1k .. 16k are one head of that many tokens: their time per token pair must not grow.
#include "attention_rows.hpp"
#include "runner.hpp"

namespace {
using namespace attune;
using bench::AttentionRow;
using bench::Ceiling;
using bench::Problem;

void add_both(bench::Bench& rows, const Problem& p, const AttendOptions& options, AttentionRow what) {
  for (bool backward : {false, true}) {
    what.backward = backward;
    rows.add(attention_row(p, options, what));
  }
}

void add_plain(bench::Bench& rows) {
  for (char name : {'A', 'B', 'C', 'D', 'E'}) {
    add_both(rows, bench::problem(name), {}, {});
    add_both(rows, bench::problem(name), {.mask = Causal{}}, {.causal = true});
  }
}

/// Several threads cut all of these as they cut plain attention: what differs in kind is measured with them too.
void add_variants(bench::Bench& rows) {
  const Problem& a = bench::problem('A');
  Problem grouped = a;
  grouped.kv_heads = 2;
  const double width = 256, tokens = a.queries;  // query i sees its last 256 keys
  const double seen = (width * tokens - width * (width - 1) / 2) / tokens / tokens;
  add_both(rows, a, {.mask = Causal{} & Window{.left = 255}},
           {.variant = "window", .causal = true, .visible = seen, .most_threads = 1});
  add_both(rows, grouped, {}, {.variant = "grouped", .most_threads = 1});
  add_both(rows, a, {.dropout_p = 0.1, .seed = 1}, {.variant = "dropout"});
  add_both(rows, a, {.bias = Dense{}}, {.variant = "dense_bias"});
  add_both(rows, a, {.bias = Alibi{}}, {.variant = "alibi"});
  add_both(rows, a, {.bias = Alibi{}, .mask = Causal{}}, {.variant = "alibi", .causal = true, .most_threads = 1});
  for (char name : {'A', 'D'}) {
    add_both(rows, bench::problem(name), {.bias = SoftCap{.cap = 30}}, {.variant = "soft_cap", .most_threads = 1});
  }
  add_both(rows, a, {.normalizer = SoftmaxWithSink{}}, {.variant = "sink", .most_threads = 1});
  add_both(rows, a, {.score = Additive{.hidden_dim = 64}}, {.variant = "additive", .ceiling = Ceiling::none});
}

void add_types(bench::Bench& rows) {
  const bool has_bf16 = cpu_uses_bf16();
  for (char name : {'A', 'D', 'E'}) {
    add_both(rows, bench::problem(name), {},
             {.dtype = DType::bfloat16, .ceiling = has_bf16 ? Ceiling::fma_bf16 : Ceiling::fma_f32});
  }
  add_both(rows, bench::problem('A'), {}, {.dtype = DType::float16, .most_threads = 1});
  add_both(rows, bench::problem('A'), {}, {.dtype = DType::float64, .ceiling = Ceiling::fma_f64, .most_threads = 1});
}

void add_decoding(bench::Bench& rows) {
  for (DType dtype : {DType::float32, DType::bfloat16}) {
    rows.add(attention_row(bench::problem('F'), {}, {.dtype = dtype, .ceiling = Ceiling::memory}));
  }
}

/// One head of 1k to 16k tokens; on one thread, where nothing but the work itself can grow. At 4k tokens also what
/// other libraries need all logits for: tools/bench.py asks how much memory each takes.
void add_growth(bench::Bench& rows) {
  const auto add = [&](int k, const AttendOptions& options, const char* variant) {
    const Problem p{std::to_string(k) + "k", 1, 1, 1, k * 1024, k * 1024, 64};
    for (bool backward : {false, true}) {
      rows.add(attention_row(p, options, {.variant = variant, .backward = backward, .most_threads = 1}));
    }
  };
  for (int k : {1, 2, 4, 8, 16}) add(k, {}, "growth");
  add(4, {.dropout_p = 0.1, .seed = 1}, "dropout");
  add(4, {.bias = SoftCap{.cap = 30}}, "soft_cap");
  add(4, {.normalizer = SoftmaxWithSink{}}, "sink");
}
}  // namespace

int main(int argc, char** argv) {
  bench::Bench rows("attention_bench");
  add_plain(rows);
  add_variants(rows);
  add_types(rows);
  add_decoding(rows);
  add_growth(rows);
  return rows.run(argc, argv);
}
