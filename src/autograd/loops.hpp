// Plain parallel loops over elements. Ranges are cut by the problem, so results have equal bits for any thread count.
// Private.
#pragma once
#include <algorithm>
#include <cstdint>

#include "attune/base/parallel.hpp"

namespace attune::detail {

constexpr std::int64_t kGrain = 32768;  // elements a task: large against the cost of handing one out

/// f(begin, end) over ranges of 0 .. n-1.
template <class F>
void over_elements(std::int64_t n, F&& f) {
  parallel_ranges(n, kGrain, f);
}
/// f(first row, last row + 1) over ranges of rows of the given width.
template <class F>
void over_rows(std::int64_t rows, std::int64_t width, F&& f) {
  parallel_ranges(rows, std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, width)), f);
}
/// y[i] = value(i), or y[i] += value(i).
template <class T, class F>
void store(T* y, std::int64_t n, bool accumulate, F value) {
  over_elements(n, [=](std::int64_t begin, std::int64_t end) {
    if (accumulate) {
      for (std::int64_t i = begin; i < end; ++i) y[i] += value(i);
    } else {
      for (std::int64_t i = begin; i < end; ++i) y[i] = value(i);
    }
  });
}

}  // namespace attune::detail
