// The angles that positions turn by: sines without a branch, the C library's beyond their range, and the steps between.
#include "attune/attention/position/turn.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace attune::turn_tests {
namespace {

detail::Turns turns_with(std::vector<double> frequencies, std::vector<double> fades = {}) {
  detail::Turns t;
  t.resize(int(frequencies.size()), !fades.empty());
  t.frequency = std::move(frequencies);
  t.fade = std::move(fades);
  t.take_steps();
  return t;
}

TEST(Turns, SinesAreExactAtNearAndFarPositions) {
  detail::Turns t = turns_with({1, 0.7498942093324559, 0.31622776601683794, 0.01, 1e-4, 3.7e-6, 0});
  for (const double position : {0.0, 1.0, -1.0, 2.0, 22.0, 355.0, -103993.0, 1048575.0, 1048577.0, 2147483647.0}) {
    t.start(position, 0, t.pairs());
    for (std::size_t k = 0; k < t.frequency.size(); ++k) {
      const long double angle = position * t.frequency[k];  // rounded, as a double
      EXPECT_NEAR(t.cos[k], double(std::cos(angle)), 3e-16) << position << " times " << t.frequency[k];
      EXPECT_NEAR(t.sin[k], double(std::sin(angle)), 3e-16) << position << " times " << t.frequency[k];
      if (t.frequency[k] == 0) {
        EXPECT_EQ(t.cos[k], 1);
      }
    }
  }
}

TEST(Turns, StepsLoseLittleUntilTheNextStart) {
  detail::Turns t = turns_with({1, 0.1, 0.001}, {0.01, 0, -0.02});
  t.middle = 90;
  t.amplitude = 1.5;
  int rows = 0;
  detail::each_run(t, 77, 70, [&](int first, int n, int moving) {
    EXPECT_LE(n, detail::kTurnRestart);
    for (int r = first; r < first + n; ++r, ++rows) {
      if (r > first) t.advance(moving, t.pairs());
      for (std::size_t k = 0; k < 3; ++k) {
        const double size = 1.5 * std::exp(t.fade[k] * (77 + r - 90)), angle = (77 + r) * t.frequency[k];
        EXPECT_NEAR(t.cos[k], size * std::cos(angle), 2e-14);
        EXPECT_NEAR(t.sin[k], size * std::sin(angle), 2e-14);
      }
    }
  });
  EXPECT_EQ(rows, 70);
}

TEST(Turns, AreMadeAnewForOtherNumbers) {
  struct Kind {};
  int made = 0;
  const auto ask = [&](double key, int pairs) {
    return detail::turns_of<Kind>({key}, pairs, false,
                                  [&](detail::Turns& t) {
                                    ++made;
                                    for (double& f : t.frequency) f = key;
                                  })
        .frequency;
  };
  EXPECT_EQ(ask(2, 3), std::vector<double>(3, 2));
  EXPECT_EQ(ask(2, 3), std::vector<double>(3, 2));
  EXPECT_EQ(made, 1);
  EXPECT_EQ(ask(4, 3), std::vector<double>(3, 4));
  EXPECT_EQ(ask(4, 2), std::vector<double>(2, 4));
  EXPECT_EQ(made, 3);
}

}  // namespace
}  // namespace attune::turn_tests
