// The plain formulas of the scores (formula.hpp).
#pragma once
#include <optional>

#include "attune/attention/formula.hpp"

namespace attune::formula {

/// scale query . key; scale 1 / sqrt(D) if none is given.
inline ScoreFormula scaled_dot(std::optional<double> scale = {}) {
  return [=](const Pair& at, auto q, auto k, auto) {
    using S = ScalarOf<decltype(q)>;
    S z(0.0);
    for (std::size_t d = 0; d < q.size(); ++d) z += q[d] * k[d];
    return z * S(scale ? *scale : 1.0 / std::sqrt(double(at.shape->key_dim)));
  };
}

/// v^T tanh(W_q q + W_k k), arrays W_q [H, F, D], W_k [Hkv, F, E], v [H, F].
inline ScoreFormula additive(int hidden_dim) {
  return [=](const Pair& at, auto q, auto k, auto arrays) {
    using S = ScalarOf<decltype(q)>;
    S z(0.0);
    for (int e = 0; e < hidden_dim; ++e) {
      const std::size_t row = std::size_t(at.head * hidden_dim + e), kv_row = std::size_t(at.kv_head * hidden_dim + e);
      S u(0.0);
      for (std::size_t d = 0; d < q.size(); ++d) u += arrays[0][row * q.size() + d] * q[d];
      for (std::size_t d = 0; d < k.size(); ++d) u += arrays[1][kv_row * k.size() + d] * k[d];
      z += arrays[2][row] * tanh(u);
    }
    return z;
  };
}

}  // namespace attune::formula
