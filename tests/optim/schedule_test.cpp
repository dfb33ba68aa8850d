// The six schedules of every day against their own promises: edges, phases of no length, steps past the end, and text
// that gives the same factors back, bit for bit. What all kinds promise: schedule_kinds_test; golden values:
// schedule_golden_test.
#include "attune/optim/schedule.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "attune/base/error.hpp"
#include "message_of.hpp"

namespace attune::optim {
namespace {

using schedule::PastEnd;
using schedule::WarmupStart;
using testing::message_of;

/// One of each kind, with a warm-up of `warmup` and an end at `total`.
std::vector<Schedule> one_of_each(double warmup, std::int64_t total) {
  return {schedule::Constant{.warmup = warmup, .total = total},
          schedule::Linear{.warmup = warmup, .total = total},
          schedule::Cosine{.warmup = warmup, .total = total},
          schedule::Noam{.warmup = warmup, .total = total},
          schedule::InverseSqrt{.warmup = warmup, .total = total},
          schedule::Wsd{.warmup = warmup, .decay = 0, .total = total}};
}

TEST(Schedule, PublishedPeaksOfNoam) {
  const schedule::Noam noam{.warmup = 4000, .model_dim = 512};
  EXPECT_NEAR(noam.factor(0), 1.746928107e-7, 1e-16);
  EXPECT_NEAR(noam.factor(1999), 3.493856215e-4, 1e-13);
  EXPECT_NEAR(noam.factor(3999), 1 / std::sqrt(512.0 * 4000), 1e-15);
  EXPECT_NEAR(noam.factor(15999), 3.493856215e-4, 1e-13);
}

TEST(Schedule, FirstUpdateLearnsByDefault) {
  for (const Schedule& s : one_of_each(10, 100)) EXPECT_GT(s.factor(0), 0) << s.kind();
  EXPECT_DOUBLE_EQ(Schedule(schedule::Linear{.warmup = 10, .total = 100}).factor(0), 0.1);
  EXPECT_DOUBLE_EQ(Schedule(schedule::Linear{.warmup = 10, .total = 100}).factor(9), 1);
  const schedule::Linear zero{.warmup = 10, .total = 100, .warmup_start = WarmupStart::zero};
  EXPECT_EQ(zero.factor(0), 0);
  const schedule::Linear value{.warmup = 10, .total = 100, .warmup_start = WarmupStart::value, .warmup_from = 0.2};
  EXPECT_DOUBLE_EQ(value.factor(0), 0.2);
  EXPECT_DOUBLE_EQ(value.factor(5), 0.6);
  EXPECT_DOUBLE_EQ(value.factor(10), 1);
}

TEST(Schedule, PhasesWithoutLengthAreJumps) {
  for (const auto& [warmup, total] : std::vector<std::pair<double, std::int64_t>>{{0, 20}, {20, 20}, {0, 1}, {1, 1}}) {
    for (const Schedule& s : one_of_each(warmup, total)) {
      for (std::int64_t t = 0; t <= total + 3; ++t) {
        const double f = s.factor(t);
        EXPECT_TRUE(std::isfinite(f) && f >= 0 && f <= 1)
            << s.kind() << " W " << warmup << " T " << total << " at " << t;
      }
    }
  }
  const schedule::Wsd only_decay{.warmup = 0, .decay = 8, .total = 8, .min_ratio = 0.1};
  EXPECT_EQ(only_decay.factor(0), 1);
  EXPECT_EQ(only_decay.factor(8), 0.1);
}

TEST(Schedule, LastStepAndPastTheEnd) {
  const schedule::Linear linear{.warmup = 4, .total = 20, .min_ratio = 0.25};
  EXPECT_DOUBLE_EQ(linear.factor(19), 0.25 + 0.75 / 16);
  EXPECT_EQ(linear.factor(20), 0.25);
  EXPECT_EQ(linear.factor(1000), 0.25);
  schedule::Cosine cosine{.warmup = 4, .total = 20};
  EXPECT_NEAR(cosine.factor(28), 0, 1e-15);
  cosine.past_end = PastEnd::reference;
  EXPECT_NEAR(cosine.factor(28), 0.5, 1e-15);
  EXPECT_NEAR(cosine.factor(36), 1, 1e-15);
  cosine.past_end = PastEnd::error;
  EXPECT_NEAR(cosine.factor(20), 0, 1e-15);
  EXPECT_EQ(message_of([&] { cosine.factor(21); }), "schedule cosine: a step of at most 20, got 21");
  schedule::Wsd wsd{.warmup = 4, .decay = 8, .total = 20, .min_ratio = 0.1, .past_end = PastEnd::error};
  EXPECT_THROW(wsd.factor(21), Error);
  schedule::Linear strict{.total = 20, .past_end = PastEnd::error};
  EXPECT_THROW(strict.factor(21), Error);
  EXPECT_THROW(Schedule(linear).factor(-1), Error);
}

TEST(Schedule, RisesThenFalls) {
  for (const Schedule& s : one_of_each(50, 400)) {
    for (std::int64_t t = 1; t < 50; ++t) EXPECT_GT(s.factor(t), s.factor(t - 1)) << s.kind() << " at " << t;
    for (std::int64_t t = 51; t < 400; ++t) EXPECT_LE(s.factor(t), s.factor(t - 1)) << s.kind() << " at " << t;
  }
  for (const auto curve : {schedule::Curve::linear, schedule::Curve::cosine, schedule::Curve::one_minus_sqrt,
                           schedule::Curve::exponential, schedule::Curve::square}) {
    const schedule::Wsd wsd{.warmup = 10, .decay = 50, .total = 100, .min_ratio = 0.1, .decay_shape = curve};
    EXPECT_EQ(wsd.factor(10), 1);
    EXPECT_EQ(wsd.factor(49), 1);
    EXPECT_EQ(wsd.factor(50), 1) << name_of(curve);
    for (std::int64_t t = 51; t <= 100; ++t) EXPECT_LT(wsd.factor(t), wsd.factor(t - 1)) << name_of(curve) << t;
    EXPECT_EQ(wsd.factor(100), 0.1);
  }
}

TEST(Schedule, WarmupAsAShare) {
  const Schedule share = warmup_linear({.warmup = 0.1, .total = 4400});
  const Schedule steps = warmup_linear({.warmup = 440, .total = 4400});
  for (std::int64_t t = 0; t < 4400; t += 7) EXPECT_EQ(share.factor(t), steps.factor(t));
}

TEST(Schedule, DecayNowEndsEarly) {
  const schedule::Wsd wsd{.warmup = 10, .decay = 0.2, .total = 100};
  const schedule::Wsd early = wsd.decay_from(40);
  EXPECT_EQ(early.total, 60);
  for (std::int64_t t = 0; t <= 40; ++t) EXPECT_EQ(early.factor(t), wsd.factor(t));
  for (std::int64_t t = 40; t <= 60; ++t) EXPECT_EQ(early.factor(t), wsd.factor(t + 40));
  EXPECT_EQ(wsd.decay_from(3).total, 30);    // not before the warm-up is over
  EXPECT_EQ(wsd.decay_from(95).total, 100);  // not after the decay has begun
}

TEST(Schedule, TextGivesTheSameFactorsBack) {
  for (const Schedule& s : one_of_each(7, 50)) {
    const Schedule again = Schedule::from_json(s.json());
    EXPECT_EQ(again.spec(), s.spec());
    // Closed forms have no state: a run that stops at any k and goes on sees the same factors.
    for (std::int64_t t = 0; t < 60; ++t) EXPECT_EQ(again.factor(t), s.factor(t)) << s.kind() << " at " << t;
  }
  const Schedule f = Schedule::from_function([](std::int64_t t) { return 1.0 / double(1 + t); });
  EXPECT_EQ(f.factor(3), 0.25);
  EXPECT_THROW(f.json(), Error);
}

TEST(Schedule, RefusesWhatMakesNoSchedule) {
  const double nan = std::nan("");
  EXPECT_THROW(Schedule(schedule::Linear{.warmup = 21, .total = 20}), Error);
  EXPECT_THROW(Schedule(schedule::Linear{.warmup = nan, .total = 20}), Error);
  EXPECT_THROW(Schedule(schedule::Linear{.warmup = -1, .total = 20}), Error);
  EXPECT_THROW(Schedule(schedule::Linear{.warmup = 2.5, .total = 20}), Error);
  EXPECT_THROW(Schedule(schedule::Linear{.warmup = 2}), Error);
  EXPECT_THROW(Schedule(schedule::Linear{.total = 20, .min_ratio = 1.5}), Error);
  EXPECT_THROW(Schedule(schedule::Constant{.warmup = 0.1}), Error);
  EXPECT_THROW(Schedule(schedule::Cosine{.total = 20, .cycles = nan}), Error);
  EXPECT_THROW(Schedule(schedule::Noam{.model_dim = 0}), Error);
  EXPECT_THROW(Schedule(schedule::InverseSqrt{.timescale = -4}), Error);
  EXPECT_THROW(Schedule(schedule::Wsd{.warmup = 15, .decay = 10, .total = 20}), Error);
  EXPECT_EQ(message_of([] { Schedule::from_json(R"({"kind": "consine", "total": 3})"); }),
            fmt::format("Schedule::from_spec: a schedule of {}, got `consine`; the nearest is `cosine`",
                        fmt::join(schedule_kinds(), ", ")));
  EXPECT_EQ(
      message_of([] { Schedule::from_json(R"({"kind": "noam", "warmpu": 3})"); }),
      "schedule noam: a field of warmup, total, model_dim, scale, past_end, got `warmpu`; the nearest is `warmup`");
  EXPECT_EQ(message_of([] { Schedule::from_json(R"({"kind": "linear", "total": 3, "past_end": "stop"})"); }),
            "schedule linear: `past_end`, one of hold, reference, error, got \"stop\"");
  EXPECT_THROW(Schedule::from_json("{"), Error);
  EXPECT_THROW(Schedule::from_json(R"({"kind": "linear", "total": 2.5})"), Error);
  EXPECT_THROW(Schedule::from_json(R"({"kind": "linear", "total": [3]})"), Error);
}

}  // namespace
}  // namespace attune::optim
