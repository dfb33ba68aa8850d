// The number types that attune stores: float32 and float64 compute in their own type, the half types are storage
// and compute in float32 (round to nearest even on the way back).
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace attune {

enum class DType : std::uint8_t { float32, float64, bfloat16, float16 };

/// Bytes of one element.
constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return 4;
    case DType::float64:
      return 8;
    default:
      return 2;
  }
}

/// "float32", "float64", "bfloat16", "float16".
std::string_view name_of(DType dtype);
/// The reverse of name_of. Throws Error for any other text.
DType dtype_from_name(std::string_view name);

/// 8 exponent bits, 7 mantissa bits: the upper half of a float32.
struct BFloat16 {
  std::uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float x) {
    const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
    // A NaN keeps its sign and is made quiet: rounding could turn it into infinity.
    bits = (u & 0x7fffffffu) > 0x7f800000u ? std::uint16_t((u >> 16) | 0x40u)
                                           : std::uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  explicit operator float() const { return std::bit_cast<float>(std::uint32_t(bits) << 16); }
};

/// IEEE 754 binary16: 5 exponent bits, 10 mantissa bits, subnormals included.
struct Float16 {
  std::uint16_t bits = 0;
  Float16() = default;
  explicit Float16(float x);
  explicit operator float() const;
};

/// The DType of a C++ type: dtype_of<float>() is DType::float32.
template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::float32;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::float64;
}
template <>
constexpr DType dtype_of<BFloat16>() {
  return DType::bfloat16;
}
template <>
constexpr DType dtype_of<Float16>() {
  return DType::float16;
}

/// Converts n elements between any two types; `from` and `to` do not overlap unless the types are equal.
void convert(DType from_type, const void* from, DType to_type, void* to, std::int64_t n);

}  // namespace attune
