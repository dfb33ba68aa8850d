// The small operations on tiles against plain loops, at every tail, with untouched surroundings.
#include "kernels/lanes.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "attune/base/rng.hpp"
#include "kernels/denormals.hpp"

namespace attune::kernels::lanes_tests {
namespace {

template <class T>
std::vector<T> random_numbers(int n, std::uint64_t seed) {
  Generator generator(seed);
  std::vector<T> v(static_cast<std::size_t>(n));
  for (T& x : v) x = T(generator.uniform(-1, 1));
  return v;
}

template <class T>
class TileLanes : public testing::Test {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(TileLanes, Scalars);

TYPED_TEST(TileLanes, Transpose) {
  using T = TypeParam;
  for (int rows : {0, 1, 3, 4, 16, 17, 33}) {
    for (int cols : {1, 2, 5, 8, 16, 31, 40}) {
      const int ss = cols + 1, ds = rows + 2;
      const auto src = random_numbers<T>(rows * ss + 1, 1);
      const auto before = random_numbers<T>(cols * ds, 2);
      auto dst = before, sum = before, back = before;
      transpose(src.data(), ss, rows, cols, dst.data(), ds, T(0.5));
      add_from_rows(src.data(), ss, rows, cols, sum.data(), ds);
      add_to_rows(src.data(), ss, rows, cols, back.data(), ds);
      for (int c = 0; c < cols; ++c) {
        for (int r = 0; r < ds; ++r) {
          const std::size_t at = std::size_t(c * ds + r);
          ASSERT_EQ(dst[at], r < rows ? src[std::size_t(r * ss + c)] * T(0.5) : before[at]) << rows << " x " << cols;
          ASSERT_EQ(sum[at], back[at]);
          ASSERT_EQ(sum[at], r < rows ? src[std::size_t(r * ss + c)] + before[at] : before[at]);
        }
      }
    }
  }
}

TYPED_TEST(TileLanes, Hide) {
  using T = TypeParam;
  Generator generator(3);
  for (int queries : {1, 2, 7, 16, 23, 63, 64}) {
    const int keys = 9, stride = queries + 1;
    auto x = random_numbers<T>(keys * stride, 4);
    x[0] = std::numeric_limits<T>::quiet_NaN();
    auto zeroed = x;
    const auto before = x;
    std::vector<std::uint64_t> bits(keys);
    for (auto& b : bits) b = generator.next_u64();
    bits[0] &= ~std::uint64_t(1);
    bits[1] = ~std::uint64_t(0);
    bits[2] = 0;
    hide(x.data(), stride, queries, keys, bits.data());
    hide(zeroed.data(), stride, queries, keys, bits.data(), T(0));
    for (int j = 0; j < keys; ++j) {
      for (int i = 0; i < stride; ++i) {
        const std::size_t at = std::size_t(j * stride + i);
        const bool stays = i >= queries || (bits[std::size_t(j)] >> i & 1);
        ASSERT_EQ(x[at], stays ? before[at] : -std::numeric_limits<T>::infinity()) << queries << ": " << j << " " << i;
        ASSERT_EQ(zeroed[at], stays ? before[at] : T(0));
      }
    }
  }
}

TYPED_TEST(TileLanes, ScaleAndAdd) {
  using T = TypeParam;
  for (int n : {1, 3, 8, 16, 21, 64}) {
    const int rows = 5, stride = n + 2;
    const auto x = random_numbers<T>(rows * stride, 5), factor = random_numbers<T>(n, 6);
    auto scaled = x, sum = x, halved = x;
    scale_lanes(scaled.data(), stride, rows, n, factor.data());
    add_scaled_rows(x.data(), stride, rows, n, T(0.5), sum.data(), stride);
    scaled_rows(x.data(), stride, rows, n, T(0.5), halved.data(), stride);
    for (int i = 0; i < stride; ++i) {
      for (int r = 0; r < rows; ++r) {
        const std::size_t at = std::size_t(r * stride + i);
        ASSERT_EQ(scaled[at], i < n ? x[at] * factor[std::size_t(i)] : x[at]);
        ASSERT_NEAR(sum[at], i < n ? x[at] * T(1.5) : x[at], 1e-6);
        ASSERT_EQ(halved[at], i < n ? x[at] * T(0.5) : x[at]);
      }
    }
  }
}

TYPED_TEST(TileLanes, AllFiniteFindsEveryPlace) {
  using T = TypeParam;
  const int rows = 3;
  for (int cols : {1, 5, 16, 37}) {
    const int stride = cols + 1;
    auto x = random_numbers<T>(rows * stride, 7);
    x[0] = std::numeric_limits<T>::max();
    for (int r = 0; r < rows; ++r) x[std::size_t(r * stride + cols)] = std::numeric_limits<T>::quiet_NaN();  // outside
    EXPECT_TRUE(all_finite(x.data(), rows, cols, stride));
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < cols; ++c) {
        for (T bad : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity(),
                      -std::numeric_limits<T>::infinity()}) {
          const T good = x[std::size_t(r * stride + c)];
          x[std::size_t(r * stride + c)] = bad;
          EXPECT_FALSE(all_finite(x.data(), rows, cols, stride)) << r << ", " << c;
          x[std::size_t(r * stride + c)] = good;
        }
      }
    }
  }
  EXPECT_TRUE(all_finite(static_cast<const T*>(nullptr), 0, 5, 5));
}

TYPED_TEST(TileLanes, DotRows) {
  using T = TypeParam;
  for (int cols : {1, 4, 15, 64, 77}) {
    const int rows = 4;
    const auto a = random_numbers<T>(rows * cols, 8), b = random_numbers<T>(rows * (cols + 3), 9);
    std::vector<T> out(rows + 1, T(9));
    dot_rows(a.data(), cols, b.data(), cols + 3, rows, cols, out.data());
    for (int r = 0; r < rows; ++r) {
      double sum = 0;
      for (int c = 0; c < cols; ++c)
        sum += double(a[std::size_t(r * cols + c)]) * double(b[std::size_t(r * (cols + 3) + c)]);
      EXPECT_NEAR(double(out[std::size_t(r)]), sum, sizeof(T) == 4 ? 1e-5 : 1e-14);
    }
    EXPECT_EQ(out[rows], T(9));
  }
}

TEST(FlushDenormals, HoldsAndRestores) {
  volatile float tiny = 1e-38f;
  volatile float denormal = tiny / 8;
  EXPECT_GT(denormal, 0.0f);
  {
    FlushDenormals flush;
#if defined(__x86_64__) || defined(__aarch64__)
    volatile float flushed = tiny / 8;
    EXPECT_EQ(flushed, 0.0f);
#endif
  }
  denormal = tiny / 8;
  EXPECT_GT(denormal, 0.0f);
}

}  // namespace
}  // namespace attune::kernels::lanes_tests
