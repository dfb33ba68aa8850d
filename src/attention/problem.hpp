// One call in the engine's own terms: typed memory, bound stages, a tile plan. What attend.cpp builds from views and
// what the tile loops run on; templates over the scalar, instantiated for float, double and Dual<double>.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "attune/attention/any_stage.hpp"
#include "kernels/tile_plan.hpp"

namespace attune::engine {

/// [B, H, T, cols] memory whose last axis is contiguous.
template <class T>
struct Strided {
  T* data = nullptr;
  std::ptrdiff_t batch = 0, head = 0, row = 0;
  Matrix<T> matrix(int b, int h, int first, int n, int cols) const {
    return {data + b * batch + h * head + first * row, n, cols, row};
  }
};

/// One learned array of a stage with its memory; `at` finds the copy of a head.
template <class T>
struct BoundArray {
  ParameterSpec spec;
  const T* value = nullptr;
  T* grad = nullptr;
  /// A number for every pair, [Tq, Tk]: read from memory tile by tile.
  bool per_pair(const AttendShape& s) const {
    return spec.in_place && spec.size() == std::ptrdiff_t(s.num_queries) * s.num_keys;
  }
  std::ptrdiff_t at(const Area& a) const {
    const AttendShape& s = *a.shape;
    std::ptrdiff_t copy = 0;
    switch (spec.per) {
      case Per::call:
        copy = 0;
        break;
      case Per::batch:
        copy = a.batch;
        break;
      case Per::head:
        copy = a.head;
        break;
      case Per::kv_head:
        copy = a.kv_head;
        break;
      case Per::batch_head:
        copy = std::ptrdiff_t(a.batch) * s.num_heads + a.head;
        break;
    }
    return copy * spec.size();
  }
};
template <class T, class Contract>
struct Bound {
  const Contract* stage = nullptr;
  std::vector<BoundArray<T>> arrays;
};

/// Keys of a backward tile at most: two tiles are at work there, logits and their gradients, and both fit into the
/// first-level cache.
constexpr int kBackwardTileKeys = 64;

/// Keys of a backward super-block: the plain path's, for features of this width. Scalars without kernels take all.
template <class T>
int super_keys(int width, const AttendShape& s) {
  if constexpr (detail::kHasKernel<T>)
    return kernels::backward_plan<T>(width, s.value_dim, false).super_keys;
  else
    return std::max(1, s.num_keys);
}

template <class T>
struct Problem {
  AttendShape shape;
  std::vector<int> offset;  // [B]
  Strided<const T> query, key, value;
  Bound<T, Position<T>> position;  // stage may be null
  Bound<T, Score<T>> score;
  std::vector<Bound<T, Bias<T>>> bias;
  const Mask* mask = nullptr;
  Bound<T, Normalizer<T>> normalizer;
  std::uint32_t keep_threshold = 65536;  // of 65536: how many of the 16-bit draws keep a weight
  std::uint64_t seed = 0;
  int first_batch = 0;  // dropout's number of batch entry 0
  int tile_queries = kLanes, tile_keys = 128;

  bool drops() const { return keep_threshold < 65536; }
  /// Calls f(arrays) for position, score, every bias and normalizer: the order of parameters everywhere.
  template <class F>
  void each_bound(F f) const {
    f(position.arrays);
    f(score.arrays);
    for (const auto& b : bias) f(b.arrays);
    f(normalizer.arrays);
  }
  /// Numbers in one head's gradient slot: one copy of every parameter whose gradient is not made in place.
  std::ptrdiff_t slot_size() const {
    std::ptrdiff_t n = 0;
    each_bound([&](const auto& arrays) {
      for (const auto& a : arrays) n += a.spec.in_place ? 0 : a.spec.size();
    });
    return n;
  }
};

/// Row numbers that statistics are reduced from, [B, H, Tq] each.
template <class T>
struct RowStatistics {
  std::vector<T> largest_score, smallest_score, largest_logit, largest_prob, variance, sink_mass;
  std::vector<int> visible;
  std::vector<std::int64_t> non_finite;
  void resize(std::size_t rows) {
    for (auto* v : {&largest_score, &smallest_score, &largest_logit, &largest_prob, &variance, &sink_mass}) {
      v->assign(rows, T(0));
    }
    visible.assign(rows, 0);
    non_finite.assign(rows, 0);
  }
};

template <class T>
struct ForwardResult {
  Strided<T> out;        // no data: the product with value is left out (a pass for statistics alone)
  T* lse = nullptr;      // [B, H, Tq], may be null
  T* entropy = nullptr;  // [B, H, Tq], may be null
  RowStatistics<T>* statistics = nullptr;
};
template <class T>
void forward(const Problem<T>&, const ForwardResult<T>&);

template <class T>
struct BackwardInputs {
  Strided<const T> out, dout;
  const T *lse = nullptr, *dlse = nullptr, *entropy = nullptr,
          *dentropy = nullptr;  // [B, H, Tq]; all but lse may be null
};
template <class T>
struct BackwardResult {
  Strided<T> query, key, value;  // +=; no data: not wanted
};
/// Gradients of parameters go to BoundArray::grad (+=); null: not wanted.
template <class T>
void backward(const Problem<T>&, const BackwardInputs<T>&, const BackwardResult<T>&);

}  // namespace attune::engine
