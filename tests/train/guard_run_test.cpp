// Runs under a guard, from a recipe: the log tells what it did, and an interrupted run ends with the bits of a whole
// one.
#include <gtest/gtest.h>

#include <cstring>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/checkpoint.hpp"
#include "attune/train/guard_config.hpp"
#include "attune/train/run.hpp"
#include "train/timeless_log.hpp"
#include "train/tiny_task.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;

class GuardRunTest : public ::testing::Test {
 protected:
  GuardRunTest() { tiny::write_text(text_.path()); }
  RunConfig config(std::string_view guard, int steps = 30) const {
    RunConfig c = parse_config(tiny::recipe(text_.path(), steps) + std::string(guard));
    c.optimizer.learning_rate = 2e-2;
    return c;
  }
  static RunHooks stop_after(int updates) {
    auto left = std::make_shared<int>(updates);
    return {.stop = [left] { return (*left)-- <= 0; }};
  }
  static std::vector<std::vector<double>> weights(const fs::path& run) {
    std::vector<std::vector<double>> all;
    for (const nn::NamedTensor& w : load_checkpoint(run / "checkpoint").weights) all.push_back(w.tensor.to_vector());
    return all;
  }
  tiny::Folder text_, out_;
};

TEST_F(GuardRunTest, RecipesName) {
  const RunConfig c = config("[guard]\nmode = \"full\"\nlimit = 0.01\ntau = 30.0\nrule = \"quack\"\n", 400);
  EXPECT_EQ(parse_config(config_text(c)).guard.limit, 0.01);
  const GuardOptions options = guard_options(c);
  EXPECT_EQ(options.mode, GuardMode::full);
  EXPECT_EQ(options.rule, TrustRule::quack);
  EXPECT_EQ(options.tau, 30);
  EXPECT_EQ(options.steps, 400);
  EXPECT_NEAR(double(options.warmup), 40, 1) << "a tenth, of the schedule";
  EXPECT_EQ(guard_options(config("")).mode, GuardMode::off);
  EXPECT_THROW(config("[guard]\nmode = \"on\"\n"), Error);
  EXPECT_THROW(config("[guard]\nlimit = 0.0\n"), Error);
}

TEST_F(GuardRunTest, ObservingChangesNoBitAndTells) {
  start_run(config(""), out_ / "off", "unused");
  start_run(config("[guard]\nmode = \"observe\"\nlimit = 0.001\n"), out_ / "observe", "unused");
  EXPECT_EQ(weights(out_ / "off"), weights(out_ / "observe"));
  EXPECT_NE(io::read_file(out_ / "observe" / "log.jsonl").find("\"action\":\"would_scale\""), std::string::npos);
  EXPECT_EQ(io::read_file(out_ / "off" / "log.jsonl").find("\"guard"), std::string::npos);
}

TEST_F(GuardRunTest, ResumedEndsWithTheSameBits) {
  const RunConfig c = config("[guard]\nmode = \"full\"\nlimit = 0.02\ntau = 2.0\nclosed_loop = true\n");
  start_run(c, out_ / "whole", "unused");
  EXPECT_NE(io::read_file(out_ / "whole" / "log.jsonl").find("\"action\":\"scale\""), std::string::npos);
  const Checkpoint whole = load_checkpoint(out_ / "whole" / "checkpoint");
  EXPECT_FALSE(whole.guard.arrays.empty()) << "snapshots";
  for (const int stop : {4, 23}) {
    const fs::path run = out_ / fmt::format("stopped_{}", stop);
    start_run(c, run, "unused", stop_after(stop));
    EXPECT_EQ(resume_run(run, "unused").step, 30);
    EXPECT_EQ(weights(out_ / "whole"), weights(run)) << "stopped after " << stop;
    const Checkpoint resumed = load_checkpoint(run / "checkpoint");
    EXPECT_EQ(resumed.guard.numbers, whole.guard.numbers);
    ASSERT_EQ(resumed.guard.arrays.size(), whole.guard.arrays.size());
    for (std::size_t i = 0; i < whole.guard.arrays.size(); ++i) {
      EXPECT_EQ(resumed.guard.arrays[i].first, whole.guard.arrays[i].first);
      EXPECT_EQ(resumed.guard.arrays[i].second.to_vector(), whole.guard.arrays[i].second.to_vector());
    }
  }
}

TEST_F(GuardRunTest, StoppedAfterARollbackItLosesNoLine) {
  // Update 24 makes every weight too large for single precision: twice the run goes back to where it began, then it
  // gives up.
  RunConfig c = config("[guard]\nmode = \"full\"\n");
  c.train.log_every = 1;
  c.schedule = {"piecewise_constant",
                {{"milestones", std::vector<std::variant<double, std::string>>{23.0}},
                 {"scales", std::vector<std::variant<double, std::string>>{1e30}}}};
  EXPECT_THROW(start_run(c, out_ / "whole", "unused"), GaveUp);
  const std::string whole = log_without_seconds(out_ / "whole");
  EXPECT_NE(whole.find("\"action\":\"roll_back\""), std::string::npos);
  EXPECT_NE(whole.find("\"action\":\"stop\""), std::string::npos);
  for (const int stop : {20, 26, 33, 55}) {  // before, right after and some updates after the first; after the second
    const fs::path run = out_ / fmt::format("stopped_{}", stop);
    EXPECT_TRUE(start_run(c, run, "unused", stop_after(stop)).interrupted);
    EXPECT_THROW(resume_run(run, "unused"), GaveUp);
    EXPECT_EQ(log_without_seconds(run), whole) << "stopped after " << stop;
    EXPECT_EQ(weights(run), weights(out_ / "whole")) << "stopped after " << stop;
  }
}

}  // namespace
}  // namespace attune::train
