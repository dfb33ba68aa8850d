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
  (void)causal;
  (void)value_dim;
  TilePlan plan;
  plan.queries = 64;
  plan.keys = head_dim > 64 ? 96 : 128;
  plan.super_keys = 0;
  return plan;
}

template <class T>
TilePlan backward_plan(int head_dim, int value_dim, bool causal) {
  (void)causal;
  TilePlan plan;
  plan.queries = 64;
  plan.keys = 64;
  const std::int64_t row = std::int64_t(sizeof(T)) * 2 * (head_dim + value_dim);
  plan.super_keys = multiple(cpu_info().l2_bytes / 2 / row, plan.keys, 2 * plan.keys, 8 * plan.keys);
  return plan;
}

template TilePlan forward_plan<float>(int, int, bool);
template TilePlan forward_plan<double>(int, int, bool);
template TilePlan backward_plan<float>(int, int, bool);
template TilePlan backward_plan<double>(int, int, bool);

}  // namespace attune::kernels
