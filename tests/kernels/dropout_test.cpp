// Dropout of tiles against the scalar definition, for tiles cut anywhere, and its statistics.
#include "kernels/dropout.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "attune/base/dropout.hpp"

namespace attune::kernels::dropout_tests {
namespace {

template <class T>
class Dropout : public testing::Test {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(Dropout, Scalars);

TYPED_TEST(Dropout, EqualsTheDefinitionForAnyCut) {
  using T = TypeParam;
  const std::uint64_t seed = 0x123456789abcdef0u;
  const std::uint32_t threshold = dropout_threshold(0.3);
  struct Cut {
    int batch, head, query0, queries, key0, keys;
  };
  for (const Cut& c : {Cut{0, 0, 0, 64, 0, 64}, Cut{3, 7, 5, 1, 3, 1}, Cut{1, 2, 100, 23, 13, 30},
                       Cut{0, 31, 4095, 17, 4088, 9}, Cut{2, 0, 7, 40, 7, 2}}) {
    const std::ptrdiff_t stride = c.queries + 3;
    std::vector<T> x(std::size_t(stride * c.keys), T(3));
    drop(x.data(), stride, seed, c.batch, c.head, c.query0, c.queries, c.key0, c.keys, threshold);
    for (int j = 0; j < c.keys; ++j) {
      for (int i = 0; i < stride; ++i) {
        const T want = i >= c.queries ? T(3)
                       : kept(seed, std::uint32_t(c.batch), std::uint32_t(c.head), std::uint32_t(c.query0 + i),
                              std::uint32_t(c.key0 + j), threshold)
                           ? T(3) * T(dropout_scale(threshold))
                           : T(0);
        ASSERT_EQ(x[std::size_t(j * stride + i)], want)
            << "query " << i << ", key " << j << " of a tile at " << c.query0 << ", " << c.key0;
      }
    }
  }
}

TEST(KeptBits, EqualTheDefinition) {
  const std::uint64_t seed = 0x123456789abcdef0u;
  const std::uint32_t threshold = dropout_threshold(0.3);
  for (const auto& [head, query0, queries, key0, keys] :
       {std::array{0, 0, 64, 0, 64}, {7, 5, 1, 3, 1}, {2, 100, 23, 13, 30}, {31, 4095, 17, 4088, 9}}) {
    std::vector<std::uint64_t> rows(std::size_t(keys), 0x5555);
    kept_bits(rows.data(), seed, 1, head, query0, queries, key0, keys, threshold);
    for (int j = 0; j < keys; ++j) {
      for (int i = 0; i < queries; ++i) {
        ASSERT_EQ(rows[std::size_t(j)] >> i & 1,
                  kept(seed, 1, std::uint32_t(head), std::uint32_t(query0 + i), std::uint32_t(key0 + j), threshold));
      }
    }
  }
}

TYPED_TEST(Dropout, DroppedNaNIsGone) {
  using T = TypeParam;
  std::vector<T> x(32 * 32, std::numeric_limits<T>::quiet_NaN());
  drop(x.data(), 32, 5, 0, 0, 0, 32, 0, 32, 32768);
  for (int j = 0; j < 32; ++j) {
    for (int i = 0; i < 32; ++i) {
      const T v = x[std::size_t(j * 32 + i)];
      EXPECT_TRUE(kept(5, 0, 0, std::uint32_t(i), std::uint32_t(j), 32768) ? std::isnan(v) : v == T(0));
    }
  }
}

// The definition in numbers from a second implementation of the published algorithm: a change of the counter map would
// change the masks of every run that is resumed.
TEST(DropoutDefinition, IsPinned) {
  const std::uint32_t bits[8] = {0x838b, 0xcceb, 0xd4ab, 0x94b8, 0x758c, 0x3b19, 0x9304, 0x0e1a};
  for (std::uint32_t e = 0; e < 8; ++e) EXPECT_EQ(dropout_bits(std::uint64_t(6) << 32 | 5, 4, 3, 1, 16 + e), bits[e]);
  EXPECT_EQ(dropout_threshold(0.0), 65536u);
  EXPECT_EQ(dropout_threshold(0.5), 32768u);
  EXPECT_EQ(dropout_threshold(0.1), 58982u);
  EXPECT_EQ(dropout_threshold(0.9999999), 1u);
  EXPECT_TRUE(kept(1, 2, 3, 4, 5, 65536));
}

TEST(DropoutDefinition, SharesAndNeighboursLookIndependent) {
  const double p = 0.1;
  const std::uint32_t threshold = dropout_threshold(p);
  const int n = 400;
  int stays = 0, both_keys = 0, both_queries = 0, both_heads = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    for (std::uint32_t j = 0; j < n; ++j) {
      const bool here = kept(42, 0, 0, i, j, threshold);
      stays += here;
      both_keys += here && kept(42, 0, 0, i, j + 1, threshold);
      both_queries += here && kept(42, 0, 0, i + 1, j, threshold);
      both_heads += here && kept(42, 0, 1, i, j, threshold);
    }
  }
  const double total = double(n) * n, deviation = std::sqrt(0.9 * 0.1 / total);
  EXPECT_NEAR(stays / total, 0.9, 4 * deviation);
  const double pair_deviation = std::sqrt(0.81 * 0.19 / total);
  for (int both : {both_keys, both_queries, both_heads}) EXPECT_NEAR(both / total, 0.81, 6 * pair_deviation);
}

}  // namespace
}  // namespace attune::kernels::dropout_tests
