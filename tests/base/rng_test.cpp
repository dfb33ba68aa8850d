// Philox against the vectors that its authors publish with Random123, and the generator on top of it.
#include "attune/base/rng.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace attune {
namespace {

constexpr PhiloxCounter kOnes{~0u, ~0u, ~0u, ~0u};
// Digits of pi.
constexpr PhiloxCounter kPi{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344};
constexpr PhiloxKey kPiKey{0xa4093822, 0x299f31d0};

TEST(Philox, PublishedVectorsOfTenRounds) {
  EXPECT_EQ(philox<10>({}, {}), (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox<10>(kOnes, {~0u, ~0u}), (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox<10>(kPi, kPiKey), (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}
TEST(Philox, PublishedVectorsOfSevenRounds) {
  EXPECT_EQ(philox<7>({}, {}), (PhiloxCounter{0x5f6fb709, 0x0d893f64, 0x4f121f81, 0x4f730a48}));
  EXPECT_EQ(philox<7>(kOnes, {~0u, ~0u}), (PhiloxCounter{0x5207ddc2, 0x45165e59, 0x4d8ee751, 0x8c52f662}));
  EXPECT_EQ(philox<7>(kPi, kPiKey), (PhiloxCounter{0x4dfccaba, 0x190a87f0, 0xc47362ba, 0xb6b5242a}));
}

TEST(Generator, IsAFunctionOfItsPosition) {
  Generator g(7, 3);
  std::vector<std::uint32_t> words;
  for (int i = 0; i < 11; ++i) words.push_back(g.next_u32());
  EXPECT_EQ(g.position(), 11u);
  Generator again(7, 3);
  again.set_position(6);
  for (int i = 6; i < 11; ++i) EXPECT_EQ(again.next_u32(), words[std::size_t(i)]);
  EXPECT_NE(Generator(7, 4).next_u64(), Generator(7, 3).next_u64());
  EXPECT_NE(Generator(8, 3).next_u64(), Generator(7, 3).next_u64());
}

TEST(Generator, Distributions) {
  Generator g(5);
  constexpr int kMany = 200000;
  double mean = 0, square = 0, sum = 0, least = 1, most = 0;
  for (int i = 0; i < kMany; ++i) {
    const double n = g.normal(), u = g.uniform();
    mean += n / kMany, square += n * n / kMany, sum += u / kMany;
    least = std::min(least, u), most = std::max(most, u);
  }
  // Five standard errors.
  EXPECT_NEAR(mean, 0, 5 / std::sqrt(double(kMany)));
  EXPECT_NEAR(square, 1, 5 * std::sqrt(2.0 / kMany));
  EXPECT_NEAR(sum, 0.5, 5 * std::sqrt(1.0 / 12 / kMany));
  EXPECT_GE(least, 0);
  EXPECT_LT(most, 1);
  int count[3] = {};
  for (int i = 0; i < 30000; ++i) ++count[g.below(3)];
  for (const int n : count) EXPECT_NEAR(n, 10000, 5 * std::sqrt(30000.0 * 2 / 9));
}

TEST(Generator, ShufflesEveryElementOnce) {
  std::vector<int> v(100), sorted;
  std::iota(v.begin(), v.end(), 0);
  sorted = v;
  Generator g(9);
  g.shuffle(v);
  EXPECT_NE(v, sorted);
  std::sort(v.begin(), v.end());
  EXPECT_EQ(v, sorted);
}

}  // namespace
}  // namespace attune
