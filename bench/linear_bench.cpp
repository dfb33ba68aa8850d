// Linear attention: the rules and feature maps forward, backward and a token at a time, and lengths to 128k tokens,
// whose time and memory must grow as the length. runner.hpp says which options there are.
//
// Operations that count are those of the recurrence, 4 F Dv a token and query head (a product of the query with the
// state, an outer product), and 2 F Dv more for delta rules; backward 2.5 times as many. Products within chunks and
// the states made again are not counted, so a share of 1 is out of reach: at width 64 a forward pass multiplies one
// and a half times as much, and a backward pass one and a half times as much again.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "attune/attention/linear/linear_attend.hpp"
#include "attune/base/rng.hpp"
#include "runner.hpp"

namespace {
using namespace attune;
using bench::Ceiling;

struct Problem {
  int batch, heads, kv_heads, tokens, width;
};

/// The arrays of one call, forward and backward.
struct LinearCall {
  std::vector<std::vector<float>> memory;
  LinearAttendOptions options;
  LinearAttendInputs inputs;
  LinearAttendOutputs outputs;
  LinearAttendUpstream upstream;
  LinearAttendGradients gradients;

  LinearCall(const Problem& p, LinearAttendOptions chosen, int decay_dim, double gate, bool backward)
      : options(std::move(chosen)) {
    const int b = p.batch, t = p.tokens, extra = options.normalize ? 1 : 0;
    const Shape query{b, p.heads, t, p.width}, key{b, p.kv_heads, t, p.width}, numbers{b, p.kv_heads, t},
        gates = decay_dim == 1 ? numbers : key,
        state{b, p.kv_heads, feature_width(options.features, p.width), p.width + extra};
    const double unit = 1.7 / std::sqrt(double(p.width));  // keys of length 1, as delta rules want them
    inputs = {array(query, -1.7, 1.7), array(key, -unit, unit), array(key, -1.7, 1.7), {}, {}, array(state, 0.1, 0.2)};
    if (takes_decay(options.rule)) inputs.decay = array(gates, -2 * gate, 0);
    if (takes_beta(options.rule)) inputs.beta = array(numbers, 0, 1);
    outputs = {array(query, 0, 0), array(state, 0, 0), {}};
    if (options.normalize) outputs.normalizer = array({b, p.heads, t}, 0, 0);
    if (!backward) return;
    forward();
    upstream = {array(query, -1.7, 1.7), array(state, -1, 1), outputs.out, outputs.normalizer};
    gradients = {array(query, 0, 0), array(key, 0, 0), array(key, 0, 0), {}, {}, array(state, 0, 0)};
    if (inputs.decay) gradients.decay = array(gates, 0, 0);
    if (inputs.beta) gradients.beta = array(numbers, 0, 0);
  }
  void forward() { linear_attend_forward(inputs, outputs, options); }
  void backward() { linear_attend_backward(inputs, upstream, gradients, options); }

 private:
  std::uint64_t seed_ = 1;
  /// Uniform numbers.
  View array(const Shape& shape, double low, double high) {
    Generator generator(seed_++);
    memory.emplace_back(std::size_t(shape.size()), 0.f);
    if (low < high) {
      for (float& x : memory.back()) x = float(generator.uniform(low, high));
    }
    return View(memory.back().data(), shape);
  }
};

struct Variant {
  std::string name;
  LinearAttendOptions options;
  int decay_dim = 0;
  double gate = 0.05;  // mean of -decay
};

void add(bench::Bench& rows, const std::string& shape, const Problem& p, const Variant& v, bool backward) {
  const int features = feature_width(v.options.features, p.width);
  bench::Row row;
  row.shape = shape;
  row.extents = {p.batch, p.heads, p.kv_heads, p.tokens, p.tokens, p.width};
  row.pass = backward ? "backward" : p.tokens == 1 ? "decode" : "forward";
  row.variant = v.name;
  row.causal = v.options.causal;
  row.flops = double(p.batch) * p.tokens * features * p.width *
              (4.0 * p.heads + (takes_beta(v.options.rule) ? 2.0 * p.kv_heads : 0.0)) * (backward ? 2.5 : 1);
  if (p.tokens == 1) {  // the state is read and written once
    row.bytes = 8.0 * p.batch * p.kv_heads * features * p.width;
    row.ceiling = Ceiling::memory;
  }
  row.prepare = [p, v, backward] {
    auto call = std::make_shared<LinearCall>(p, v.options, v.decay_dim, v.gate, backward);
    return backward ? bench::Call([call] { call->backward(); }) : bench::Call([call] { call->forward(); });
  };
  rows.add(row);
}

}  // namespace

int main(int argc, char** argv) {
  using features::EluPlusOne, features::Favor, features::Relu;
  bench::Bench rows("linear_bench");
  const std::vector<Variant> variants = {
      {"plain", {}},
      {"elu", {.features = EluPlusOne{}, .normalize = true}},
      {"elu_full", {.features = EluPlusOne{}, .normalize = true, .causal = false}},
      {"relu", {.features = Relu{}, .normalize = true}},
      {"favor", {.features = Favor(64, 128, 1), .normalize = true}},
      {"gated_head", {.rule = UpdateRule::gated}, 1},
      {"gated", {.rule = UpdateRule::gated}, 64},
      {"gated_hard", {.rule = UpdateRule::gated}, 64, 1.0},
      {"delta", {.rule = UpdateRule::delta}},
      {"gated_delta", {.rule = UpdateRule::gated_delta}, 1},
      {"gated_delta_dim", {.rule = UpdateRule::gated_delta}, 64},
  };
  const Problem a{1, 8, 8, 4096, 64};
  for (const Variant& v : variants) {
    for (bool backward : {false, true}) add(rows, "L", a, v, backward);
  }
  for (const Variant& v : {variants[0], variants[9]}) {
    for (bool backward : {false, true}) add(rows, "G", {1, 8, 2, 4096, 64}, v, backward);
    add(rows, "T1", {8, 16, 16, 1, 64}, v, false);
  }
  Variant wide = variants[9];
  for (bool backward : {false, true}) add(rows, "W", {1, 4, 4, 4096, 128}, wide, backward);
  for (int thousands : {2, 8, 32, 128}) {
    for (bool backward : {false, true}) {
      add(rows, "N" + std::to_string(thousands) + "k", {1, 1, 1, thousands * 1024, 64}, variants[1], backward);
      add(rows, "N" + std::to_string(thousands) + "k", {1, 1, 1, thousands * 1024, 64}, variants[9], backward);
    }
  }
  return rows.run(argc, argv);
}
