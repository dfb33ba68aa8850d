// Tokens of an image: `prefix_tokens` that stand nowhere (a class token), then a grid of patches row by row, `width` in
// each. What the positions of two dimensions share.
#pragma once
#include <algorithm>
#include <cmath>

#include "attune/attention/position/turn.hpp"

namespace attune::detail {

/// Calls f(first, tokens, row, column) for each run of neighbours in one row of the grid, of n tokens from `position`
/// on. Tokens in front of the grid are a run of row -1.
template <class F>
void each_grid_run(int position, int n, int width, int prefix_tokens, F f) {
  for (int r = 0, run = 0; r < n; r += run) {
    const int at = position + r - prefix_tokens;
    if (at < 0) {
      run = std::min(n - r, -at);
      f(r, run, -1, 0);
    } else {
      run = std::min(n - r, width - at % width);
      f(r, run, at / width, at % width);
    }
  }
}

/// Calls f(r, rows, moving, in_grid) for runs of n tokens from `position` on, the first half of t's pairs at the row of
/// token r, the others at its column; tokens in front of the grid stand at 0 and 0.
template <class F>
void each_grid_turn(Turns& t, int position, int n, int width, int prefix_tokens, F f) {
  const int half = t.pairs() / 2;
  each_grid_run(position, n, width, prefix_tokens, [&](int first, int run, int row, int column) {
    t.start(std::max(row, 0), 0, half);
    for (int r = 0; r < run; r += kTurnRestart) {
      t.start(row < 0 ? 0 : column + r, half, 2 * half);
      f(first + r, std::min(kTurnRestart, run - r), row < 0 ? 2 * half : half, row >= 0);
    }
  });
}

/// Width of the grid that n tokens make, as square as they allow: 12 are 3 rows of 4.
inline int fitting_width(int n) {
  int rows = std::max(1, int(std::sqrt(double(std::max(1, n)))));
  while (n % rows != 0) --rows;
  return std::max(1, n / rows);
}

}  // namespace attune::detail
