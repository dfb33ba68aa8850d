// The biases of the contract tests and chains of them, each beside its formula.
#include "attune/attention/formulas/biases.hpp"
#include "attune/attention/bias/all.hpp"
#include "attune/attention/pointwise.hpp"
#include "contract/scenario.hpp"
#include "contract/variants/biases.hpp"

namespace attune::contract {

/// The pointwise bias of the tests: the logit and a soft step of it, weaker with distance, steeper with the head.
template <class S>
S own_bias(S x, int batch, int head, int position, int key) {
  using std::tanh;
  const double far = 1.0 / (1.0 + std::abs(position - key));
  return x + S(0.3 * far) * tanh(S(0.5 + 0.25 * head) * x) - S(0.1 * batch);
}
double own_bias_slope(double x, int, int head, int position, int key) {
  const double far = 1.0 / (1.0 + std::abs(position - key)), rate = 0.5 + 0.25 * head, c = std::cosh(rate * x);
  return 1.0 + 0.3 * far * rate / (c * c);
}

namespace detail {
void add_alibi(Scenario& s, bool learned) {
  s.options.bias.push_back(Alibi{.learned = learned});
  s.plain.bias.push_back(formula::alibi(learned));
  s.ranges["slope"] = {0.2, 0.9};
  s.reference.bias.push_back({.kind = learned ? kernels::ReferenceBias::learned_alibi : kernels::ReferenceBias::alibi});
}
void add_cap(Scenario& s, double cap) {
  s.options.bias.push_back(SoftCap{.cap = cap});
  s.plain.bias.push_back(formula::soft_cap(cap));
  s.reference.bias.push_back({.kind = kernels::ReferenceBias::soft_cap, .cap = cap});
}
void add_dense(Scenario& s, Per per, bool broadcast_queries) {
  s.options.bias.push_back(Dense{.per = per, .broadcast_queries = broadcast_queries});
  s.plain.bias.push_back(formula::dense(per, broadcast_queries));
  s.reference.bias.push_back({.kind = kernels::ReferenceBias::dense,
                              .per_batch = per == Per::batch || per == Per::batch_head,
                              .per_head = per == Per::head || per == Per::batch_head,
                              .per_query = !broadcast_queries});
}
void add_own(Scenario& s) {
  s.options.bias.push_back(
      pointwise([](auto x, PairIndex at) { return own_bias(x, at.batch, at.head, at.query, at.key); }));
  s.plain.bias.push_back(
      [](const formula::Pair& at, auto x, auto) { return own_bias(x, at.batch, at.head, at.position(), at.key); });
  s.reference.bias.push_back({.kind = kernels::ReferenceBias::pointwise,
                              .value = [](double x, int b, int h, int q, int k) { return own_bias(x, b, h, q, k); },
                              .derivative = own_bias_slope});
}
/// The pointwise bias of the tests with learned numbers: one a head, one for all, one a batch entry and head.
template <class S, class Numbers>
S learned_bias(S x, int position, int key, const Numbers& p) {
  using std::tanh;
  return x - p[0] * S(0.3 * std::abs(position - key)) + p[1] * tanh(p[0] * x) + p[2] * p[2];
}
void add_learned_own(Scenario& s) {
  s.options.bias.push_back(
      pointwise([](auto x, PairIndex at, const auto& p) { return learned_bias(x, at.query, at.key, p); },
                {{"slope", Per::head}, {"step", Per::call}, {"lift", Per::batch_head}}));
  s.plain.bias.push_back([](const formula::Pair& at, auto x, auto arrays) {
    using S = decltype(x);
    const std::size_t head = std::size_t(at.head), heads = std::size_t(at.shape->num_heads);
    const S p[3] = {arrays[0][head], arrays[1][0], arrays[2][std::size_t(at.batch) * heads + head]};
    return learned_bias(x, at.position(), at.key, p);
  });
  s.ranges["slope"] = {0.2, 0.9};
  s.has_oracle = false;
}
/// A stage that has a plain formula alone.
void add_bias(Scenario& s, AnyBias stage, formula::BiasFormula plain) {
  s.options.bias.push_back(std::move(stage));
  s.plain.bias.push_back(std::move(plain));
  s.has_oracle = false;
}
void add_buckets(Scenario& s, int buckets, int max_distance, bool causal) {
  add_bias(s, RelativeBuckets{.num_buckets = buckets, .max_distance = max_distance, .causal = causal},
           formula::relative_buckets(buckets, max_distance, causal));
}
void add_kerple(Scenario& s, KerpleKernel kernel) {
  add_bias(s, Kerple{.kernel = kernel}, formula::kerple(kernel));
  s.ranges["rate"] = s.ranges["power"] = {0.2, 0.9};
}
/// A threshold between two positions: crossing one is a kink.
void add_fire(Scenario& s) {
  add_bias(s, Fire{.hidden_dim = 3, .length = 10, .activation = FireActivation::tanh},
           formula::fire(3, 10, FireActivation::tanh));
  s.ranges["rate"] = {0.2, 0.9};
  s.ranges["threshold"] = {0.53, 0.57};
}
void add_temperature(Scenario& s, double fixed, bool learned) {
  add_bias(s, Temperature{.temperature = fixed, .learned = learned}, formula::temperature(fixed, learned));
  s.ranges["temperature"] = {0.3, 0.9};
}
void add_log_n(Scenario& s, LengthOf length, double fixed, bool learned) {
  add_bias(s, LogLength{.length = length, .scale = fixed, .learned = learned}, formula::log_n(length, fixed, learned));
}
void add_gumbel(Scenario& s, double temperature, int seed) {
  add_bias(s, GumbelNoise{.temperature = temperature, .seed = seed}, formula::gumbel(temperature, seed));
}
}  // namespace detail

const Variants& biases() {
  using namespace detail;
  static const Variants all = {
      {"none", [](Scenario&) {}},
      {"alibi", [](Scenario& s) { add_alibi(s, false); }},
      {"alibi", [](Scenario& s) { add_alibi(s, true); }},
      {"soft_cap", [](Scenario& s) { add_cap(s, 1.5); }},
      {"dense", [](Scenario& s) { add_dense(s, Per::head); }},
      {"dense", [](Scenario& s) { add_dense(s, Per::call); }},
      {"dense", [](Scenario& s) { add_dense(s, Per::batch, true); }},
      {"dense", [](Scenario& s) { add_dense(s, Per::batch_head); }},
      {"pointwise", [](Scenario& s) { add_own(s); }},
      {"pointwise", [](Scenario& s) { add_learned_own(s); }},
      {"soft_cap+alibi", [](Scenario& s) { add_cap(s, 2), add_alibi(s, false); }},
      {"pointwise+soft_cap+dense", [](Scenario& s) { add_own(s), add_cap(s, 3), add_dense(s, Per::head, true); }},
      {"alibi+dense+soft_cap", [](Scenario& s) { add_alibi(s, true), add_dense(s, Per::call), add_cap(s, 2.5); }},
      {"relative_buckets", [](Scenario& s) { add_buckets(s, 8, 7, false); }},
      {"log_n+relative_buckets",
       [](Scenario& s) { add_log_n(s, LengthOf::position, 1, true), add_buckets(s, 5, 8, true); }},
      {"kerple", [](Scenario& s) { add_kerple(s, KerpleKernel::log); }},
      {"gumbel+kerple", [](Scenario& s) { add_gumbel(s, 0.8, 7), add_kerple(s, KerpleKernel::power); }},
      {"fire", [](Scenario& s) { add_fire(s); }},
      {"temperature+gumbel", [](Scenario& s) { add_temperature(s, 1, true), add_gumbel(s, 1, -3); }},
      {"temperature+log_n",
       [](Scenario& s) { add_temperature(s, 1.5, false), add_log_n(s, LengthOf::keys, 0.4, false); }}};
  return all;
}

}  // namespace attune::contract
