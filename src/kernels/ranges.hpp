// How the layer kernels cut their work: ranges of a fixed size, and sums of parts in their order. The cut depends on
// the problem alone, so results have equal bits for any thread count. Small problems run on the calling thread.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "attune/base/parallel.hpp"

namespace attune::kernels {

constexpr std::int64_t kRangeElements = 16384;  // some microseconds of work: large against handing out a task
constexpr std::int64_t kAloneElements = 4 * kRangeElements;  // up to here waking other threads costs more than it saves

/// f(part) for all parts: on this thread if `alone`, else on the pool.
template <class F>
void for_parts(std::int64_t parts, bool alone, F&& f) {
  if (alone) {
    for (std::int64_t i = 0; i < parts; ++i) f(i);
  } else {
    parallel_for(parts, f);
  }
}

/// f(begin, end) over ranges of 0 .. n-1; one call where the work is small. cost: of one element, relative to an
/// addition.
template <class F>
void over_elements(std::int64_t n, F&& f, std::int64_t cost = 1) {
  if (n <= 0) return;
  if (n * cost <= kAloneElements) {
    f(std::int64_t(0), n);
  } else {
    parallel_ranges(n, kRangeElements / cost, f);
  }
}

/// f(first row, last row + 1), likewise. A row counts as `width` elements.
template <class F>
void over_rows(std::int64_t rows, std::int64_t width, F&& f) {
  if (rows <= 0) return;
  if (rows * width <= kAloneElements) {
    f(std::int64_t(0), rows);
  } else {
    parallel_ranges(rows, std::max<std::int64_t>(1, kRangeElements / width), f);
  }
}

/// The sum of f(begin, end) over fixed ranges, added in order.
template <class F>
double sum_over_ranges(std::int64_t n, F&& f) {
  const std::int64_t parts = (n + kRangeElements - 1) / kRangeElements;
  if (parts <= 1) return n > 0 ? f(std::int64_t(0), n) : 0.0;
  std::vector<double> part(static_cast<std::size_t>(parts));
  for_parts(parts, n <= kAloneElements, [&](std::int64_t i) {
    part[std::size_t(i)] = f(i * kRangeElements, std::min(n, (i + 1) * kRangeElements));
  });
  double total = 0;
  for (double p : part) total += p;
  return total;
}

/// A buffer of the calling thread that lives as long as it: no allocation once it is large enough. One use at a time.
template <class T, class Tag>
T* scratch(std::size_t n) {
  thread_local std::vector<T> buffer;
  if (buffer.size() < n) buffer.resize(n);
  return buffer.data();
}

/// y[c] = (or +=) sum over rows: f(first row, last row + 1, partial) adds its rows to partial[c], c < width. At most 64
/// blocks of rows, whose partial sums are added in order.
template <class T, class F>
void sum_over_row_blocks(std::int64_t rows, std::int64_t width, T* y, bool accumulate, F&& f) {
  struct Partials;
  if (!accumulate) std::fill(y, y + width, T(0));
  const std::int64_t least = std::max<std::int64_t>(1, kRangeElements / std::max<std::int64_t>(1, width));
  const std::int64_t grain = std::max(least, (rows + 63) / 64), blocks = (rows + grain - 1) / grain;
  if (blocks == 0) return;
  T* partial = scratch<T, Partials>(std::size_t(blocks * width));
  for_parts(blocks, rows * width <= kAloneElements, [&](std::int64_t i) {
    T* mine = partial + i * width;
    std::fill(mine, mine + width, T(0));
    f(i * grain, std::min(rows, (i + 1) * grain), mine);
  });
  for (std::int64_t i = 0; i < blocks; ++i) {
    for (std::int64_t c = 0; c < width; ++c) y[c] += partial[i * width + c];
  }
}

}  // namespace attune::kernels
