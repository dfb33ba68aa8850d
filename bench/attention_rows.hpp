// Rows that time attend_forward and attend_backward: shapes that public benchmarks use, arrays of numbers of size 1,
// and the count of operations, 2 (D + Dv) a visible pair and head, 2.5 times that backward (five products instead of
// two).
#pragma once
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "attune/attention/attention.hpp"
#include "attune/base/rng.hpp"
#include "rows.hpp"

namespace attune::bench {

/// Name, B, H, Hkv, Tq, Tk, D = Dv.
struct Problem {
  std::string name;
  int batch, heads, kv_heads, queries, keys, width;

  AttendShape shape() const { return {batch, heads, kv_heads, queries, keys, width, width, width}; }
  double pairs() const { return double(batch) * heads * queries * keys; }
};
/// F is decoding: one query that reads all keys and values.
inline const Problem kProblems[] = {{"A", 1, 8, 8, 1024, 1024, 64}, {"B", 4, 12, 12, 512, 512, 64},
                                    {"C", 1, 8, 8, 4096, 4096, 64}, {"D", 1, 8, 8, 2048, 2048, 128},
                                    {"E", 32, 8, 8, 128, 128, 32},  {"F", 1, 32, 8, 1, 8192, 128}};
/// The problem of that letter.
inline const Problem& problem(char name) { return kProblems[name - 'A']; }

/// The arrays of one call, forward and backward.
struct AttentionCall {
  std::vector<std::vector<std::byte>> memory;
  AttendOptions options;
  AttendInputs inputs;
  AttendOutputs outputs;
  AttendUpstream upstream;
  AttendGradients gradients;

  /// A backward call needs gradients and what a forward call wrote: `backward` makes both.
  AttentionCall(const Problem& p, DType dtype, AttendOptions chosen, bool backward) : options(std::move(chosen)) {
    const Shape rows{p.batch, p.heads, p.queries, p.width}, keys{p.batch, p.kv_heads, p.keys, p.width},
        numbers{p.batch, p.heads, p.queries};
    const DType wide = dtype == DType::float64 ? DType::float64 : DType::float32;
    inputs = {array(dtype, rows, 1.7), array(dtype, keys, 1.7), array(dtype, keys, 1.7), {}};
    outputs.out = array(dtype, rows, 0);
    outputs.lse = array(wide, numbers, 0);
    for (const AttendParameter& parameter : attend_parameters(options, p.shape())) {
      inputs.parameters.push_back(array(wide, parameter.shape, 0.2, centre_of(parameter.start)));
      if (backward) gradients.parameters.push_back(array(wide, parameter.shape, 0));
    }
    if (!backward) return;
    upstream = {.out = outputs.out, .lse = outputs.lse, .dout = array(dtype, rows, 1.7)};
    gradients.query = array(wide, rows, 0);
    gradients.key = array(wide, keys, 0);
    gradients.value = array(wide, keys, 0);
    forward();
  }
  void forward() { attend_forward(inputs, outputs, options); }
  void backward() { attend_backward(inputs, upstream, gradients, options); }

 private:
  static constexpr std::size_t kLine = 64;  // bytes: arrays begin at a line of the cache, as those of tensors do
  std::uint64_t seed_ = 1;
  /// Rates, widths and temperatures begin above 0 and stay there; other learned numbers lie around 0.
  static double centre_of(const Start& start) {
    return std::ranges::any_of(start.numbers, [](double n) { return n > 0; }) ? 0.6 : 0;
  }
  /// Uniform numbers from centre - size to centre + size.
  View array(DType dtype, const Shape& shape, double size, double centre = 0) {
    std::vector<float> numbers(std::size_t(shape.size()), 0.f);
    Generator generator(seed_++);
    if (size > 0) {
      for (float& x : numbers) x = float(generator.uniform(centre - size, centre + size));
    }
    memory.emplace_back(numbers.size() * size_of(dtype) + kLine);
    void* first = memory.back().data();
    std::size_t room = memory.back().size();
    std::align(kLine, room - kLine, first, room);
    convert(DType::float32, numbers.data(), dtype, first, shape.size());
    return View(first, dtype, shape);
  }
};

/// What a row of attention is, beside its problem and its options.
struct AttentionRow {
  std::string variant = "plain";
  bool backward = false, causal = false;  // causal: options.mask says so too
  DType dtype = DType::float32;
  double visible = 0;  // share of the pairs that count; 0: all, or half of them where causal
  double visited = 0;  // share of those that tiles hold; 0: not said
  Ceiling ceiling = Ceiling::fma_f32;
  int most_threads = 1 << 20;
};

inline Row attention_row(const Problem& p, AttendOptions options, const AttentionRow& what) {
  const double visible = what.visible > 0 ? what.visible : what.causal ? 0.5 : 1;
  Row row;
  row.shape = p.name;
  row.extents = {p.batch, p.heads, p.kv_heads, p.queries, p.keys, p.width};
  row.pass = what.backward ? "backward" : p.queries == 1 ? "decode" : "forward";
  row.variant = what.variant;
  row.causal = what.causal;
  row.dtype = std::string(name_of(what.dtype));
  row.flops = 4 * p.pairs() * visible * p.width * (what.backward ? 2.5 : 1);
  row.visited = what.visited;
  row.bytes = 2.0 * p.batch * p.kv_heads * p.keys * p.width * double(size_of(what.dtype));
  row.ceiling = what.ceiling;
  row.most_threads = what.most_threads;
  row.prepare = [p, options, what] {
    auto call = std::make_shared<AttentionCall>(p, what.dtype, options, what.backward);
    return what.backward ? Call([call] { call->backward(); }) : Call([call] { call->forward(); });
  };
  return row;
}

}  // namespace attune::bench
