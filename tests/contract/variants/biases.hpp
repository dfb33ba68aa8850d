// The biases of the contract tests and chains of them, each beside its formula.
#pragma once
#include "attune/attention/bias/all.hpp"
#include "attune/attention/formulas/biases.hpp"
#include "attune/attention/pointwise.hpp"
#include "contract/variant.hpp"

namespace attune::contract {

/// The pointwise bias of the tests: the logit and a soft step of it, weaker with distance, steeper with the head.
template <class S>
S own_bias(S x, int batch, int head, int position, int key) {
  using std::tanh;
  const double far = 1.0 / (1.0 + std::abs(position - key));
  return x + S(0.3 * far) * tanh(S(0.5 + 0.25 * head) * x) - S(0.1 * batch);
}
inline double own_bias_slope(double x, int, int head, int position, int key) {
  const double far = 1.0 / (1.0 + std::abs(position - key)), rate = 0.5 + 0.25 * head, c = std::cosh(rate * x);
  return 1.0 + 0.3 * far * rate / (c * c);
}

namespace detail {
inline void add_alibi(Scenario& s, bool learned) {
  s.options.bias.push_back(Alibi{.learned = learned});
  s.plain.bias.push_back(formula::alibi(learned));
  s.ranges["slope"] = {0.2, 0.9};
  s.reference.bias.push_back({.kind = learned ? kernels::ReferenceBias::learned_alibi : kernels::ReferenceBias::alibi});
}
inline void add_cap(Scenario& s, double cap) {
  s.options.bias.push_back(SoftCap{.cap = cap});
  s.plain.bias.push_back(formula::soft_cap(cap));
  s.reference.bias.push_back({.kind = kernels::ReferenceBias::soft_cap, .cap = cap});
}
inline void add_dense(Scenario& s, Per per, bool broadcast_queries = false) {
  s.options.bias.push_back(Dense{.per = per, .broadcast_queries = broadcast_queries});
  s.plain.bias.push_back(formula::dense(per, broadcast_queries));
  s.reference.bias.push_back({.kind = kernels::ReferenceBias::dense,
                              .per_batch = per == Per::batch || per == Per::batch_head,
                              .per_head = per == Per::head || per == Per::batch_head,
                              .per_query = !broadcast_queries});
}
inline void add_own(Scenario& s) {
  s.options.bias.push_back(
      pointwise([](auto x, PairIndex at) { return own_bias(x, at.batch, at.head, at.query, at.key); }));
  s.plain.bias.push_back(
      [](const formula::Pair& at, auto x, auto) { return own_bias(x, at.batch, at.head, at.position(), at.key); });
  s.reference.bias.push_back({.kind = kernels::ReferenceBias::pointwise,
                              .value = [](double x, int b, int h, int q, int k) { return own_bias(x, b, h, q, k); },
                              .derivative = own_bias_slope});
}
}  // namespace detail

inline const Variants& biases() {
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
      {"soft_cap+alibi", [](Scenario& s) { add_cap(s, 2), add_alibi(s, false); }},
      {"pointwise+soft_cap+dense", [](Scenario& s) { add_own(s), add_cap(s, 3), add_dense(s, Per::head, true); }},
      {"alibi+dense+soft_cap", [](Scenario& s) { add_alibi(s, true), add_dense(s, Per::call), add_cap(s, 2.5); }}};
  return all;
}

}  // namespace attune::contract
