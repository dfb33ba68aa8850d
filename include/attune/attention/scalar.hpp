// The scalars that stages are written over: float, double and Dual<S>, and the functions that all of them share.
//
// A Dual carries a value v and a tangent d (v + d*eps, eps^2 = 0): running a formula on duals gives the formula's exact
// directional derivative. Duals nest, so Dual<Dual<double>> gives second derivatives.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <type_traits>

namespace attune {

template <class S>
struct Dual {
  S v{}, d{};
  Dual() = default;
  Dual(S value, S tangent) : v(value), d(tangent) {}
  Dual(S value) : v(value) {}
  template <class A>
  requires(std::is_arithmetic_v<A> && !std::is_same_v<A, S>) Dual(A value) : v(S(value)) {}

  friend Dual operator+(Dual a, Dual b) { return {a.v + b.v, a.d + b.d}; }
  friend Dual operator-(Dual a, Dual b) { return {a.v - b.v, a.d - b.d}; }
  friend Dual operator-(Dual a) { return {-a.v, -a.d}; }
  friend Dual operator*(Dual a, Dual b) { return {a.v * b.v, a.d * b.v + a.v * b.d}; }
  friend Dual operator/(Dual a, Dual b) {
    const S q = a.v / b.v;
    return {q, (a.d - q * b.d) / b.v};
  }
  friend bool operator<(Dual a, Dual b) { return a.v < b.v; }
  friend bool operator>(Dual a, Dual b) { return b.v < a.v; }
  friend bool operator<=(Dual a, Dual b) { return a.v <= b.v; }
  friend bool operator>=(Dual a, Dual b) { return b.v <= a.v; }
  friend bool operator==(Dual a, Dual b) { return a.v == b.v; }
  Dual& operator+=(Dual b) { return *this = *this + b; }
  Dual& operator-=(Dual b) { return *this = *this - b; }
  Dual& operator*=(Dual b) { return *this = *this * b; }
  Dual& operator/=(Dual b) { return *this = *this / b; }
};

template <class T>
inline constexpr bool is_dual = false;
template <class S>
inline constexpr bool is_dual<Dual<S>> = true;

/// e^x, relative error at most 2e-7, without branches so that loops over it vectorise. Below -87.3 the result is 0
/// (the true value would be a denormal), above 88.7 infinity; NaN gives NaN.
inline float exp(float x) {
  const float t = x > -87.3f ? (x < 88.7f ? x : 88.7f) : -87.3f;  // NaN becomes -87.3 here and NaN again below
  // n = round(t / ln 2): adding 1.5 * 2^23 leaves the integer in the low bits.
  const float n = (t * 1.44269504f + 12582912.0f) - 12582912.0f;
  // ln 2 in two parts: n times the first is exact.
  const float r = t - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  // 2^n in two steps: n = 128 alone would leave the exponent's range.
  const int half = int(n) / 2;
  const float y = (p * r * r + r + 1.0f) * std::bit_cast<float>((half + 127) << 23) *
                  std::bit_cast<float>((int(n) - half + 127) << 23);
  return x < -87.3f ? 0.0f : x > 88.7f ? std::numeric_limits<float>::infinity() : x != x ? x : y;
}
using ::exp;  // of double: the same function as the global one, so that `using namespace attune` stays unambiguous

/// tanh x, relative error at most 4e-7: a rational function of degree 13 over 6.
inline float tanh(float a) {
  const float x = a < -7.9f ? -7.9f : a > 7.9f ? 7.9f : a, s = x * x;
  float p = -2.76076847742355e-16f, q = 1.19825839466702e-06f;
  p = p * s + 2.00018790482477e-13f;
  p = p * s - 8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  q = q * s + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return x * p / q;
}
using ::tanh;

inline float log(float x) { return std::log(x); }
using ::log;
inline float sqrt(float x) { return std::sqrt(x); }
using ::sqrt;
using std::abs;

template <class S>
Dual<S> exp(Dual<S> a) {
  const S e = exp(a.v);
  return {e, e * a.d};
}
template <class S>
Dual<S> log(Dual<S> a) {
  return {log(a.v), a.d / a.v};
}
template <class S>
Dual<S> tanh(Dual<S> a) {
  const S t = tanh(a.v);
  return {t, (S(1) - t * t) * a.d};
}
template <class S>
Dual<S> sqrt(Dual<S> a) {
  const S r = sqrt(a.v);
  return {r, a.d / (S(2) * r)};
}
template <class S>
Dual<S> abs(Dual<S> a) {
  return a.v < S(0) ? -a : a;
}
/// The larger; where both are equal, the first.
template <class T>
T maximum(T a, T b) {
  return a < b ? b : a;
}
template <class T>
T minimum(T a, T b) {
  return b < a ? b : a;
}

/// What the driver writes in place of a hidden logit: exp of it is exactly 0.
template <class T>
const T kHidden = T(-std::numeric_limits<double>::infinity());

inline bool is_finite(float x) { return std::isfinite(x); }
inline bool is_finite(double x) { return std::isfinite(x); }
template <class S>
bool is_finite(Dual<S> x) {
  return is_finite(x.v) && is_finite(x.d);
}

}  // namespace attune
