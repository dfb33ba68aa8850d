#include "attune/base/dtype.hpp"

#include <array>
#include <cstring>

#include "attune/base/error.hpp"

namespace attune {
namespace {
constexpr std::array<std::string_view, 4> kNames = {"float32", "float64", "bfloat16", "float16"};

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

std::string_view name_of(DType dtype) { return kNames[std::size_t(dtype)]; }

DType dtype_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return DType(i);
  }
  fail("dtype_from_name", "one of float32, float64, bfloat16, float16", "got \"" + std::string(name) + "\"");
}

Float16::Float16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    bits = std::uint16_t(sign | 0x7e00u);  // NaN
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
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
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
    with_type(to_type,
              [&](auto b) { convert_all(static_cast<const decltype(a)*>(from), static_cast<decltype(b)*>(to), n); });
  });
}

}  // namespace attune
