// The schedule `plateau` in an optimizer: what it hears becomes a factor of the rate and a part of the state. The rule
// itself is compared with PyTorch in schedule_golden_test.cpp. Also what epsilon holds back in Adam and its kin.
#include <gtest/gtest.h>

#include <cmath>

#include "attune/base/error.hpp"
#include "attune/optim/all.hpp"

namespace attune::optim {
namespace {

using schedule::Chained;
using schedule::ReduceOnPlateau;

Tensor weights(std::int64_t n) {
  Tensor w = Tensor::full({n}, 1.0);
  w.requires_grad();
  return w;
}

/// One update with these gradients.
void update(Optimizer& optimizer, const Tensor& w, const std::vector<double>& gradient) {
  optimizer.zero_grad();
  Tensor g = w.grad();
  for (std::int64_t i = 0; i < g.size(); ++i) g.data<float>()[i] = float(gradient[std::size_t(i)]);
  ASSERT_TRUE(optimizer.advance());
}

double factor_named(const Optimizer& optimizer, std::string_view name) {
  for (const RateFactor& f : optimizer.rate_of(0, 0, 1)) {
    if (f.name == name) return f.value;
  }
  return std::nan("");
}

TEST(PlateauSchedule, ItsFactorMultipliesTheRate) {
  const Tensor w = weights(2);
  const Schedule both =
      Chained{.schedules = {ReduceOnPlateau{.cut = 0.5, .patience = 1}, schedule::Linear{.warmup = 2, .total = 10}}};
  AdamW optimizer({w}, {.learning_rate = 0.25, .schedule = both});
  ASSERT_TRUE(optimizer.listens());
  EXPECT_EQ(optimizer.plateau_factor(), 1);
  EXPECT_EQ(optimizer.learning_rate(), 0.125) << "the first of two steps of warm-up";
  EXPECT_EQ(optimizer.observe(3), 1);
  EXPECT_EQ(optimizer.observe(4), 1);
  EXPECT_EQ(optimizer.observe(3), 0.5) << "the second in a row that is not better";
  EXPECT_EQ(optimizer.learning_rate(), 0.0625);
  EXPECT_EQ(factor_named(optimizer, "plateau"), 0.5) << "before the first update";
  update(optimizer, w, {1, 1});
  optimizer.observe(3);
  optimizer.observe(3);
  EXPECT_EQ(factor_named(optimizer, "plateau"), 0.5) << "that of the update";
  EXPECT_EQ(factor_named(optimizer, "schedule"), 0.5);
  EXPECT_DOUBLE_EQ(product_of(optimizer.rate_of(0, 0, 1)), 0.0625);
  EXPECT_EQ(optimizer.learning_rate(), 0.25 * 1 * 0.25);

  AdamW deaf({weights(2)}, {});
  EXPECT_FALSE(deaf.listens());
  EXPECT_TRUE(std::isnan(factor_named(deaf, "plateau")));
  EXPECT_THROW(deaf.observe(1), Error);
}

TEST(PlateauSchedule, ItsStateIsTheOptimizers) {
  const AdamWOptions options{.learning_rate = 0.25,
                             .schedule = ReduceOnPlateau{.cut = 0.5, .patience = 2, .cooldown = 1}};
  const std::vector<double> losses{5, 4, 4, 4, 4, 3.9, 4, 4, 4, 4, 4};
  const Tensor w = weights(2);
  AdamW whole({w}, options);
  std::vector<double> factors;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    AdamW resumed({weights(2)}, options);
    resumed.load_state(whole.state());
    EXPECT_EQ(resumed.learning_rate(), whole.learning_rate()) << i;
    factors.push_back(whole.observe(losses[i]));
    EXPECT_EQ(resumed.observe(losses[i]), factors.back()) << i;
    EXPECT_EQ(resumed.state().numbers, whole.state().numbers) << i;
  }
  EXPECT_LT(factors.back(), factors.front());
  const double heard = whole.plateau_factor();
  EXPECT_THROW(whole.observe(std::nan("")), Error);
  EXPECT_EQ(whole.plateau_factor(), heard);
  // A state of a schedule that does not listen, and one that no plateau could have, change nothing.
  AdamW deaf({weights(2)}, {});
  EXPECT_THROW(whole.load_state(deaf.state()), Error);
  EXPECT_THROW(deaf.load_state(whole.state()), Error);
  OptimizerState broken = whole.state();
  broken.numbers["plateau_factor"] = 2;
  EXPECT_THROW(whole.load_state(broken), Error);
  EXPECT_EQ(whole.plateau_factor(), heard);
  whole.set_schedule(options.schedule);
  EXPECT_EQ(whole.plateau_factor(), 1) << "another schedule has heard nothing";
}

TEST(PlateauSchedule, ListensForAllStepsAndWeightsOrNotAtAll) {
  const Schedule plateau = ReduceOnPlateau{}, line = schedule::Linear{.total = 10};
  EXPECT_TRUE(plateau.listener());
  EXPECT_FALSE(line.listener());
  EXPECT_TRUE(Schedule(Chained{.schedules = {line, plateau}}).listener());
  EXPECT_THROW(Schedule(Chained{.schedules = {plateau, plateau}}), Error);
  EXPECT_THROW(Schedule(schedule::Sequential{.schedules = {line, plateau}, .milestones = {5}, .total = 10}), Error);
  EXPECT_THROW(Schedule(schedule::PerGroup{.groups = {{"otherwise", plateau}}}), Error);
  EXPECT_THROW(Schedule(ReduceOnPlateau{.cut = 1}), Error);
  EXPECT_THROW(Schedule(ReduceOnPlateau{.patience = -1}), Error);
  EXPECT_THROW(Schedule::from_json(R"({"kind": "plateau", "threshold_mode": "rel"})"), Error);
  EXPECT_EQ(Schedule(ReduceOnPlateau{.warmup = 4, .total = 10}).factor(1), 0.5);
}

TEST(Epsilon, CountsTheWeightsThatItHoldsBack) {
  // Gradients far above, just above and below ten epsilon, and none at all: v^ is their square from the first step on.
  const Tensor w = weights(4);
  AdamW optimizer({w}, {.epsilon = 1e-4, .clip_norm = 0});
  EXPECT_EQ(optimizer.epsilon_count(0, 0, 4).moved, 0) << "nothing has been seen";
  for (int step = 0; step < 3; ++step) {
    update(optimizer, w, {1, 1.1e-3, 0.9e-3, 0});
    EXPECT_EQ(optimizer.epsilon_count(0, 0, 4).moved, 3);
    EXPECT_EQ(optimizer.epsilon_count(0, 0, 4).small, 1);
    EXPECT_EQ(optimizer.epsilon_count(0, 0, 2).small, 0);
    EXPECT_EQ(optimizer.epsilon_count(0, 2, 3).small, 1);
  }
  EXPECT_THROW(optimizer.epsilon_count(0, 3, 5), Error);
  const Tensor angle = weights(4), plain = weights(4);
  AdamW without({angle}, {.epsilon = 1e-4, .atan2_scale = 1.27});
  update(without, angle, {1, 1e-6, 1e-6, 0});
  EXPECT_EQ(without.epsilon_count(0, 0, 4).moved, 0) << "an angle has no epsilon";
  Sgd sgd({plain}, {.learning_rate = 0.1});
  update(sgd, plain, {1, 1, 1, 1});
  EXPECT_EQ(sgd.epsilon_count(0, 0, 4).moved, 0);
}

}  // namespace
}  // namespace attune::optim
