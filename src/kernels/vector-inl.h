// The vocabulary of all kernels: vectors of float or double, partial loads and stores, and powers of two.
// Included once per target (see dispatch.hpp); everything lives in attune::kernels::HWY_NAMESPACE.
#if defined(ATTUNE_KERNELS_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_VECTOR_INL_H_
#undef ATTUNE_KERNELS_VECTOR_INL_H_
#else
#define ATTUNE_KERNELS_VECTOR_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"

// Loops over accumulators must unroll fully, or these stay in memory instead of registers.
#define ATTUNE_UNROLL _Pragma("GCC unroll 32")

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// A full register of T: 16 / 8 / 4 floats or 1.
template <class T>
using Lanes = hn::ScalableTag<T>;
template <class T>
using Vec = hn::Vec<Lanes<T>>;

template <class T>
constexpr int kLaneCount = int(HWY_LANES(T));

template <class T>
HWY_INLINE Vec<T> load(const T* p) {
  return hn::LoadU(Lanes<T>(), p);
}
template <class T>
HWY_INLINE void store(Vec<T> v, T* p) {
  hn::StoreU(v, Lanes<T>(), p);
}
template <class T>
HWY_INLINE Vec<T> zero() {
  return hn::Zero(Lanes<T>());
}
template <class T>
HWY_INLINE Vec<T> set(T x) {
  return hn::Set(Lanes<T>(), x);
}

/// The first n lanes from memory, 0 elsewhere; reads nothing past them. 0 <= n <= lanes.
template <class T>
HWY_INLINE Vec<T> load_first(const T* p, int n) {
  const Lanes<T> d;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  return hn::MaskedLoad(hn::FirstN(d, std::size_t(n)), d, p);
#else
  T buffer[HWY_LANES(T)] = {};
  for (int i = 0; i < n; ++i) buffer[i] = p[i];
  return hn::LoadU(d, buffer);
#endif
}
/// Writes the first n lanes and nothing past them.
template <class T>
HWY_INLINE void store_first(Vec<T> v, T* p, int n) {
  const Lanes<T> d;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  hn::BlendedStore(v, hn::FirstN(d, std::size_t(n)), d, p);
#else
  T buffer[HWY_LANES(T)];
  hn::StoreU(v, d, buffer);
  for (int i = 0; i < n; ++i) p[i] = buffer[i];
#endif
}

/// Keeps v in a register: without it g++ repeats a broadcast from memory in every multiply-add that uses it, and a
/// block of 4 x 4 accumulators needs 20 loads for 16 multiply-adds instead of 8 (76 % instead of 95 % of the peak).
template <class V>
HWY_INLINE void keep_in_register([[maybe_unused]] V& v) {
#if HWY_COMPILER_GCC_ACTUAL && (HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2)
  asm("" : "+v"(v.raw));
#endif
}

/// x, but at least `low` and at most `high`; NaN stays NaN on every target, which Max and Min alone do not promise.
template <class T>
HWY_INLINE Vec<T> clamp_keep_nan(Vec<T> x, T low, T high) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  return hn::Min(set(high), hn::Max(set(low), x));  // maxps returns its second operand if either is NaN
#else
  x = hn::IfThenElse(hn::Lt(x, set(low)), set(low), x);
  return hn::IfThenElse(hn::Gt(x, set(high)), set(high), x);
#endif
}

/// c[0] + c[1] x + c[2] x^2 + ... (Horner).
template <class T, int kN>
HWY_INLINE Vec<T> polynomial(Vec<T> x, const T (&c)[kN]) {
  Vec<T> sum = set(c[kN - 1]);
  ATTUNE_UNROLL for (int i = kN - 2; i >= 0; --i) sum = hn::MulAdd(sum, x, set(c[i]));
  return sum;
}

/// 2^(x c), c = 1, or with kNatural c = log2 e: 2^n * p(r) with n the nearest integer to x c, r = x c - n in [-1/2,
/// 1/2], and p(r) = 1 + r q(r) the minimax polynomial for the relative error (Remez; 9.2e-8 at degree 5, 2e-9 at degree
/// 6, 3.4e-18 at degree 11). p(0) = 1 makes the online softmax's correction exact when the maximum did not change. x c
/// itself is not rounded.
template <class T, bool kNatural, bool kFinite>
HWY_INLINE Vec<T> power(Vec<T> x) {
  constexpr int kBias = std::numeric_limits<T>::max_exponent - 1, kMantissa = std::numeric_limits<T>::digits - 1;
  const Vec<T> c = set(T(1.4426950408889634074));
  const auto series = [&](Vec<T> n) HWY_ATTR {
    const Vec<T> r = kNatural ? hn::MulSub(x, c, n) : hn::Sub(x, n);
    if constexpr (sizeof(T) == 8) {
      constexpr T kC[] = {1.0,
                          0.6931471805599453,
                          0.2402265069591013,
                          0.055504108664820084,
                          0.00961812910759412,
                          0.001333355814677462,
                          0.0001540353045711209,
                          1.5252733493127489e-05,
                          1.3215435282308488e-06,
                          1.0178199571842138e-07,
                          7.073783248503134e-09,
                          4.434771298200377e-10};
      return polynomial(r, kC);
    } else if constexpr (kNatural) {  // a backward's weights differ from the forward's by no more than roundings
      constexpr T kC[] = {1.0f,
                          0.6931472028550589f,
                          0.24022647913605372f,
                          0.055503324711342436f,
                          0.00961843736047314f,
                          0.0013398874411849723f,
                          0.00015353361139748472f};
      return polynomial(r, kC);
    } else {
      constexpr T kC[] = {1.0f,
                          0.693146977598992f,
                          0.2402224208537671f,
                          0.055507337434700856f,
                          0.009671512639956454f,
                          0.0013264727140072014f};
      return polynomial(r, kC);
    }
  };
#if HWY_TARGET == HWY_AVX3
  // -infinity - (-infinity) would be NaN. The guard is a maximum: the multipliers' pipes do not take part in it, as
  // they would in a comparison. NaN stays: maxps returns its second operand if either is.
  if constexpr (!kFinite) x = hn::Max(set(T(-2 * kBias)), x);
  const Vec<T> n = hn::Round(kNatural ? hn::Mul(x, c) : x), p = series(n);
  if constexpr (sizeof(T) == 4) {
    return Vec<T>{_mm512_scalef_ps(p.raw, n.raw)};
  } else {
    return Vec<T>{_mm512_scalef_pd(p.raw, n.raw)};
  }
#else
  // Adding 1.5 * 2^kMantissa + kBias rounds to an integer and leaves n + kBias, the exponent of 2^n, in the lowest
  // bits. The factor is 0 at n = -kBias and infinite at n = kBias + 1.
  constexpr double kUnit = kNatural ? 0.69314718055994530942 : 1, kMore = kNatural ? 0.01 : 0;
  x = clamp_keep_nan(x, T(-(kBias + 10 * kMore) * kUnit), T((kBias + 1 + kMore) * kUnit));
  const Vec<T> magic = set(T(std::int64_t(3) << (kMantissa - 1)) + T(kBias));
  const Vec<T> t = kNatural ? hn::MulAdd(x, c, magic) : hn::Add(x, magic), n = hn::Sub(t, magic);
  const hn::RebindToUnsigned<Lanes<T>> bits;
  const Vec<T> factor = hn::BitCast(Lanes<T>(), hn::ShiftLeft<kMantissa>(hn::BitCast(bits, t)));
  return hn::Mul(series(n), factor);
#endif
}

/// 2^x, relative error at most 2e-7 (float) and 1e-15 (double). Exactly 1 at 0; exactly 0 at -infinity and wherever the
/// result would lie below the normal numbers by more than the target's rounding; NaN stays NaN.
HWY_INLINE Vec<float> exp2(Vec<float> x) { return power<float, false, false>(x); }
HWY_INLINE Vec<double> exp2(Vec<double> x) { return power<double, false, false>(x); }
/// The same where x is known to be finite or NaN (-infinity gives NaN on AVX-512).
HWY_INLINE Vec<float> exp2_of_finite(Vec<float> x) { return power<float, false, true>(x); }
HWY_INLINE Vec<double> exp2_of_finite(Vec<double> x) { return exp2(x); }
/// e^x alike, for differences of logits, relative error at most 1.2e-7 (float) but for that of log2 e, 1.4e-8 |x|,
/// which is the same in the forward and the backward pass: sums that cancel there, the gradients of a bias's own terms,
/// are twice as good as by exp2(). (Without a multiply-add x c is rounded after all: 7.5e-8 |x|.)
HWY_INLINE Vec<float> exp_of_difference(Vec<float> x) { return power<float, true, false>(x); }
HWY_INLINE Vec<double> exp_of_difference(Vec<double> x) { return power<double, true, false>(x); }

/// Natural logarithm of positive normal numbers, relative error at most 3e-7 (float) and 1e-15 (double) away from 1;
/// infinity and NaN stay what they are. x = 2^e m with m in [sqrt(1/2), sqrt(2)), and with s = (m - 1) / (m + 1):
/// log m = 2 artanh s = 2 s (1 + s^2 / 3 + s^4 / 5 + ...), |s| < 0.172.
template <class T>
HWY_INLINE Vec<T> log_positive(Vec<T> x) {
  using Int = hwy::MakeSigned<T>;
  constexpr bool kDouble = sizeof(T) == 8;
  constexpr int kMantissa = kDouble ? 52 : 23, kTerms = kDouble ? 11 : 5;
  const Lanes<T> d;
  const hn::RebindToSigned<Lanes<T>> di;
  const auto bits = hn::BitCast(di, x);
  const auto root_half = hn::Set(di, kDouble ? Int(0x3fe6a09e667f3bcdll) : Int(0x3f3504f3));
  const auto e = hn::ShiftRight<kMantissa>(hn::Sub(bits, root_half));
  const Vec<T> m = hn::BitCast(d, hn::Sub(bits, hn::ShiftLeft<kMantissa>(e)));
  const Vec<T> s = hn::Div(hn::Sub(m, set(T(1))), hn::Add(m, set(T(1)))), s2 = hn::Mul(s, s);
  Vec<T> series = set(T(1) / T(2 * kTerms - 1));
  ATTUNE_UNROLL for (int i = kTerms - 2; i >= 0; --i) { series = hn::MulAdd(series, s2, set(T(1) / T(2 * i + 1))); }
  const Vec<T> log_m = hn::Mul(hn::Add(s, s), series);
  const Vec<T> y = hn::MulAdd(hn::ConvertTo(d, e), set(T(0.69314718055994530942)), log_m);
  return hn::IfThenElse(hn::Lt(x, set(std::numeric_limits<T>::infinity())), y, x);
}
HWY_INLINE Vec<float> log(Vec<float> x) { return log_positive<float>(x); }
HWY_INLINE Vec<double> log(Vec<double> x) { return log_positive<double>(x); }

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
