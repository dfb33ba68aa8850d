// bias_tile.hpp, compiled per target and exported.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/bias_tile.cpp"
#include "kernels/bias_tile.hpp"

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/columns-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

template <class T, class C>
HWY_NOINLINE void distance_columns(C c, T* x, std::ptrdiff_t stride, int keys, T slope, int distance) {
  constexpr int kVectors = C::kCount;
  const Vec<T> factor = set(slope), one = set(T(1));
  Vec<T> from[kVectors];  // position of the query minus the key's: whole numbers, exact
  ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) from[v] =
      hn::Add(hn::Iota(Lanes<T>(), T(c.first + v * kLaneCount<T>)), set(T(distance)));
  for (int j = 0; j < keys; ++j) {
    T* row = x + j * stride;
    ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
      c.write(hn::NegMulAdd(factor, hn::Abs(from[v]), c.read(row, v)), row, v);
      from[v] = hn::Sub(from[v], one);
    }
  }
}

/// The ladder, over the same walk with nothing in it at D 64, forward / backward:
///   tanh as a rational function, 4 e / (1 + e)^2 for the slope, in C++ under target attributes   13 / 20 %
///   this one: the long way only where an element is large, logits far below the cap are the rule   8 / 2 %
HWY_INLINE Vec<float> tanh_and_slope(Vec<float> z, Vec<float>& slope) {
  using T = float;
  constexpr T kC[] = {-0.3333328172f, 0.1333143567f, -0.05373914058f, 0.02063712519f, -0.005702704032f};
  const Vec<T> size = hn::Abs(z), s = hn::Mul(z, z), one = set(T(1));
  Vec<T> t = hn::MulAdd(hn::Mul(z, s), polynomial(s, kC), z);
  slope = hn::NegMulAdd(t, t, one);
  const auto small = hn::Lt(size, set(T(0.625)));
  if (hn::AllTrue(Lanes<T>(), small)) return t;
  // e = exp(-2 |z|): tanh |z| = 1 - 2 e / (1 + e), its slope 4 e / (1 + e)^2.
  const Vec<T> e = exp_of<T>(hn::Mul(size, set(T(-2)))), inverse = hn::Div(one, hn::Add(one, e));
  const Vec<T> part = hn::Mul(hn::Add(e, e), inverse);
  t = hn::IfThenElse(small, t, hn::CopySign(hn::Sub(one, part), z));
  slope = hn::IfThenElse(small, slope, hn::Mul(hn::Add(part, part), inverse));
  return t;
}
template <class C>
HWY_NOINLINE void cap_columns(C c, float* x, std::ptrdiff_t stride, int keys, float cap, float* slopes) {
  const Vec<float> factor = set(cap), inverse = set(1 / cap);
  for (int j = 0; j < keys; ++j) {
    float* row = x + j * stride;
    ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) {
      Vec<float> slope;
      const Vec<float> t = tanh_and_slope(hn::Mul(c.read(row, v), inverse), slope);
      c.write(hn::Mul(factor, t), row, v);
      if (slopes) c.write(slope, slopes + j * stride, v);
    }
  }
}

template <class C>
HWY_NOINLINE void sigmoid_columns(C c, float* x, float* dp, std::ptrdiff_t stride, int keys, float bias) {
  const Vec<float> shift = set(bias);
  for (int j = 0; j < keys; ++j) {
    float* row = x + j * stride;
    ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) {
      const Vec<float> p = sigmoid_of<float>(hn::Add(c.read(row, v), shift));
      c.write(p, row, v);
      if (dp) c.write(hn::Mul(hn::NegMulAdd(p, p, p), c.read(dp + j * stride, v)), dp + j * stride, v);
    }
  }
}

template <class T, class C>
HWY_NOINLINE void multiply_columns(C c, T* x, const T* y, std::ptrdiff_t stride, int keys) {
  for (int j = 0; j < keys; ++j) {
    T* row = x + j * stride;
    ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) {
      c.write(hn::Mul(c.read(row, v), c.read(y + j * stride, v)), row, v);
    }
  }
}

void soft_cap_f32(float* x, std::ptrdiff_t stride, int keys, int queries, float cap, float* slope) {
  over_vectors<float>(queries, [&](auto c) HWY_ATTR { cap_columns(c, x, stride, keys, cap, slope); });
}
void sigmoid_f32(float* x, float* dp, std::ptrdiff_t stride, int keys, int queries, float bias) {
  over_vectors<float>(queries, [&](auto c) HWY_ATTR { sigmoid_columns(c, x, dp, stride, keys, bias); });
}
#define ATTUNE_BIAS(T, S)                                                                                      \
  void subtract_distance_##S(T* x, std::ptrdiff_t stride, int keys, int queries, T slope, int distance) {      \
    over_vectors<T>(queries, [&](auto c) HWY_ATTR { distance_columns(c, x, stride, keys, slope, distance); }); \
  }                                                                                                            \
  void multiply_tile_##S(T* x, const T* y, std::ptrdiff_t stride, int keys, int queries) {                     \
    over_vectors<T>(queries, [&](auto c) HWY_ATTR { multiply_columns(c, x, y, stride, keys); });               \
  }
ATTUNE_BIAS(float, f32)
ATTUNE_BIAS(double, f64)
#undef ATTUNE_BIAS

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

void soft_cap(float* x, std::ptrdiff_t stride, int keys, int queries, float cap, float* slope) {
  ATTUNE_DISPATCH(soft_cap_f32)(x, stride, keys, queries, cap, slope);
}
void sigmoid_forward(float* x, std::ptrdiff_t stride, int keys, int queries, float bias) {
  ATTUNE_DISPATCH(sigmoid_f32)(x, nullptr, stride, keys, queries, bias);
}
void sigmoid_backward(float* x, float* dp, std::ptrdiff_t stride, int keys, int queries, float bias) {
  ATTUNE_DISPATCH(sigmoid_f32)(x, dp, stride, keys, queries, bias);
}
#define ATTUNE_BIAS(T, S)                                                                             \
  void subtract_distance(T* x, std::ptrdiff_t stride, int keys, int queries, T slope, int distance) { \
    ATTUNE_DISPATCH(subtract_distance_##S)(x, stride, keys, queries, slope, distance);                \
  }                                                                                                   \
  void multiply_tile(T* x, const T* y, std::ptrdiff_t stride, int keys, int queries) {                \
    ATTUNE_DISPATCH(multiply_tile_##S)(x, y, stride, keys, queries);                                  \
  }
ATTUNE_BIAS(float, f32)
ATTUNE_BIAS(double, f64)
#undef ATTUNE_BIAS

}  // namespace attune::kernels
#endif
