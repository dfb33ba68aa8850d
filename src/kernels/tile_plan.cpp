// The sizes were found by measuring; see bench/attention_bench.cpp for the shapes.
#include "kernels/tile_plan.hpp"

#include <algorithm>
#include <cstddef>

#include "attune/base/cpu.hpp"

namespace attune::kernels {
namespace {

/// A multiple of `step` from low to high, near x.
int multiple(std::int64_t x, int step, int low, int high) {
  return int(std::clamp<std::int64_t>(x / step * step, low, high));
}

}  // namespace

template <class T>
TilePlan forward_plan(int head_dim, int value_dim, bool causal) {
  // 64 queries are four vectors of sixteen floats, the widest block of registers; causal blocks skip what is hidden
  // themselves, so they need not be narrower (48 queries, in blocks of 8 x 3, lose 1 % at a width of 64, 3 % at 128).
  // The weights of a tile fill the first-level cache, its rows of keys and values at most an eighth of the second.
  // Flat: from 48 to 192 keys of width 64 or 128 the times differ by 1 %.
  (void)causal;
  TilePlan plan{.queries = 64};
  const std::int64_t weights = cpu_info().l1d_bytes / std::int64_t(sizeof(T) * 64);
  const std::int64_t rows = cpu_info().l2_bytes / 8 / (std::int64_t(sizeof(T)) * (head_dim + value_dim));
  plan.keys = multiple(std::min(weights, rows), 16, 32, 256);
  return plan;
}

template <class T>
TilePlan backward_plan(int head_dim, int value_dim, bool causal) {
  (void)causal;
  TilePlan plan{.queries = 64, .keys = 64};
  // The second-level cache holds the rows of keys and values and of their gradients. Larger super-blocks transpose
  // queries and dout less often: at a width of 128 that takes 3.5 % of the time with 256 keys, 0.9 % with 1024.
  const std::int64_t row = std::int64_t(sizeof(T)) * 2 * (head_dim + value_dim);
  plan.super_keys = multiple(cpu_info().l2_bytes / row, plan.keys, 2 * plan.keys, 16 * plan.keys);
  return plan;
}

template TilePlan forward_plan<float>(int, int, bool);
template TilePlan forward_plan<double>(int, int, bool);
template TilePlan backward_plan<float>(int, int, bool);
template TilePlan backward_plan<double>(int, int, bool);

}  // namespace attune::kernels
