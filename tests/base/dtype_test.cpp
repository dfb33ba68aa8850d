// The half types, exhaustively: every bit pattern there and back, and every place between two neighbours where the
// rounding turns over.
#include "attune/base/dtype.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "attune/base/error.hpp"

namespace attune {
namespace {

/// The value of a bit pattern with so many mantissa bits, by the definition of the format.
double value_of(std::uint32_t bits, int mantissa_bits) {
  const int exponent_bits = 15 - mantissa_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = int(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const std::uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(double(mantissa), 1 - bias - mantissa_bits);
  return sign * std::ldexp(double(mantissa + (1u << mantissa_bits)), exponent - bias - mantissa_bits);
}

template <class Half>
Half from_bits(std::uint32_t bits) {
  Half h;
  h.bits = std::uint16_t(bits);
  return h;
}

template <class Half>
void every_pattern_survives(int mantissa_bits) {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float x = float(from_bits<Half>(bits));
    const double want = value_of(bits, mantissa_bits);
    if (std::isnan(want)) {
      const float back = float(Half(x));
      wrong += !std::isnan(x) || !std::isnan(back) || std::signbit(back) != (bits >> 15 != 0);
    } else {
      wrong += double(x) != want || Half(x).bits != bits;  // the sign of zero is in the bits
    }
  }
  EXPECT_EQ(wrong, 0);
}

template <class Half>
void rounds_to_nearest_even(int mantissa_bits) {
  const std::uint32_t infinity = ((1u << (15 - mantissa_bits)) - 1) << mantissa_bits;
  int wrong = 0;
  for (std::uint32_t low = 0; low < infinity; ++low) {
    // Beyond the largest number the next one would be a power of two: from halfway on, infinity.
    const double a = value_of(low, mantissa_bits);
    const double b = low + 1 < infinity ? value_of(low + 1, mantissa_bits) : 2 * a - value_of(low - 1, mantissa_bits);
    const float middle = float((a + b) / 2);
    const std::uint32_t even = low % 2 ? low + 1 : low;
    const float above = std::nextafter(middle, std::numeric_limits<float>::infinity());
    for (const std::uint32_t sign : {0u, 0x8000u}) {
      const float s = sign ? -1.0f : 1.0f;
      wrong += Half(s * middle).bits != (sign | even);
      wrong += Half(s * above).bits != (sign | (low + 1));
      wrong += Half(s * std::nextafter(middle, 0.0f)).bits != (sign | low);
    }
  }
  EXPECT_EQ(wrong, 0);
}

TEST(DType, EveryHalfSurvives) {
  every_pattern_survives<BFloat16>(7);
  every_pattern_survives<Float16>(10);
}
/// convert() of arrays and the conversion of one number give the same bits, NaN included, at every length.
template <class Half>
void arrays_convert_as_numbers() {
  std::vector<Half> halves;
  std::vector<float> floats;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    halves.push_back(from_bits<Half>(bits));
    for (const std::uint32_t low : {0u, 1u, 0x0fffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      floats.push_back(std::bit_cast<float>(bits << 16 | low));
  }
  std::vector<float> wide(halves.size());
  convert(dtype_of<Half>(), halves.data(), DType::float32, wide.data(), std::int64_t(halves.size()));
  std::vector<Half> narrow(floats.size());
  convert(DType::float32, floats.data(), dtype_of<Half>(), narrow.data(), std::int64_t(floats.size()));
  int wrong = 0;
  for (std::size_t i = 0; i < halves.size(); ++i)
    wrong += std::bit_cast<std::uint32_t>(wide[i]) != std::bit_cast<std::uint32_t>(float(halves[i]));
  for (std::size_t i = 0; i < floats.size(); ++i) wrong += narrow[i].bits != Half(floats[i]).bits;
  EXPECT_EQ(wrong, 0);
  for (int n = 0; n < 20; ++n) {
    std::vector<float> some(21, -7.0f);
    convert(dtype_of<Half>(), halves.data() + 15000, DType::float32, some.data(), n);
    for (int i = 0; i < 21; ++i) EXPECT_EQ(some[std::size_t(i)], i < n ? float(halves[std::size_t(15000 + i)]) : -7.0f);
  }
}
TEST(DType, ArraysConvertAsNumbers) {
  arrays_convert_as_numbers<BFloat16>();
  arrays_convert_as_numbers<Float16>();
}

TEST(DType, RoundsToNearestEven) {
  rounds_to_nearest_even<BFloat16>(7);
  rounds_to_nearest_even<Float16>(10);
}

TEST(DType, ConvertsBetweenAnyTwo) {
  const std::vector<double> numbers{0, -0.5, 1, 1.0 / 3, -1000, 65504};
  const DType types[] = {DType::float32, DType::float64, DType::bfloat16, DType::float16};
  for (const DType from : types) {
    for (const DType to : types) {
      double stored[6], result[6], back[6];  // room for 6 numbers of any type
      convert(DType::float64, numbers.data(), from, stored, 6);
      convert(from, stored, to, result, 6);
      convert(to, result, DType::float64, back, 6);
      const bool coarse = from == DType::bfloat16 || to == DType::bfloat16;
      const bool half = coarse || from == DType::float16 || to == DType::float16;
      const double unit = coarse ? 0x1p-8 : half ? 0x1p-11 : from == to && to == DType::float64 ? 0 : 0x1p-24;
      for (int i = 0; i < 6; ++i) {
        // Rounding to bfloat16 may pass float16's largest number.
        if (std::isinf(back[i]) && i == 5) continue;
        EXPECT_LE(std::abs(back[i] - numbers[std::size_t(i)]), 2 * unit * std::abs(numbers[std::size_t(i)]));
      }
    }
  }
}

TEST(DType, Names) {
  for (const DType t : {DType::float32, DType::float64, DType::bfloat16, DType::float16}) {
    EXPECT_EQ(dtype_from_name(name_of(t)), t);
  }
  EXPECT_THROW(dtype_from_name("float23"), Error);
  EXPECT_EQ(size_of(DType::bfloat16), 2u);
  EXPECT_EQ(size_of(DType::float64), 8u);
}

}  // namespace
}  // namespace attune
