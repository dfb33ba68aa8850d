// A logarithm of float32 without a branch or a call, so that a loop over it runs in vector lanes (a call of logf a
// number: 3 to 5 ns; this: the same for sixteen). Other scalars take their own log.
//
//     x = m 2^k, m in [sqrt(1/2), sqrt(2)):    log x = k log 2 + log m
//     log m = 2 atanh s,  s = (m - 1) / (m + 1),  |s| < 0.172:  2 s (1 + s^2/3 + s^4/5 + s^6/7 + s^8/9), to 2e-9
#pragma once
#include <bit>
#include <cstdint>
#include <limits>

#include "attune/attention/scalar.hpp"

namespace attune::detail {

/// 2 atanh s = log((1 + s) / (1 - s)) for |s| < 0.172, relative error at most 3e-7.
inline float twice_atanh(float s) {
  const float t = s * s;
  float p = 2.0f / 9;
  p = p * t + 2.0f / 7;
  p = p * t + 2.0f / 5;
  p = p * t + 2.0f / 3;
  return 2.0f * s + s * t * p;
}

/// log x for normal x > 0, relative error at most 3e-7. Infinity and NaN stay what they are.
inline float lane_log(float x) {
  constexpr std::int32_t kRootHalf = 0x3f3504f3;  // the bits of sqrt(1/2): k counts from there
  const std::int32_t bits = std::bit_cast<std::int32_t>(x) - kRootHalf;
  const float k = float(bits >> 23), m = std::bit_cast<float>((bits & 0x7fffff) + kRootHalf);
  // log 2 in two parts: k times the first is exact.
  const float y = k * 0.693359375f + (k * -2.12194440e-4f + twice_atanh((m - 1.0f) / (m + 1.0f)));
  return x <= std::numeric_limits<float>::max() ? y : x;
}
template <class T>
T lane_log(T x) {
  return log(x);
}

}  // namespace attune::detail
