// The table of mechanisms, and stages made from names and options.
#include "attune/attention/mechanisms.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

#include "attune/attention/attention.hpp"
#include "attune/base/error.hpp"
#include "message_of.hpp"

namespace attune {
namespace {

using testing::message_of;

TEST(Mechanisms, ListsEveryStageOnce) {
  const auto all = mechanisms();
  EXPECT_EQ(all.size(), std::tuple_size_v<AllPositions> + std::tuple_size_v<AllScores> + std::tuple_size_v<AllBiases> +
                            std::tuple_size_v<AllMasks> + std::tuple_size_v<AllNormalizers> + 2)
      << "and two of a lambda";
  for (const Mechanism& m : all) {
    const auto same = [&](const Mechanism& o) { return o.kind == m.kind && o.name == m.name; };
    EXPECT_EQ(std::count_if(all.begin(), all.end(), same), 1) << m.kind << " " << m.name;
    EXPECT_FALSE(m.cost.empty()) << m.name;
    EXPECT_FALSE(m.gradients.empty()) << m.name;
  }
  check_mechanism("score", "additive");
  EXPECT_THROW(check_mechanism("score", "aditive"), Error);
  EXPECT_THROW(check_mechanism("scores", "additive"), Error);
}

TEST(Mechanisms, EveryOneThatANameIsEnoughForIsMadeFromIt) {
  const AttendShape shape{1, 2, 1, 8, 8, 4, 4, 4};
  for (const Mechanism& m : mechanisms()) {
    if (!m.by_name) continue;
    std::string_view made;
    if (m.kind == "position") made = position_named(m.name, {}, shape).on<float>()->name();
    if (m.kind == "score") made = score_named(m.name, {}, shape).on<float>()->name();
    if (m.kind == "bias") made = bias_named(m.name, {}, shape).name();
    if (m.kind == "mask") made = mask_named(m.name, {}, shape).name();
    if (m.kind == "normalizer") made = normalizer_named(m.name, {}, shape).on<float>()->name();
    EXPECT_EQ(made, m.name);
  }
}

TEST(Mechanisms, OptionsAreSetByTheirNames) {
  EXPECT_EQ(bias_named("soft_cap", {{"cap", 12.0}}).as<SoftCap>()->cap, 12);
  EXPECT_TRUE(bias_named("alibi", {{"learned", true}}).as<Alibi>()->learned);
  EXPECT_EQ(mask_named("window", {{"left", 3.0}}).as<Window>()->left, 3);
  EXPECT_EQ(*score_named("scaled_dot", {{"scale", 0.5}}).as<ScaledDot>()->scale, 0.5);
  EXPECT_EQ(bias_named("dense", {{"per", std::string("call")}}).as<Dense>()->per, Per::call);
  const AttendShape shape{1, 2, 1, 8, 8, 4, 6, 4};
  EXPECT_EQ(score_named("additive", {}, shape).as<Additive>()->hidden_dim, 6);
}

TEST(Mechanisms, OptionsThatWereNotGivenAreTold) {
  EXPECT_EQ(complete_options("mask", "window", {{"left", 3.0}}), (OptionValues{{"left", 3.0}, {"right", -1.0}}));
  EXPECT_EQ(complete_options("score", "scaled_dot"), OptionValues{}) << "an option without a value";
  EXPECT_EQ(complete_options("bias", "dense").at("per"), OptionValue("head"));
  EXPECT_THROW(complete_options("biases", "alibi"), Error);
  // What is told makes the same stage again.
  for (const Mechanism& m : mechanisms()) {
    if (!m.by_name) continue;
    const OptionValues all = complete_options(m.kind, m.name);
    EXPECT_LE(all.size(), m.options.size()) << m.name;
    EXPECT_EQ(complete_options(m.kind, m.name, all), all) << m.name;
  }
}

TEST(Mechanisms, WhatIsWrongIsSaid) {
  EXPECT_EQ(message_of([] { bias_named("soft_cap", {{"cup", 3.0}}); }), "soft_cap: an option: cap, got \"cup\"");
  EXPECT_EQ(message_of([] { normalizer_named("softmax", {{"cap", 3.0}}); }), "softmax: no options, got \"cap\"");
  EXPECT_EQ(message_of([] {
              bias_named("alibi", {{"learned", 1.0}});
            }),
            "alibi: learned as true or false, got a value of another type");
  EXPECT_EQ(message_of([] { mask_named("window", {{"left", 1.5}}); }), "window: left as a whole number, got 1.5");
  EXPECT_EQ(message_of([] { mask_named("padding"); }),
            "mechanisms: a mask that a name and options are enough for, got padding");
  EXPECT_EQ(message_of([] {
              bias_named("dense", {{"per", std::string("row")}});
            }),
            "dense: per as one of call, batch, head, kv_head, batch_head, got \"row\"");
}

}  // namespace
}  // namespace attune
