// Runs side by side: settings, losses at equal steps and at equal seconds, pictures.
#include "attune/train/compare.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "train/tiny_task.hpp"

namespace attune::train {
namespace {

/// 100 steps in 10 lines; the loss starts at 4 and falls by `fall` a line, a step takes `milliseconds`.
ComparedRun made_up(const std::string& name, double fall, double milliseconds, double rate) {
  ComparedRun run{.name = name, .config = parse_config("[train]\nsteps = 100\n"), .history = {}};
  run.config.optimizer.learning_rate = rate;
  for (std::int64_t i = 1; i <= 10; ++i) {
    run.history.steps.push_back({.step = 10 * i, .loss = 4 - fall * double(i)});
    StepLine& line = run.history.steps.back();
    line.tokens = 1000 * double(i), line.seconds = milliseconds / 1000 * 10 * double(i);
    line.largest_logit = i == 5 ? 50 : 5, line.entropy = 0.5, line.smallest_entropy = 0.25;
    if (i % 2 == 0) run.history.valids.push_back({10 * i, 4 - fall * double(i) + (i == 10 ? 0.5 : 0.1)});
  }
  return run;
}

TEST(Compare, ConfigurationsDifferInWhatDiffers) {
  const ComparedRun a = made_up("a", 0.1, 10, 1e-3), b = made_up("b", 0.2, 20, 3e-3);
  const RunConfig configs[] = {a.config, b.config};
  const std::vector<ConfigDifference> found = config_differences(configs);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].key, "optimizer.learning_rate");
  EXPECT_EQ(found[0].values, (std::vector<std::string>{"0.001", "0.003"}));
  const RunConfig same[] = {a.config, a.config};
  EXPECT_TRUE(config_differences(same).empty());
}

TEST(Compare, LossesAtEqualStepsAndSeconds) {
  const ComparedRun runs[] = {made_up("a", 0.1, 10, 1e-3), made_up("b", 0.2, 20, 3e-3)};
  const Comparison c = compare_runs(runs, 5);
  ASSERT_EQ(c.by_step.size(), 5u);
  EXPECT_EQ(c.by_step[0].at, 20);
  EXPECT_NEAR(c.by_step[0].losses[0], 3.8, 1e-12);
  EXPECT_NEAR(c.by_step[4].losses[1], 2.0, 1e-12);
  ASSERT_EQ(c.by_seconds.size(), 5u);
  EXPECT_NEAR(c.by_seconds[4].at, 1.0, 1e-12) << "the first run ends after a second";
  EXPECT_NEAR(c.by_seconds[4].losses[0], 3.0, 1e-12);
  EXPECT_NEAR(c.by_seconds[4].losses[1], 3.0, 1e-12) << "half the steps by then, twice the fall";
  EXPECT_TRUE(std::isnan(compare_runs(runs, 20).by_seconds[1].losses[1])) << "its first line comes later";
  ASSERT_EQ(c.valid_by_step.size(), 5u);
  EXPECT_EQ(c.valid_by_step[4].at, 100);
}

TEST(Compare, SummariesAndText) {
  const ComparedRun runs[] = {made_up("first", 0.1, 10, 1e-3), made_up("second", 0.2, 20, 3e-3)};
  const Comparison c = compare_runs(runs);
  EXPECT_EQ(c.runs[0].best_valid_step, 80);
  EXPECT_NEAR(c.runs[0].best_valid, 3.3, 1e-12);
  EXPECT_NEAR(c.runs[0].last_valid, 3.5, 1e-12);
  EXPECT_EQ(c.runs[0].largest_logit, 50);
  EXPECT_NEAR(c.runs[0].tokens_per_second, 10000, 1e-6);
  EXPECT_NEAR(c.runs[1].milliseconds_a_step, 20, 1e-9);
  const std::string text = comparison_text(c);
  for (const char* part : {"first", "second", "optimizer.learning_rate", "loss at step", "loss at second", "held-out"})
    EXPECT_NE(text.find(part), std::string::npos) << part;
  EXPECT_NE(loss_chart(runs, LossAxis::steps).find(">second<"), std::string::npos);
  EXPECT_TRUE(has_losses(runs, LossAxis::held_out));
  EXPECT_NE(loss_chart(runs, LossAxis::held_out).find("<svg"), std::string::npos);
}

TEST(Compare, NeedsTwoRunsWithLines) {
  const ComparedRun one[] = {made_up("a", 0.1, 10, 1e-3)};
  EXPECT_THROW(compare_runs(one), Error);
  const ComparedRun empty[] = {made_up("a", 0.1, 10, 1e-3), ComparedRun{.name = "b", .config = {}, .history = {}}};
  EXPECT_THROW(compare_runs(empty), Error);
  tiny::Folder folder;
  EXPECT_THROW(read_compared_run(folder.path()), Error);
  io::write_file(folder / "config.toml", config_text(one[0].config));
  io::write_file(folder / "log.jsonl", "{\"event\":\"step\",\"step\":10,\"loss\":3}\n");
  EXPECT_EQ(read_compared_run(folder.path()).history.steps.size(), 1u);
  EXPECT_EQ(read_compared_run(folder.path() / "").name, folder.path().filename());
}

}  // namespace
}  // namespace attune::train
