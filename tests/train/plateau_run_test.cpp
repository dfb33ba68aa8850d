// Runs whose rate listens to the validation loss: what it heard is in the log and in the checkpoint, and a loss that is
// not finite is a spike.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <set>

#include "attune/base/error.hpp"
#include "attune/train/checkpoint.hpp"
#include "attune/train/explain_rate.hpp"
#include "attune/train/run.hpp"
#include "attune/train/run_files.hpp"
#include "attune/train/run_log_reader.hpp"
#include "train/tiny_task.hpp"

namespace attune::train {
namespace {

class PlateauRunTest : public ::testing::Test {
 protected:
  PlateauRunTest() { tiny::write_text(text_.path()); }
  /// Validates every third update; a loss counts as better only where it has fallen by nearly all of itself, so that
  /// the rate is halved at every second validation but the first.
  RunConfig config(int steps) const {
    RunConfig c = tiny::config(text_.path(), steps);
    c.train.validate_every = 3;
    c.train.log_every = 1;
    c.schedule = {"plateau", {{"cut", 0.5}, {"patience", 1.0}, {"threshold", 0.99}, {"warmup", 4.0}}};
    return parse_config(config_text(c));
  }
  static RunHooks stop_after(int updates) {
    auto left = std::make_shared<int>(updates);
    return {.stop = [left] { return (*left)-- <= 0; }};
  }
  static RunHistory history(const std::filesystem::path& run) { return read_run_log(RunFiles(run).log); }
  tiny::Folder text_, out_;
};

TEST_F(PlateauRunTest, CutsTheRateAndTells) {
  start_run(config(24), out_ / "run", "unused");
  std::set<double> seen;
  for (const StepLine& s : history(out_ / "run").steps) {
    // The first validation is the best, of every further two the second cuts: at 9, 15 and 21.
    const double expected = std::pow(0.5, std::max<std::int64_t>(0, (s.step - 4) / 6));
    EXPECT_EQ(s.plateau, expected) << s.step;
    EXPECT_DOUBLE_EQ(s.learning_rate, s.base * s.schedule * s.plateau * s.rollback);
    EXPECT_DOUBLE_EQ(s.schedule, std::min(1.0, double(s.step) / 4)) << "the part that is a function of the step";
    seen.insert(s.plateau);
  }
  EXPECT_EQ(seen.size(), 4u);
  const RateExplanation e = explain_rate(out_ / "run", "encoder.layer0.attention.query", 20);
  EXPECT_DOUBLE_EQ(e.rows.at(0).rate(), e.logged_rate);
  EXPECT_NE(rate_text(e.rows[0].factors).find("0.25 plateau"), std::string::npos) << rate_text(e.rows[0].factors);
}

TEST_F(PlateauRunTest, ResumedEndsWithTheSameBits) {
  start_run(config(24), out_ / "whole", "unused");
  const Checkpoint whole = load_checkpoint(out_ / "whole" / "checkpoint");
  EXPECT_EQ(whole.optimizer.numbers.at("plateau_factor"), 0.125);
  for (const int stop : {2, 8, 9, 13}) {  // in the warm-up, before and after a cut, between two
    const auto run = out_ / fmt::format("stopped_{}", stop);
    start_run(config(24), run, "unused", stop_after(stop));
    EXPECT_EQ(resume_run(run, "unused").step, 24);
    const Checkpoint resumed = load_checkpoint(run / "checkpoint");
    EXPECT_EQ(resumed.optimizer.numbers, whole.optimizer.numbers) << stop;
    for (std::size_t i = 0; i < whole.weights.size(); ++i)
      EXPECT_EQ(resumed.weights[i].tensor.to_vector(), whole.weights[i].tensor.to_vector()) << stop;
  }
}

TEST_F(PlateauRunTest, AValidationThatIsNotFiniteIsASpike) {
  RunConfig wild = config(24);
  wild.optimizer.learning_rate = 1e30;
  wild.train.validate_every = 1;
  try {
    start_run(wild, out_ / "alone", "unused");
    ADD_FAILURE() << "a plateau took in what is no number";
  } catch (const GaveUp& error) {
    ADD_FAILURE() << error.what();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("finite validation loss"), std::string::npos) << error.what();
  }
  wild.guard.mode = "full";
  EXPECT_THROW(start_run(wild, out_ / "guarded", "unused"), GaveUp);
  std::vector<std::string> actions;
  for (const GuardEvent& e : history(out_ / "guarded").guard) {
    if (e.signal == "not_finite") actions.push_back(e.action);
  }
  EXPECT_EQ(actions, (std::vector<std::string>{"roll_back", "roll_back", "stop"}));
}

TEST_F(PlateauRunTest, NeedsValidations) {
  RunConfig never = config(24);
  never.train.validate_every = 0;
  try {
    parse_config(config_text(never));
    ADD_FAILURE() << "nothing would be heard";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("`validate_every` above 0"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace attune::train
