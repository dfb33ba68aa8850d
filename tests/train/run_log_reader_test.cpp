// Logs as they are found: complete, cut off, gone back, of older versions.
#include "attune/train/run_log_reader.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attune/base/error.hpp"
#include "attune/train/event_log.hpp"
#include "train/tiny_task.hpp"

namespace attune::train {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

TEST(RunLogReader, ReadsWhatALogWrites) {
  tiny::Folder folder;
  EventLog log = EventLog::create(folder / "log.jsonl");
  log.write({{"event", "valid"}, {"step", 0}, {"loss", 4.5}});
  log.write({{"event", "step"}, {"step", 10}, {"loss", 3.25}, {"learning_rate", 2e-3}, {"largest_logit", kInfinite}});
  log.write({{"event", "heads"},
             {"step", 10},
             {"layer", "layer0.attention"},
             {"score", std::vector<double>{1.5, kInfinite}},
             {"factor", std::vector<double>{1, 0.25}}});
  log.write(
      {{"event", "guard"}, {"step", 11}, {"layer", ""}, {"head", -1}, {"signal", "loss"}, {"action", "roll_back"}});
  log.write({{"event", "refused"}, {"step", 12}, {"loss", std::nan("")}, {"gradient_norm", -kInfinite}});
  log.write(
      {{"event", "guard_step"}, {"step", 20}, {"largest_move", 0.5}, {"smallest_factor", 0.1}, {"scaled_heads", 3}});
  const RunHistory history = read_run_log(folder / "log.jsonl");
  ASSERT_EQ(history.steps.size(), 1u);
  EXPECT_EQ(history.steps[0].loss, 3.25);
  EXPECT_EQ(history.steps[0].largest_logit, kInfinite);
  EXPECT_TRUE(std::isnan(history.steps[0].seconds)) << "a field that is not there";
  ASSERT_EQ(history.heads.size(), 1u);
  EXPECT_EQ(history.heads[0].score, (std::vector<double>{1.5, kInfinite}));
  EXPECT_EQ(history.heads[0].factor[1], 0.25);
  EXPECT_TRUE(history.heads[0].logit.empty());
  ASSERT_EQ(history.guard.size(), 1u);
  EXPECT_EQ(history.guard[0].action, "roll_back");
  EXPECT_EQ(history.guard[0].head, -1);
  ASSERT_EQ(history.refused.size(), 1u);
  EXPECT_TRUE(std::isnan(history.refused[0].loss));
  EXPECT_EQ(history.refused[0].gradient_norm, -kInfinite);
  ASSERT_EQ(history.guard_steps.size(), 1u);
  EXPECT_EQ(history.guard_steps[0].scaled_heads, 3);
  EXPECT_EQ(history.valids[0].step, 0);
  EXPECT_EQ(history.unreadable, 0);
  EXPECT_EQ(history.last_step(), 12);
}

TEST(RunLogReader, PassesOverWhatItCannotRead) {
  const RunHistory history = parse_run_log(
      "{\"event\":\"step\",\"step\":5,\"loss\":\"later\"}\n\n[1]\nnot JSON\n{\"event\":7,\"step\":6}\n"
      "{\"event\":\"step\"}\n{\"event\":\"valid\",\"step\":5,\"loss\":2}\n{\"event\":\"step\",\"step\":10,\"lo");
  ASSERT_EQ(history.steps.size(), 1u);
  EXPECT_TRUE(std::isnan(history.steps[0].loss));
  EXPECT_EQ(history.valids.size(), 1u);
  EXPECT_EQ(history.unreadable, 5);
  EXPECT_EQ(parse_run_log("").last_step(), 0);
  EXPECT_THROW(read_run_log("/nowhere/log.jsonl"), Error);
}

TEST(RunLogReader, LinesThatWereUndoneDoNotStand) {
  const std::vector<StepLine> written{{.step = 10, .loss = 4},
                                      {.step = 20, .loss = 9},
                                      {.step = 30, .loss = 99},
                                      {.step = 20, .loss = 3},
                                      {.step = 30, .loss = 2}};
  const std::vector<StepLine> kept = standing(written);
  ASSERT_EQ(kept.size(), 3u);
  EXPECT_EQ(kept[1].loss, 3);
  EXPECT_EQ(kept[2].loss, 2);
}

TEST(RunLogReader, LayersInTheModelsOrder) {
  RunHistory history;
  for (const std::int64_t step : {10, 20})
    for (const char* layer : {"z.attention", "a.attention"}) history.heads.push_back({.step = step, .layer = layer});
  EXPECT_EQ(layers_of(history), (std::vector<std::string>{"z.attention", "a.attention"}));
  EXPECT_EQ(heads_of(history, "a.attention").size(), 2u);
}

}  // namespace
}  // namespace attune::train
