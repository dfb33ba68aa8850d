// softmax_tile.hpp, compiled per target and exported.
//
// The ladder, a call through the stages over the plain path at D 64, forward / backward (AVX-512, Zen 4, one thread):
//   loops in C++ under target attributes, products added to tiles of zeros, a pass that rescales the output   28 / 14 %
//   this kernel, products that overwrite or rescale while they load, half as many keys in the backward         5 / 4 %
//   the maximum from the last key back; rows of the next block fetched meanwhile                              3 / 3 %
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/softmax_tile.cpp"
#include "kernels/softmax_tile.hpp"

#include <limits>

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/columns-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// e^(x - m) of one vector of rows, m their maximum or log-sum-exp. The difference comes first: 2^(c x - c m) with one
/// multiply-add would leave the rounding of c m in the power, which overflows once logits reach 1e9 in float32.
template <class T>
HWY_INLINE Vec<T> power_of(Vec<T> x, Vec<T> m) {
  return exp_of_difference(hn::Sub(x, m));
}

template <class T, class C>
HWY_NOINLINE void forward_columns(C c, T* x, std::ptrdiff_t stride, int keys, T* maximum, T* sum, T* rescale) {
  constexpr int kVectors = C::kCount;
  Vec<T> top[kVectors], total[kVectors];
  ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
    // The lowest finite number, not -infinity: -infinity - (-infinity) would be NaN.
    const auto seen = hn::Gt(c.read(sum, v), zero<T>());
    top[v] = hn::IfThenElse(seen, c.read(maximum, v), set(std::numeric_limits<T>::lowest()));
  }
  // From the last key back: those logits were written last, and the next pass begins with the first ones.
  for (int j = keys - 1; j >= 0; --j) {
    ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) top[v] = hn::Max(top[v], c.read(x + j * stride, v));
  }
  ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
    const Vec<T> before = c.read(sum, v);
    const Vec<T> f = hn::IfThenElseZero(hn::Gt(before, zero<T>()), power_of<T>(c.read(maximum, v), top[v]));
    total[v] = hn::Mul(before, f);
    c.write(f, rescale, v);
    c.write(top[v], maximum, v);
  }
  for (int j = 0; j < keys; ++j) {
    T* row = x + j * stride;
    ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
      const Vec<T> e = power_of<T>(c.read(row, v), top[v]);
      total[v] = hn::Add(total[v], e);
      c.write(e, row, v);
    }
  }
  ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) c.write(total[v], sum, v);
}
template <class T>
HWY_INLINE void forward_tile(T* x, std::ptrdiff_t stride, int keys, int queries, T* maximum, T* sum, T* factor) {
  over_vectors<T>(queries, [&](auto c) HWY_ATTR { forward_columns(c, x, stride, keys, maximum, sum, factor); });
}

template <class T, class C>
HWY_NOINLINE void backward_columns(C c, T* x, T* dp, std::ptrdiff_t stride, int keys, const T* lse, const T* delta) {
  constexpr int kVectors = C::kCount;
  Vec<T> sums[kVectors], mean[kVectors];
  ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
    sums[v] = c.read(lse, v);
    mean[v] = c.read(delta, v);
  }
  for (int j = 0; j < keys; ++j) {
    T *s = x + j * stride, *d = dp + j * stride;
    ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
      const Vec<T> p = power_of<T>(c.read(s, v), sums[v]);
      c.write(p, s, v);
      c.write(hn::Mul(p, hn::Sub(c.read(d, v), mean[v])), d, v);
    }
  }
}
template <class T>
HWY_INLINE void backward_tile(T* x, T* dp, std::ptrdiff_t stride, int keys, int queries, const T* lse, const T* delta) {
  over_vectors<T>(queries, [&](auto c) HWY_ATTR { backward_columns(c, x, dp, stride, keys, lse, delta); });
}

#define ATTUNE_SOFTMAX(T, S)                                                                                           \
  void softmax_forward_##S(T* x, std::ptrdiff_t stride, int keys, int queries, T* maximum, T* sum, T* factor) {        \
    forward_tile(x, stride, keys, queries, maximum, sum, factor);                                                      \
  }                                                                                                                    \
  void softmax_backward_##S(T* x, T* dp, std::ptrdiff_t stride, int keys, int queries, const T* lse, const T* delta) { \
    backward_tile(x, dp, stride, keys, queries, lse, delta);                                                           \
  }
ATTUNE_SOFTMAX(float, f32)
ATTUNE_SOFTMAX(double, f64)
#undef ATTUNE_SOFTMAX

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

#define ATTUNE_SOFTMAX(T, S)                                                                                       \
  void softmax_forward(T* x, std::ptrdiff_t stride, int keys, int queries, T* maximum, T* sum, T* factor) {        \
    ATTUNE_DISPATCH(softmax_forward_##S)(x, stride, keys, queries, maximum, sum, factor);                          \
  }                                                                                                                \
  void softmax_backward(T* x, T* dp, std::ptrdiff_t stride, int keys, int queries, const T* lse, const T* delta) { \
    ATTUNE_DISPATCH(softmax_backward_##S)(x, dp, stride, keys, queries, lse, delta);                               \
  }
ATTUNE_SOFTMAX(float, f32)
ATTUNE_SOFTMAX(double, f64)
#undef ATTUNE_SOFTMAX

}  // namespace attune::kernels
#endif
