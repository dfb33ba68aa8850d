// exp, sigmoid, tanh, the normal distribution function and the activations built on them, on vectors.
//
// float: polynomials whose coefficients are minimax fits (Remez exchange, relative error below 1e-8 before rounding):
//   exp(x)  = 2^n * (1 + r + r^2 p(r)), n = round(x / log 2), r = x - n log 2 in two parts, |r| <= log(2) / 2
//   tanh(x) = x + x s q(s), s = x^2, for |x| < 0.625; else 1 - 2 / (exp(2 |x|) + 1) with the sign of x
//   Phi(-t) = exp(-t^2 / 2) * w(u) / (t + 4), u = (t - 4) / (t + 4), t >= 0; Phi(t) = 1 - Phi(-t). The factor w is
//             smooth, so the left tail keeps its digits instead of cancelling.
// double: the C library, lane by lane. Included once per target (see dispatch.hpp).
#if defined(ATTUNE_KERNELS_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_MATH_INL_H_
#undef ATTUNE_KERNELS_MATH_INL_H_
#else
#define ATTUNE_KERNELS_MATH_INL_H_
#endif

#include <cmath>

#include "kernels/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// f(double) for every lane.
template <class T, class F>
HWY_INLINE Vec<T> lane_by_lane(Vec<T> x, F f) {
  T buffer[HWY_LANES(T)];
  store(x, buffer);
  for (T& lane : buffer) lane = f(lane);
  return load(buffer);
}

/// e^x; 0 below the normal numbers (AVX-512: below the denormal ones), +inf from 88.4 on, NaN for NaN. Unlike
/// exp2(x * log2 e), large |x| lose no digits.
template <class T>
HWY_INLINE Vec<T> exp_of(Vec<T> x) {
  if constexpr (sizeof(T) == 8) {
    return lane_by_lane<T>(x, [](T v) { return std::exp(v); });
  } else {
    constexpr T kC[] = {0.4999999341f, 0.166665201f, 0.04166839415f, 0.00836878069f, 0.001381447122f};
    // log 2 = 0.693359375 - 2.12194440e-4: the product of the first part with n is exact.
    const auto power = [&](Vec<T> y, Vec<T> n) HWY_ATTR {
      const Vec<T> r = hn::NegMulAdd(n, set(T(-2.12194440e-4)), hn::NegMulAdd(n, set(T(0.693359375)), y));
      return hn::Add(hn::MulAdd(hn::Mul(r, r), polynomial(r, kC), r), set(T(1)));
    };
#if HWY_TARGET == HWY_AVX3
    const Vec<T> y = clamp_keep_nan(x, T(-200), T(200)), n = hn::Round(hn::Mul(y, set(T(1.442695041))));
    return Vec<T>{_mm512_scalef_ps(power(y, n).raw, n.raw)};
#else
    // As in exp2(): the lowest bits of t are the exponent of 2^n, and the factor is 0 at -127 and infinite at 128.
    const Vec<T> y = clamp_keep_nan(x, T(-88), T(88.8)), magic = set(T(12582912 + 127));
    const Vec<T> t = hn::MulAdd(y, set(T(1.442695041)), magic), n = hn::Sub(t, magic);
    const hn::RebindToUnsigned<Lanes<T>> bits;
    const Vec<T> factor = hn::BitCast(Lanes<T>(), hn::ShiftLeft<23>(hn::BitCast(bits, t)));
    return hn::Mul(power(y, n), factor);
#endif
  }
}

/// 1 / (1 + e^-x).
template <class T>
HWY_INLINE Vec<T> sigmoid_of(Vec<T> x) {
  const Vec<T> one = set(T(1));
  return hn::Div(one, hn::Add(one, exp_of<T>(hn::Neg(x))));
}

template <class T>
HWY_INLINE Vec<T> tanh_of(Vec<T> x) {
  if constexpr (sizeof(T) == 8) {
    return lane_by_lane<T>(x, [](T v) { return std::tanh(v); });
  } else {
    constexpr T kC[] = {-0.3333328172f, 0.1333143567f, -0.05373914058f, 0.02063712519f, -0.005702704032f};
    const Vec<T> size = hn::Abs(x), s = hn::Mul(x, x), one = set(T(1));
    const Vec<T> small = hn::MulAdd(hn::Mul(x, s), polynomial(s, kC), x);
    const Vec<T> e = exp_of<T>(hn::Add(size, size));
    const Vec<T> large = hn::CopySign(hn::Sub(one, hn::Div(set(T(2)), hn::Add(e, one))), x);
    return hn::IfThenElse(hn::Lt(size, set(T(0.625))), small, large);
  }
}

/// Phi(x) and phi(x) of the standard normal distribution.
template <class T>
struct Normal {
  Vec<T> distribution, density;
};
template <class T>
HWY_INLINE Normal<T> normal_of(Vec<T> x) {
  constexpr T kRootTwoPi = T(0.39894228040143267794);  // 1 / sqrt(2 pi)
  if constexpr (sizeof(T) == 8) {
    return {lane_by_lane<T>(x, [](T v) { return T(0.5) * std::erfc(v * T(-0.70710678118654752440)); }),
            lane_by_lane<T>(x, [=](T v) { return kRootTwoPi * std::exp(T(-0.5) * v * v); })};
  } else {
    constexpr T kC[] = {0.7552851355f,    -0.6078965971f,   0.3871368898f,   -0.1865232063f,   0.06040414389f,
                        -0.007526726766f, -0.003514984002f, 0.001571857603f, 0.0001846314304f, -0.0001295270682f};
    const Vec<T> t = hn::Min(hn::Abs(x), set(T(14))), four = set(T(4));  // past 14 the tail is below 1e-44
    const Vec<T> e = exp_of<T>(hn::Mul(hn::Mul(t, t), set(T(-0.5))));
    const Vec<T> inverse = hn::Div(set(T(1)), hn::Add(t, four));
    const Vec<T> tail = hn::Mul(hn::Mul(e, inverse), polynomial(hn::Mul(hn::Sub(t, four), inverse), kC));
    return {hn::IfThenElse(hn::Lt(x, zero<T>()), tail, hn::Sub(set(T(1)), tail)), hn::Mul(e, set(kRootTwoPi))};
  }
}

/// x * Phi(x) -> 0 as x -> -inf: past this bound the product is 0 in T, and -inf * 0 would be NaN.
template <class T>
HWY_INLINE Vec<T> bounded_below(Vec<T> x, T low) {
  return hn::IfThenElse(hn::Lt(x, set(low)), set(low), x);
}
/// Both sides, NaN stays.
template <class T>
HWY_INLINE Vec<T> bounded(Vec<T> x, T size) {
  return hn::IfThenElse(hn::Gt(x, set(size)), set(size), bounded_below(x, -size));
}
template <class T>
constexpr T kGeluLow = sizeof(T) == 4 ? T(-15) : T(-40);
template <class T>
constexpr T kSiluLow = sizeof(T) == 4 ? T(-110) : T(-760);

template <class T>
HWY_INLINE Vec<T> relu_of(Vec<T> x) {
  return hn::IfThenElse(hn::Lt(x, zero<T>()), zero<T>(), x);  // NaN stays
}
template <class T>
HWY_INLINE Vec<T> gelu_of(Vec<T> x) {
  const Vec<T> y = bounded_below(x, kGeluLow<T>);
  return hn::Mul(y, normal_of<T>(y).distribution);
}
template <class T>
HWY_INLINE Vec<T> silu_of(Vec<T> x) {
  const Vec<T> y = bounded_below(x, kSiluLow<T>);
  return hn::Mul(y, sigmoid_of<T>(y));
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
