// The guard on a small model: it does nothing where nothing is wrong, keeps its limits where something is, and goes on
// after a resume as if nothing had been.
#include "attune/train/attention_guard.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "attune/base/error.hpp"
#include "guard_toy.hpp"

namespace attune::train {
namespace {

using guard_toy::Harm;
using guard_toy::Toy;

/// Limits that nothing reaches.
GuardOptions never(GuardMode mode) {
  return {.mode = mode, .limit = 1e9, .tau = 1e9, .healthy_gradient = 1e9, .healthy_growth = 1e9};
}

TEST(AttentionGuard, WhereNothingActsTrainingIsTheSame) {
  Toy off({.mode = GuardMode::off});
  off.updates(45);
  for (const GuardMode mode : {GuardMode::observe, GuardMode::lr, GuardMode::clip, GuardMode::full}) {
    Toy guarded(never(mode));
    guarded.updates(45);  // over two snapshots
    EXPECT_EQ(guarded.weights(), off.weights()) << name_of(mode);
    EXPECT_TRUE(guarded.events.empty()) << name_of(mode);
  }
}

TEST(AttentionGuard, ObservingTellsAndChangesNothing) {
  Toy off({.mode = GuardMode::off}, {.learning_rate = 3e-2});
  Toy observed({.mode = GuardMode::observe, .limit = 1e-3, .tau = 1.5, .warmup = 10, .healthy_gradient = 0.1},
               {.learning_rate = 3e-2});
  for (int i = 0; i < 40; ++i) {
    const Harm harm{.gradient = i == 30 ? 1e4 : 1, .not_finite = i == 35};
    off.update(harm);
    observed.update(harm);
  }
  EXPECT_EQ(observed.weights(), off.weights());
  EXPECT_GT(observed.count("would_scale"), 0);
  EXPECT_GT(observed.count("would_clip"), 0);
  EXPECT_GT(observed.count("would_hold"), 0);
  EXPECT_EQ(observed.count("would_roll_back"), 2) << "the gradient and the loss";
  for (const GuardEvent& e : observed.events) EXPECT_TRUE(e.action.starts_with("would_")) << e.action;
}

/// What an update would move a query head's scores by, from the definition.
double move_of(const Toy& toy, const nn::AttentionSite& site, const HeadSignals& signals, std::size_t head) {
  const auto relative = [&](const nn::HeadProjection& p) {
    const auto ratio = [&](std::initializer_list<const nn::TensorRows*> parts) {
      double update = 0, weight = 0;
      for (const nn::TensorRows* rows : parts) {
        if (!rows->tensor.defined()) continue;
        const std::size_t i = toy.optimizer.index_of(rows->tensor);
        update += std::pow(toy.optimizer.update_norm(i, rows->first, rows->end), 2);
        weight += std::pow(toy.optimizer.weight_norm(i, rows->first, rows->end), 2);
      }
      return weight > 0 ? std::sqrt(update / weight) : 0;
    };
    return (1 + ratio({&p.weight, &p.bias})) * (1 + ratio({&p.gain})) - 1;
  };
  const double q = relative(site.queries[head]), k = relative(site.keys[head / std::size_t(site.group())]);
  return std::max(1.0, signals.score) * (q + k + q * k);
}

TEST(AttentionGuard, NoHeadMovesBeyondTheLimit) {
  for (const Toy::Model& model :
       {Toy::Model{.learning_rate = 3e-2, .num_kv_heads = 4}, Toy::Model{.learning_rate = 3e-2, .num_kv_heads = 2},
        Toy::Model{.learning_rate = 3e-2, .num_kv_heads = 1},
        Toy::Model{.learning_rate = 3e-2, .num_kv_heads = 4, .stability = {nn::QkNorm::rms}},
        Toy::Model{.learning_rate = 3e-2, .num_kv_heads = 2, .stability = {nn::QkNorm::l2}},
        Toy::Model{.learning_rate = 3e-2, .num_kv_heads = 4, .stability = {.sigma_reparam = true}}}) {
    constexpr double kLimit = 0.02;
    Toy toy({.mode = GuardMode::lr, .limit = kLimit}, model);
    // A head that shares rows with another may be cut further than it needs.
    const bool alone = model.num_kv_heads == 4 && !model.stability.sigma_reparam;
    int cut = 0;
    for (int step = 0; step < 25; ++step) {
      toy.guard.begin();
      const auto statistics = toy.pass();
      ASSERT_TRUE(toy.optimizer.propose());
      const auto& sites = toy.guard.sites();
      const auto signals = head_signals(sites, statistics);
      std::vector<std::vector<double>> before;
      std::vector<double> value_before;
      for (std::size_t i = 0; i < sites.size(); ++i) {
        before.emplace_back();
        for (std::size_t h = 0; h < 4; ++h) before[i].push_back(move_of(toy, sites[i], signals[i][h], h));
        const Tensor& in = sites[i].queries[0].weight.tensor;
        value_before.push_back(
            toy.optimizer.update_norm(toy.optimizer.index_of(in), sites[i].keys.back().weight.end, in.shape()[0]));
      }
      ASSERT_TRUE(toy.guard.inspect({toy.loss, true, statistics}));
      for (std::size_t i = 0; i < sites.size(); ++i) {
        for (std::size_t h = 0; h < 4; ++h) {
          const double after = move_of(toy, sites[i], signals[i][h], h);
          EXPECT_LE(after, kLimit * (1 + 1e-5)) << "step " << step << " head " << h;
          EXPECT_LE(after, before[i][h] * (1 + 1e-6));
          // A head within the limit keeps its rate, unless a head that shares its keys was cut.
          if (before[i][h] <= kLimit && alone) {
            EXPECT_DOUBLE_EQ(after, before[i][h]);
          }
          cut += before[i][h] > kLimit;
        }
        const Tensor& in = sites[i].queries[0].weight.tensor;
        EXPECT_EQ(toy.optimizer.update_norm(toy.optimizer.index_of(in), sites[i].keys.back().weight.end, in.shape()[0]),
                  value_before[i])
            << "values are none of its business";
      }
      toy.optimizer.apply();
      toy.guard.finish();
    }
    EXPECT_GT(cut, 20);
    EXPECT_EQ(toy.count("scale"), cut);
    EXPECT_LT(std::min_element(toy.events.begin(), toy.events.end(),
                               [](const auto& a, const auto& b) { return a.after < b.after; })
                  ->after,
              0.9);
  }
}

TEST(AttentionGuard, ClippedHeadsStayBelowTau) {
  for (const Toy::Model& model :
       {Toy::Model{.learning_rate = 0, .num_kv_heads = 4}, Toy::Model{.learning_rate = 0, .num_kv_heads = 2},
        Toy::Model{.learning_rate = 0, .stability = {nn::QkNorm::rms}},
        Toy::Model{.learning_rate = 0, .num_kv_heads = 1, .stability = {nn::QkNorm::l2}},
        Toy::Model{.learning_rate = 0, .stability = {.sigma_reparam = true}}}) {
    Toy toy({.mode = GuardMode::clip, .tau = 0.5}, model);
    const auto largest = [&](const std::vector<SiteStatistics>& statistics) {
      double most = 0;
      for (const auto& heads : head_signals(toy.guard.sites(), statistics)) {
        for (const HeadSignals& head : heads) most = std::max(most, head.score);
      }
      return most;
    };
    for (const Tensor& p : toy.model.parameters()) {  // large projections, and bias terms that are not 0
      Tensor t = p;
      if (t.rank() == 1 && t.shape()[0] > 16) t.fill(0.3);
    }
    toy.guard.begin();
    const auto statistics = toy.pass();
    const double before = largest(statistics);
    ASSERT_GT(before, 1);
    ASSERT_TRUE(toy.optimizer.propose());
    ASSERT_TRUE(toy.guard.inspect({toy.loss, true, statistics}));
    toy.optimizer.apply();  // at rate 0
    toy.guard.finish();
    EXPECT_GT(toy.count("clip"), 0);
    EXPECT_EQ(toy.guard.report().clipped_heads, toy.count("clip"));
    // The first layer's input is as before, so its scores are exactly what was asked for.
    toy.cursor = 0;
    toy.model.set_generator(Generator(9, 1));
    const auto again = toy.pass();
    EXPECT_LT(largest(again), before);
    const auto signals = head_signals(toy.guard.sites(), again);
    double most = 0;
    for (const HeadSignals& head : signals[0]) most = std::max(most, head.score);
    EXPECT_NEAR(most, 0.5, 1e-5);
  }
}

GuardOptions lively() {
  return {.mode = GuardMode::full,
          .limit = 0.03,
          .tau = 3,
          .closed_loop = true,
          .steps = 120,
          .warmup = 10,
          .healthy_growth = 1.1,
          .most_rollbacks = 5};
}

TEST(AttentionGuard, ResumedRunsEndWithTheSameBits) {
  // Spikes at updates 45 and 75, of those that are made; a resume before, between and after them.
  const auto harm = [](int i) { return Harm{.gradient = i == 45 ? 1e4 : 1, .not_finite = i == 75}; };
  constexpr int kUpdates = 100;
  Toy whole(lively(), {.learning_rate = 3e-2});
  for (int i = 0; i < kUpdates; ++i) whole.update(harm(i));
  EXPECT_EQ(whole.guard.rollbacks(), 2);
  EXPECT_GT(whole.count("scale"), 0);
  for (const int at : {1, 33, 50, 90}) {
    Toy first(lively(), {.learning_rate = 3e-2});
    for (int i = 0; i < at; ++i) first.update(harm(i));
    Toy second(lively(), {.learning_rate = 3e-2});
    std::vector<Tensor> to = second.model.parameters();
    for (std::size_t p = 0; p < to.size(); ++p) to[p].copy_from(first.model.parameters()[p]);
    second.optimizer.load_state(first.optimizer.state());
    second.model.set_generator(first.model.generator());
    second.cursor = first.cursor;
    second.guard.load_state(first.guard.state());
    for (int i = at; i < kUpdates; ++i) second.update(harm(i));
    EXPECT_EQ(second.weights(), whole.weights()) << "resumed at " << at;
    EXPECT_EQ(second.events.size() + first.events.size(), whole.events.size()) << "resumed at " << at;
    EXPECT_EQ(second.optimizer.step(), whole.optimizer.step());
  }
}

TEST(AttentionGuard, GoesBackAfterASpikeAndLearnsOn) {
  constexpr std::int64_t kSteps = 300;
  GuardOptions options = never(GuardMode::full);
  options.steps = kSteps;
  // Mean loss over the last twenty updates.
  const auto finish = [](Toy& toy) {
    double sum = 0;
    while (toy.optimizer.step() < kSteps) {
      toy.update();
      if (toy.optimizer.step() > kSteps - 20) sum += toy.loss / 20;
    }
    return sum;
  };
  Toy calm(options, {.total = kSteps});
  const double first = (calm.update(), calm.loss), usual = finish(calm);
  EXPECT_TRUE(calm.events.empty());
  for (const Harm harm : {Harm{.gradient = 1e3}, Harm{.not_finite = true}}) {
    Toy toy(options, {.total = kSteps});
    toy.updates(50);
    const std::int64_t cursor = toy.cursor;
    EXPECT_FALSE(toy.update(harm));
    EXPECT_EQ(toy.guard.rollbacks(), 1);
    EXPECT_EQ(toy.optimizer.step(), 20) << "the newest snapshot of 20 updates before";
    EXPECT_EQ(toy.cursor, cursor + 1) << "the data goes on";
    ASSERT_EQ(toy.events.size(), 1u);
    EXPECT_EQ(toy.events[0].action, "roll_back");
    EXPECT_EQ(toy.events[0].before, 50);
    EXPECT_EQ(toy.events[0].after, 20);
    EXPECT_EQ(toy.events[0].signal, harm.not_finite ? "not_finite" : "gradient");
    toy.guard.begin();
    EXPECT_NEAR(toy.optimizer.rate_multiplier(), 0.5 / 40, 1e-12);
    EXPECT_LT(finish(toy), usual + 0.05 * (first - usual)) << "without a spike: " << usual;
    EXPECT_DOUBLE_EQ(toy.optimizer.rate_multiplier(), 0.5);
    EXPECT_EQ(toy.events.size(), 1u);
  }
}

TEST(AttentionGuard, RefusesWithoutRollbackWhereItMayNotGoBack) {
  Toy toy({.mode = GuardMode::lr});
  toy.updates(3);
  const auto before = toy.weights();
  EXPECT_TRUE(toy.update({.not_finite = true}));
  EXPECT_FALSE(toy.applied);
  EXPECT_EQ(toy.weights(), before);
}

TEST(AttentionGuard, StopsAtTheSpikeAfterTheLastRollback) {
  GuardOptions options = never(GuardMode::full);
  Toy toy(options);
  for (int k = 0; k < 2; ++k) {
    toy.updates(22);
    EXPECT_FALSE(toy.update({.not_finite = true}));
  }
  toy.updates(2);
  try {
    toy.update({.not_finite = true});
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("22 -> 0"), std::string::npos) << e.what();
  }
  EXPECT_EQ(toy.events.back().action, "stop");
}

TEST(AttentionGuard, QuackDampsByTheOtherSidesWeights) {
  Toy toy({.mode = GuardMode::lr, .rule = TrustRule::quack}, {.learning_rate = 3e-2});
  toy.update();
  EXPECT_TRUE(toy.events.empty()) << "at the first step nothing has grown";
  const nn::AttentionSite site = toy.guard.sites()[0];
  Tensor in = site.keys[1].weight.tensor;  // the second key head, and its bias terms, become twice as large
  const std::int64_t width = in.shape()[1];
  for (std::int64_t i = site.keys[1].weight.first * width; i < site.keys[1].weight.end * width; ++i)
    in.data<float>()[i] *= 2;
  toy.update();
  const auto found = std::find_if(toy.events.begin(), toy.events.end(), [](const GuardEvent& e) {
    return e.head == 1 && e.layer == "layers.layer0.attention";
  });
  ASSERT_NE(found, toy.events.end());
  EXPECT_EQ(found->signal, "weights");
  EXPECT_NEAR(found->after, 0.5, 0.05);
}

TEST(AttentionGuard, YoungRunsGetATighterLimit) {
  Toy toy({.mode = GuardMode::lr, .limit = 0.02, .tight = 0.25, .tight_until = 0.1, .steps = 100},
          {.learning_rate = 3e-2});
  std::vector<double> limits;
  for (int i = 0; i < 25; ++i) {
    limits.push_back(toy.guard.limit(0));
    toy.update();
  }
  EXPECT_DOUBLE_EQ(limits[0], 0.005);
  EXPECT_DOUBLE_EQ(limits[10], 0.005);
  EXPECT_DOUBLE_EQ(limits[15], 0.0125);
  EXPECT_DOUBLE_EQ(limits[20], 0.02);
  EXPECT_DOUBLE_EQ(limits[24], 0.02);
  EXPECT_GT(toy.count("scale"), 50);
  for (const GuardEvent& e : toy.events) {
    EXPECT_DOUBLE_EQ(e.threshold, limits[std::size_t(e.step - 1)]);
    EXPECT_NEAR(e.value * e.after, e.threshold, 1e-12);
  }
  // Of a run of unknown length none is young.
  EXPECT_EQ(Toy({.mode = GuardMode::lr, .limit = 0.02}).guard.limit(0), 0.02);
}

TEST(AttentionGuard, RefusesWhatDoesNotFit) {
  EXPECT_THROW(Toy({.tight = 0}), Error);
  EXPECT_THROW(Toy({.tight = 1.5}), Error);
  EXPECT_THROW(Toy({.tight_until = 0.6}), Error);
  EXPECT_THROW(Toy({.limit = 0}), Error);
  EXPECT_THROW(Toy({.tau = -1}), Error);
  EXPECT_THROW(guard_mode_from_name("on"), Error);
  EXPECT_EQ(guard_mode_from_name("full"), GuardMode::full);
  EXPECT_EQ(trust_rule_from_name("quack"), TrustRule::quack);
  Toy toy({});
  toy.guard.begin();
  auto statistics = toy.pass();
  ASSERT_TRUE(toy.optimizer.propose());
  EXPECT_THROW(toy.guard.inspect({toy.loss, true, std::span(statistics).first(1)}), Error) << "a layer is missing";
  statistics[0].name = "elsewhere";
  EXPECT_THROW(toy.guard.inspect({toy.loss, true, statistics}), Error);
  Toy other({.mode = GuardMode::lr});
  GuardState state = other.guard.state();
  state.numbers.erase("loss");
  EXPECT_THROW(other.guard.load_state(state), Error);
  EXPECT_THROW(toy.guard.load_state({}), Error);
}

}  // namespace
}  // namespace attune::train
