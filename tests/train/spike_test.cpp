// Running numbers, spikes, collapse and the warm-up clock, on made-up series.
#include "attune/train/spike.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attune/base/error.hpp"
#include "attune/base/rng.hpp"
#include "attune/train/collapse.hpp"
#include "attune/train/warmup_clock.hpp"

namespace attune::train {
namespace {

TEST(RunningScore, IsMeanAndDeviationOfWhatCame) {
  RunningScore score(0, 0);
  EXPECT_EQ(score.z(3), 0);
  for (const double x : {1.0, 2.0, 3.0, 4.0, 4.0, 3.0, 2.0, 1.0}) score.add(x, 100);
  EXPECT_NEAR(score.mean(), 2.5, 1e-12);
  EXPECT_NEAR(score.z(2.5 + std::sqrt(1.25)), 1, 1e-12) << "the deviation of 1, 2, 3, 4";
  const double before = score.mean();
  score.add(1e9, 2);
  EXPECT_LT(score.mean(), before + 0.5) << "an outlier enters as two deviations";
}

TEST(SpikeDetector, SeesWhatSpikesAndNothingElse) {
  SpikeDetector d({});
  Generator g(1);
  const auto loss = [&](int t) { return 2 + 3 * std::exp(-0.02 * t) + 0.1 * g.normal(); };
  int t = 0;
  for (; t < 300; ++t) ASSERT_EQ(d.observe(loss(t), 1 + 0.3 * std::abs(g.normal())), Spike::none) << t;
  EXPECT_EQ(d.observe(20, 1), Spike::none) << "once";
  EXPECT_EQ(d.observe(2, 1), Spike::none);
  EXPECT_EQ(d.observe(20, 1), Spike::none);
  EXPECT_EQ(d.observe(20, 1), Spike::none);
  EXPECT_GT(d.loss_z(), 6);
  EXPECT_EQ(d.observe(20, 1), Spike::loss) << "three in a row";
  EXPECT_EQ(d.observe(2, 1e4), Spike::gradient);
  EXPECT_EQ(d.observe(2, 1), Spike::none);
  EXPECT_EQ(d.observe(std::nan(""), 1), Spike::not_finite);
  EXPECT_EQ(d.observe(1, std::numeric_limits<double>::infinity()), Spike::not_finite);
}

TEST(SpikeDetector, AFlatLossIsNoSpike) {
  SpikeDetector d({});
  for (int t = 0; t < 200; ++t) ASSERT_EQ(d.observe(1e-4, 1e-3), Spike::none);
  for (int t = 0; t < 20; ++t) EXPECT_EQ(d.observe(0.03, 2e-3), Spike::none);
}

TEST(SpikeDetector, GoesOnFromItsNumbers) {
  SpikeDetector a({});
  Generator g(2);
  for (int t = 0; t < 40; ++t) a.observe(g.uniform(), g.uniform());
  GuardNumbers numbers;
  a.save(numbers);
  SpikeDetector b({});
  b.load(numbers);
  for (int t = 0; t < 10; ++t) {
    const double x = g.uniform() * (t > 5 ? 50 : 1);
    EXPECT_EQ(a.observe(x, x), b.observe(x, x));
    EXPECT_EQ(a.loss_z(), b.loss_z());
  }
  numbers.erase("spike/loss");
  EXPECT_THROW(b.load(numbers), Error);
  EXPECT_THROW(SpikeDetector({.patience = 0}), Error);
}

TEST(CollapseDetector, NeedsAllThreeSignsForAWhile) {
  struct Signs {
    double entropy;
    double growth;  // of the scores, an update
    bool no_better, expected;
  };
  for (const Signs& s : {Signs{0.01, 1, true, true}, Signs{0.2, 1, true, false}, Signs{0.01, 0, true, false},
                         Signs{0.01, 1, false, false}}) {
    CollapseDetector d({});
    for (int t = 0; t < 19; ++t) d.observe(s.entropy, 5 + s.growth * t, s.no_better);
    EXPECT_FALSE(d.malignant()) << "not yet";
    for (int t = 19; t < 60; ++t) d.observe(s.entropy, 5 + s.growth * t, s.no_better);
    EXPECT_EQ(d.malignant(), s.expected);
  }
}

TEST(CollapseDetector, LeavesLaterThanItEntered) {
  CollapseDetector d({});
  for (int t = 0; t < 60; ++t) d.observe(0.01, t, true);
  ASSERT_TRUE(d.malignant());
  for (int t = 60; t < 200; ++t) d.observe(0.08, t, true);
  EXPECT_TRUE(d.malignant()) << "above the threshold, but not twice";
  for (int t = 200; t < 260; ++t) d.observe(0.3, t, true);
  EXPECT_FALSE(d.malignant());
}

TEST(WarmupClock, WaitsForHealthAndCatchesUpWithTheSchedule) {
  const optim::Schedule schedule = optim::warmup_linear({.warmup = 10, .total = 100});
  EXPECT_EQ(warmup_length(schedule, 100), 9) << "the first update of ten has a tenth of the rate";
  EXPECT_EQ(warmup_length(optim::Schedule(), 100), 0);
  WarmupClock clock(9);
  std::int64_t t = 0;
  for (; t < 4; ++t) EXPECT_TRUE(clock.tick(t, true));
  EXPECT_EQ(clock.multiplier(schedule, t), 1);
  for (; t < 7; ++t) EXPECT_FALSE(clock.tick(t, false));
  EXPECT_EQ(clock.at(t), 4);
  EXPECT_DOUBLE_EQ(clock.multiplier(schedule, t) * schedule.factor(t), schedule.factor(4));
  for (; clock.warming(t); ++t) {
    EXPECT_LE(clock.multiplier(schedule, t), 1);
    EXPECT_TRUE(clock.tick(t, true));
  }
  EXPECT_EQ(t, 12);
  EXPECT_EQ(clock.multiplier(schedule, t), 1) << "the total stays";
  EXPECT_TRUE(clock.tick(t, false)) << "warm-up is over";
  WarmupClock sick(4);
  std::int64_t made = 0;
  while (sick.warming(made)) sick.tick(made++, false);
  EXPECT_EQ(made, 16) << "four, and at most three times as many held";
}

}  // namespace
}  // namespace attune::train
