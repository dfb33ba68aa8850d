#include "attune/base/dtype.hpp"

#include <array>
#include <cstring>
#include <type_traits>

#include "attune/base/cpu.hpp"
#include "attune/base/error.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace attune {
namespace {
constexpr std::array<std::string_view, 4> kTypeNames = {"float32", "float64", "bfloat16", "float16"};

template <class From, class To>
void convert_all(const From* from, To* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<From, double> || std::is_same_v<From, float>) {
      if constexpr (std::is_same_v<To, double> || std::is_same_v<To, float>) {
        to[i] = To(from[i]);
      } else {
        to[i] = To(float(from[i]));
      }
    } else {
      if constexpr (std::is_same_v<To, double> || std::is_same_v<To, float>) {
        to[i] = To(float(from[i]));
      } else {
        to[i] = To(float(from[i]));
      }
    }
  }
}

#if defined(__x86_64__)
// Between float and a half type eight numbers at a time, the same bits as one by one: attention converts its half-type
// inputs again for every few blocks of queries, and one by one takes longer than the attention of a short sequence.
#define ATTUNE_WIDE [[gnu::target("avx2,f16c")]]

bool is_wide() {
  static const bool wide = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;  // clang 14 has no name for F16C in __builtin_cpu_supports
    return cpu_target() != CpuTarget::scalar && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
  }();
  return wide;
}

ATTUNE_WIDE inline __m256 widen(const BFloat16* from) {
  const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}
ATTUNE_WIDE inline __m256 widen(const Float16* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
ATTUNE_WIDE inline __m128i narrow(__m256 x, BFloat16) {
  const __m256i bits = _mm256_castps_si256(x),
                odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}
ATTUNE_WIDE inline __m128i narrow(__m256 x, Float16) { return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT); }

/// All whole eights; returns how many numbers that were.
template <class Half>
ATTUNE_WIDE std::int64_t widen_eights(const Half* from, float* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(to + i, widen(from + i));
  return i;
}
template <class Half>
ATTUNE_WIDE std::int64_t narrow_eights(const float* from, Half* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), narrow(_mm256_loadu_ps(from + i), Half()));
  return i;
}
#endif

/// What is converted many at a time, from the front; the rest is left to convert_all.
template <class From, class To>
std::int64_t convert_eights([[maybe_unused]] const From* from, [[maybe_unused]] To* to,
                            [[maybe_unused]] std::int64_t n) {
#if defined(__x86_64__)
  constexpr bool kHalfFrom = std::is_same_v<From, BFloat16> || std::is_same_v<From, Float16>;
  constexpr bool kHalfTo = std::is_same_v<To, BFloat16> || std::is_same_v<To, Float16>;
  if constexpr (kHalfFrom && std::is_same_v<To, float>) {
    if (is_wide()) return widen_eights(from, to, n);
  } else if constexpr (std::is_same_v<From, float> && kHalfTo) {
    if (is_wide()) return narrow_eights(from, to, n);
  }
#endif
  return 0;
}

template <class F>
void with_type(DType dtype, F f) {
  switch (dtype) {
    case DType::float32:
      return f(float{});
    case DType::float64:
      return f(double{});
    case DType::bfloat16:
      return f(BFloat16{});
    case DType::float16:
      return f(Float16{});
  }
}
}  // namespace

std::string_view name_of(DType dtype) { return kTypeNames[std::size_t(dtype)]; }

DType dtype_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kTypeNames.size(); ++i) {
    if (kTypeNames[i] == name) return DType(i);
  }
  fail("dtype_from_name", "one of float32, float64, bfloat16, float16", "got \"" + std::string(name) + "\"");
}

Float16::Float16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    bits = std::uint16_t(sign | 0x7e00u | ((u >> 13) & 0x3ffu));  // NaN, quiet, with the upper part of its payload
  } else if (magnitude >= 0x477ff000u) {
    bits = std::uint16_t(sign | 0x7c00u);  // rounds to infinity: at least 65520
  } else if (magnitude < 0x38800000u) {
    // Subnormal: adding 0.5 puts the value's last kept bit (2^-24) at the end of the float's mantissa, rounded to even.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    bits = std::uint16_t(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  } else {
    const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    bits = std::uint16_t(sign | ((rounded - 0x38000000u) >> 13));
  }
}

Float16::operator float() const {
  const std::uint32_t sign = std::uint32_t(bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u,
                      mantissa = bits & 1023u;
  if (exponent == 31) return std::bit_cast<float>(sign | (mantissa ? 0x7fc00000u : 0x7f800000u) | (mantissa << 13));
  if (exponent == 0) {
    const float value = float(mantissa) * 0x1p-24f;
    return sign ? -value : value;
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

void convert(DType from_type, const void* from, DType to_type, void* to, std::int64_t n) {
  if (n <= 0) return;
  if (from_type == to_type) {
    std::memmove(to, from, std::size_t(n) * size_of(from_type));
    return;
  }
  with_type(from_type, [&](auto a) {
    with_type(to_type, [&](auto b) {
      const auto* source = static_cast<const decltype(a)*>(from);
      auto* target = static_cast<decltype(b)*>(to);
      const std::int64_t done = convert_eights(source, target, n);
      convert_all(source + done, target + done, n - done);
    });
  });
}

}  // namespace attune
