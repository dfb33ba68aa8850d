// The plain formulas of the positions (formula.hpp).
#pragma once
#include "attune/attention/formula.hpp"

namespace attune::formula {

/// x + (sin, cos, sin, cos, ...) of position / base^(2k / D).
inline PositionFormula sinusoidal(double base) {
  return [=](const Token& at, auto x, auto) {
    using S = ScalarOf<decltype(x)>;
    std::vector<S> y(x.begin(), x.end());
    for (std::size_t d = 0; d < y.size(); ++d) {
      const double angle = at.position / std::pow(base, double(d / 2 * 2) / double(y.size()));
      y[d] = y[d] + S(d % 2 ? std::cos(angle) : std::sin(angle));
    }
    return y;
  };
}

/// x + table[position].
inline PositionFormula learned() {
  return [](const Token& at, auto x, auto arrays) {
    using S = ScalarOf<decltype(x)>;
    std::vector<S> y(x.begin(), x.end());
    for (std::size_t d = 0; d < y.size(); ++d) y[d] = y[d] + arrays[0][std::size_t(at.position) * y.size() + d];
    return y;
  };
}

/// (x1 c - x2 s, x1 s + x2 c) for pairs of the first `dim` numbers; 0: all.
inline PositionFormula rotary(double base, int dim, bool interleaved) {
  return [=](const Token& at, auto x, auto) {
    using S = ScalarOf<decltype(x)>;
    std::vector<S> y(x.begin(), x.end());
    const int turned = dim ? dim : int(x.size());
    for (int k = 0; k < turned / 2; ++k) {
      const double angle = at.position / std::pow(base, 2.0 * k / turned);
      const std::size_t a = std::size_t(interleaved ? 2 * k : k);
      const std::size_t b = std::size_t(interleaved ? 2 * k + 1 : k + turned / 2);
      y[a] = x[a] * S(std::cos(angle)) - x[b] * S(std::sin(angle));
      y[b] = x[a] * S(std::sin(angle)) + x[b] * S(std::cos(angle));
    }
    return y;
  };
}

}  // namespace attune::formula
