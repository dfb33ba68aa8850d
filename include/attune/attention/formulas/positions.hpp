// The plain formulas of the positions (formula.hpp).
#pragma once
#include <algorithm>
#include <array>
#include <utility>

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

/// (x1, x2) as a complex number times scale e^(i angle), for pairs (k, k + D / 2) or (2 k, 2 k + 1) of all numbers.
/// turn(at, k, D) gives the angle and the scale.
template <class Turn>
PositionFormula turned(bool interleaved, Turn turn) {
  return [=](const Token& at, auto x, auto) {
    using S = ScalarOf<decltype(x)>;
    std::vector<S> y(x.begin(), x.end());
    const std::size_t half = x.size() / 2;
    for (std::size_t k = 0; k < half; ++k) {
      const std::pair<double, double> place = turn(at, int(k), int(x.size()));
      const std::size_t a = interleaved ? 2 * k : k, b = interleaved ? a + 1 : k + half;
      const S c(place.second * std::cos(place.first)), s(place.second * std::sin(place.first));
      y[a] = x[a] * c - x[b] * s;
      y[b] = x[b] * c + x[a] * s;
    }
    return y;
  };
}

/// Positions divided by `factor`.
inline PositionFormula rotary_linear(double base, double factor) {
  return turned(false, [=](const Token& at, int k, int d) {
    return std::pair(at.position / factor / std::pow(base, 2.0 * k / d), 1.0);
  });
}
/// base s^(D / (D - 2)), s = factor; if there is an original length: factor T / length - factor + 1, at least 1.
inline PositionFormula rotary_ntk(double base, double factor, double length) {
  return turned(false, [=](const Token& at, int k, int d) {
    double s = factor;
    if (length > 0) s = at.shape->num_keys > length ? factor * at.shape->num_keys / length - factor + 1 : 1;
    return std::pair(at.position / std::pow(base * std::pow(s, d / (d - 2.0)), 2.0 * k / d), 1.0);
  });
}
/// Between pairs low and high the frequency goes from its own to 1 / factor of it.
inline PositionFormula rotary_yarn(double base, double factor, double length, double fast, double slow) {
  return turned(false, [=](const Token& at, int k, int d) {
    const auto pair_of = [&](double turns) {
      return d / 2.0 * std::log(length / turns / 6.283185307179586) / std::log(base);
    };
    const double low = std::max(std::floor(pair_of(fast)), 0.0), high = std::min(std::ceil(pair_of(slow)), d - 1.0);
    const double share = k <= low ? 0 : k >= high ? 1 : (k - low) / (high - low);
    const double frequency = std::pow(base, -2.0 * k / d) * (1 - share + share / factor);
    return std::pair(at.position * frequency, 1 + std::log(factor) / 10);
  });
}
/// Turns within the length: below slow 1 / factor of the frequency, above fast all of it, between them a straight line.
inline PositionFormula rotary_llama3(double base, double factor, double length, double fast, double slow) {
  return turned(false, [=](const Token& at, int k, int d) {
    const double frequency = std::pow(base, -2.0 * k / d), turns = length * frequency / 6.283185307179586;
    const double share = turns < slow ? 0 : turns > fast ? 1 : (turns - slow) / (fast - slow);
    return std::pair(at.position * frequency * (share + (1 - share) / factor), 1.0);
  });
}

/// Pairs k < D / 4 by the row, the others by the column, with frequencies base^(-4 k / D); tokens in front of the grid
/// stay.
inline PositionFormula rotary_2d(double base, int grid_width, int prefix, bool interleaved) {
  return turned(interleaved, [=](const Token& at, int k, int d) {
    const int patch = at.position - prefix, n = k % (d / 4);
    if (patch < 0) return std::pair(0.0, 1.0);
    const int place = k < d / 4 ? patch / grid_width : patch % grid_width;
    return std::pair(place / std::pow(base, 4.0 * n / d), 1.0);
  });
}

/// Rotary times z_k^(n / scale_base) for queries, z_k^(-n / scale_base) for keys, n positions from the middle.
inline PositionFormula xpos(double base, double scale_base, double gamma, int middle, bool interleaved) {
  return turned(interleaved, [=](const Token& at, int k, int d) {
    const double z = (2.0 * k / d + gamma) / (1 + gamma), sign = at.side == Side::query ? 1 : -1;
    return std::pair(at.position / std::pow(base, 2.0 * k / d),
                     std::pow(z, sign * (at.position - middle) / scale_base));
  });
}

/// x + (sin, cos of the column | sin, cos of the row), D / 4 of each; nothing in front of the grid.
inline PositionFormula sinusoidal_2d(double base, int grid_width, int prefix) {
  return [=](const Token& at, auto x, auto) {
    using S = ScalarOf<decltype(x)>;
    std::vector<S> y(x.begin(), x.end());
    const int patch = at.position - prefix, quarter = int(x.size()) / 4;
    for (int d = 0; patch >= 0 && d < int(x.size()); ++d) {
      const int place = d / quarter < 2 ? patch % grid_width : patch / grid_width;
      const double angle = place / std::pow(base, double(d % quarter) / quarter);
      y[std::size_t(d)] = y[std::size_t(d)] + S(d / quarter % 2 ? std::cos(angle) : std::sin(angle));
    }
    return y;
  };
}

/// x + sum over all cells of the table of kernel(row) kernel(column) cell; the cells beyond the rim are those at it.
/// size: table height and width, grid height and width.
inline PositionFormula learned_grid(std::array<int, 4> size, int prefix, bool cubic) {
  const auto kernel = [=](double x) {
    x = std::abs(x);
    if (!cubic) return std::max(0.0, 1 - x);
    if (x <= 1) return 1.25 * x * x * x - 2.25 * x * x + 1;
    return x < 2 ? -0.75 * (x * x * x - 5 * x * x + 8 * x - 4) : 0;
  };
  // How much of cell `of` goes to place `at` of `grid`.
  const auto share = [=](int at, int grid, int of, int table) {
    double sum = 0;
    for (int i = -3; i < table + 3; ++i) {
      if (std::min(table - 1, std::max(0, i)) == of) sum += kernel((at + 0.5) * table / grid - 0.5 - i);
    }
    return sum;
  };
  return [=](const Token& at, auto x, auto arrays) {
    using S = ScalarOf<decltype(x)>;
    std::vector<S> y(x.begin(), x.end());
    const auto add = [&](int row, double weight) {
      for (std::size_t d = 0; d < y.size(); ++d) y[d] = y[d] + S(weight) * arrays[0][std::size_t(row) * y.size() + d];
    };
    const int patch = at.position - prefix;
    if (patch < 0) add(at.position, 1);
    for (int cell = 0; patch >= 0 && cell < size[0] * size[1]; ++cell) {
      add(prefix + cell, share(patch / size[3], size[2], cell / size[1], size[0]) *
                             share(patch % size[3], size[3], cell % size[1], size[1]));
    }
    return y;
  };
}

}  // namespace attune::formula
