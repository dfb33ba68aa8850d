// bias_tile.hpp, compiled per target and exported.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/bias_tile.cpp"
#include "kernels/bias_tile.hpp"

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/columns-inl.h"
#include "kernels/diagonals-inl.h"
#include "kernels/fire-inl.h"
#include "kernels/gumbel-inl.h"
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

/// tanh z and its slope by an exponential, for large z: e = exp(-2 |z|), tanh |z| = 1 - 2 e / (1 + e), its slope
/// 4 e / (1 + e)^2.
HWY_INLINE Vec<float> large_tanh(Vec<float> z, Vec<float>& slope) {
  const Vec<float> one = set(1.0f), e = exp_of<float>(hn::Mul(hn::Abs(z), set(-2.0f)));
  const Vec<float> inverse = hn::Div(one, hn::Add(one, e)), part = hn::Mul(hn::Add(e, e), inverse);
  slope = hn::Mul(hn::Add(part, part), inverse);
  return hn::CopySign(hn::Sub(one, part), z);
}
/// x = cap tanh(z), z = x / cap: x + x s q(s) with s = z^2 where |z| < 0.625.
///
/// The ladder, over the same walk with nothing in it at D 64, forward / backward:
///   tanh as a rational function, 4 e / (1 + e)^2 for the slope, in C++ under target attributes   13 / 20 %
///   the long way only where an element is large, logits far below the cap are the rule             8 / 2 %
///   x itself in place of cap z, s in place of |z|                                                  7 / 2 %
template <class C, class Slopes>
HWY_NOINLINE void cap_columns(C c, float* x, std::ptrdiff_t stride, int keys, float cap, Slopes slopes) {
  constexpr bool kSlopes = !std::is_same_v<Slopes, std::nullptr_t>;
  constexpr float kC[] = {-0.3333328172f, 0.1333143567f, -0.05373914058f, 0.02063712519f, -0.005702704032f};
  const Vec<float> factor = set(cap), inverse = set(1 / cap), one = set(1.0f);
  for (int j = 0; j < keys; ++j) {
    float* row = x + j * stride;
    ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) {
      const Vec<float> from = c.read(row, v), z = hn::Mul(from, inverse), s = hn::Mul(z, z);
      const Vec<float> q = hn::Mul(s, polynomial(s, kC));
      Vec<float> y = hn::MulAdd(from, q, from), slope = one;
      if constexpr (kSlopes) {
        const Vec<float> t = hn::MulAdd(z, q, z);
        slope = hn::NegMulAdd(t, t, one);
      }
      const auto small = hn::Lt(s, set(0.625f * 0.625f));
      if (!hn::AllTrue(Lanes<float>(), small)) {
        Vec<float> steep;
        y = hn::IfThenElse(small, y, hn::Mul(factor, large_tanh(z, steep)));
        slope = hn::IfThenElse(small, slope, steep);
      }
      c.write(y, row, v);
      if constexpr (kSlopes) c.write(slope, slopes + j * stride, v);
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
  over_vectors<float>(queries, [&](auto c) HWY_ATTR {
    slope ? cap_columns(c, x, stride, keys, cap, slope) : cap_columns(c, x, stride, keys, cap, nullptr);
  });
}
void sigmoid_f32(float* x, float* dp, std::ptrdiff_t stride, int keys, int queries, float bias) {
  over_vectors<float>(queries, [&](auto c) HWY_ATTR { sigmoid_columns(c, x, dp, stride, keys, bias); });
}
void add_gumbel_f32(float* x, std::ptrdiff_t stride, int keys, int queries, const NoiseAt& at, float inverse) {
  gumbel_tile(x, stride, keys, queries, at, inverse);
}
void add_fire_f32(const FireTile& t, float bias, float* x, std::ptrdiff_t stride, float* scratch) {
  fire_tile(t, bias, x, stride, scratch);
}
float fire_backward_f32(const FireTile& t, const float* dx, std::ptrdiff_t stride, const FireGradients& to,
                        float* scratch) {
  return fire_back(t, dx, stride, to, scratch);
}
#define ATTUNE_BIAS(T, S)                                                                                      \
  void subtract_distance_##S(T* x, std::ptrdiff_t stride, int keys, int queries, T slope, int distance) {      \
    over_vectors<T>(queries, [&](auto c) HWY_ATTR { distance_columns(c, x, stride, keys, slope, distance); }); \
  }                                                                                                            \
  void multiply_tile_##S(T* x, const T* y, std::ptrdiff_t stride, int keys, int queries) {                     \
    over_vectors<T>(queries, [&](auto c) HWY_ATTR { multiply_columns(c, x, y, stride, keys); });               \
  }                                                                                                            \
  void add_diagonals_##S(T* x, std::ptrdiff_t stride, int keys, int queries, const T* value) {                 \
    over_vectors<T>(queries, [&](auto c) HWY_ATTR { add_diagonal_columns(c, x, stride, keys, value); });       \
  }                                                                                                            \
  void sum_diagonals_##S(const T* x, std::ptrdiff_t stride, int keys, int queries, T* sum) {                   \
    over_vectors<T>(queries, [&](auto c) HWY_ATTR { sum_diagonal_columns(c, x, stride, keys, sum); });         \
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
void add_gumbel(float* x, std::ptrdiff_t stride, int keys, int queries, const NoiseAt& at, float inverse) {
  ATTUNE_DISPATCH(add_gumbel_f32)(x, stride, keys, queries, at, inverse);
}
void add_fire(const FireTile& t, float bias, float* x, std::ptrdiff_t stride, float* scratch) {
  ATTUNE_DISPATCH(add_fire_f32)(t, bias, x, stride, scratch);
}
float fire_backward(const FireTile& t, const float* dx, std::ptrdiff_t stride, const FireGradients& to,
                    float* scratch) {
  return ATTUNE_DISPATCH(fire_backward_f32)(t, dx, stride, to, scratch);
}
#define ATTUNE_BIAS(T, S)                                                                             \
  void subtract_distance(T* x, std::ptrdiff_t stride, int keys, int queries, T slope, int distance) { \
    ATTUNE_DISPATCH(subtract_distance_##S)(x, stride, keys, queries, slope, distance);                \
  }                                                                                                   \
  void multiply_tile(T* x, const T* y, std::ptrdiff_t stride, int keys, int queries) {                \
    ATTUNE_DISPATCH(multiply_tile_##S)(x, y, stride, keys, queries);                                  \
  }                                                                                                   \
  void add_diagonals(T* x, std::ptrdiff_t stride, int keys, int queries, const T* value) {            \
    ATTUNE_DISPATCH(add_diagonals_##S)(x, stride, keys, queries, value);                              \
  }                                                                                                   \
  void sum_diagonals(const T* x, std::ptrdiff_t stride, int keys, int queries, T* sum) {              \
    ATTUNE_DISPATCH(sum_diagonals_##S)(x, stride, keys, queries, sum);                                \
  }
ATTUNE_BIAS(float, f32)
ATTUNE_BIAS(double, f64)
#undef ATTUNE_BIAS

}  // namespace attune::kernels
#endif
