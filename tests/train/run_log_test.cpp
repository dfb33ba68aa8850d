// What a run writes down: every head of every attention, the factors of the rate, the untrained model's loss; and the
// same numbers for TensorBoard.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "attune/io/atomic_file.hpp"
#include "attune/io/tensorboard.hpp"
#include "attune/train/event_log.hpp"
#include "attune/train/run.hpp"
#include "train/event_board.hpp"
#include "train/run_log.hpp"
#include "train/tiny_task.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::vector<Json> events_of(const fs::path& run, const std::string& kind) {
  std::vector<Json> events;
  std::istringstream log(io::read_file(run / "log.jsonl"));
  for (std::string line; std::getline(log, line);) {
    const Json event = Json::parse(line);
    if (event["event"] == kind) events.push_back(event);
  }
  return events;
}

class RunLogTest : public ::testing::Test {
 protected:
  RunLogTest() { tiny::write_text(text_.path()); }
  RunConfig config(int steps) const { return tiny::config(text_.path(), steps); }
  tiny::Folder text_, out_;
};

TEST_F(RunLogTest, TellsEveryHeadOfEveryAttention) {
  start_run(config(10), out_ / "run", "unused");
  const std::vector<Json> heads = events_of(out_ / "run", "heads"), steps = events_of(out_ / "run", "step");
  ASSERT_EQ(steps.size(), 2u);
  ASSERT_EQ(heads.size(), 6u) << "encoder, decoder and cross attention of one layer, at two steps";
  std::set<std::string> names;
  for (const Json& event : heads) names.insert(event["layer"]);
  EXPECT_EQ(names.size(), 3u);
  for (const Json& step : steps) {
    double largest = -INFINITY;
    for (const Json& event : heads) {
      if (event["step"] != step["step"]) continue;
      for (const char* list : {"score", "logit", "entropy", "variance", "largest_prob", "sink_mass", "factor"})
        ASSERT_EQ(event[list].size(), 2u) << list;
      for (std::size_t h = 0; h < 2; ++h) {
        largest = std::max(largest, event["logit"][h].get<double>());
        // Scaled dot products without a bias: scores are logits.
        EXPECT_GE(event["score"][h].get<double>(), event["logit"][h].get<double>());
        EXPECT_GT(event["entropy"][h].get<double>(), 0);
        EXPECT_LE(event["entropy"][h].get<double>(), 1 + 1e-6);
        EXPECT_GT(event["variance"][h].get<double>(), 0);
        EXPECT_GT(event["largest_prob"][h].get<double>(), 0);
        EXPECT_LE(event["largest_prob"][h].get<double>(), 1);
        EXPECT_EQ(event["sink_mass"][h], 0);
        EXPECT_EQ(event["factor"][h], 1);
      }
    }
    EXPECT_NEAR(largest, step["largest_logit"].get<double>(), 1e-6 * std::abs(largest));
  }
}

TEST_F(RunLogTest, TellsTheFactorsThatTheGuardGaveAHead) {
  Tensor weight = Tensor::full({2}, 1.0);
  weight.requires_grad();
  const std::unique_ptr<optim::Optimizer> optimizer = make_optimizer(config(10), {weight});
  optimizer->zero_grad();
  ASSERT_TRUE(optimizer->advance());
  UpdateReport report;
  // Two heads over a batch of two; the second head's second entry has a logit that is not a number.
  report.sites = {{"layer0.attention",
                   {.batch_size = 2,
                    .num_heads = 2,
                    .rows = {1, 1, 3, 1},
                    .choosing_rows = {1, 1, 1, 1},
                    .largest_score = {2, 1, 3, 1},
                    .smallest_score = {-5, 0, 0, 0},
                    .largest_logit = {2, 1, 3, 1},
                    .non_finite = {0, 0, 0, 1},
                    .entropy_normalized = {0.5, 0.25, 0.25, 0.75},
                    .variance = {1, 1, 2, 1},
                    .largest_prob = {0.5, 0.5, 1, 0.5},
                    .sink_mass = {0, 0, 0, 0}}}};
  const RunFiles files(out_.path());
  RunJournal journal(files, false, {}, nullptr);
  const GuardEvent scale{.step = 1,
                         .layer = "layer0.attention",
                         .head = 1,
                         .signal = "move",
                         .action = "scale",
                         .before = 1,
                         .after = 0.25};
  journal.begin_update(true);
  journal.guard(scale);
  journal.step(report, *optimizer, nullptr, {});
  journal.begin_update(false);
  journal.guard(scale);  // comes to heads at every update: told where step() follows
  GuardEvent hold = scale;
  hold.action = "hold";
  journal.guard(hold);
  journal.begin_update(true);
  GuardEvent would = scale;
  would.action = "would_scale";
  journal.guard(would);
  journal.step(report, *optimizer, nullptr, {});
  const std::vector<Json> heads = events_of(out_.path(), "heads"), guard = events_of(out_.path(), "guard");
  ASSERT_EQ(heads.size(), 2u);
  EXPECT_EQ(heads[0]["factor"], Json({1, 0.25}));
  EXPECT_EQ(heads[1]["factor"], Json({1, 1})) << "what would have been is not what was";
  EXPECT_EQ(heads[0]["score"], Json({5, "inf"})) << "the largest |score|; nothing that is not finite is hidden";
  EXPECT_EQ(heads[0]["logit"], Json({3, 1}));
  EXPECT_EQ(heads[0]["entropy"], Json({0.375, 0.5})) << "over the rows that choose";
  EXPECT_EQ(heads[0]["variance"], Json({1.75, 1})) << "over rows";
  EXPECT_EQ(heads[0]["largest_prob"], Json({0.875, 0.5}));
  ASSERT_EQ(guard.size(), 3u);
  EXPECT_EQ(guard[1]["action"], "hold");
}

TEST_F(RunLogTest, FactorsMultiplyToTheRate) {
  start_run(config(20), out_ / "run", "unused");
  const std::vector<Json> steps = events_of(out_ / "run", "step");
  ASSERT_EQ(steps.size(), 4u);
  for (const Json& s : steps) {
    const double product = s["base"].get<double>() * s["schedule"].get<double>() * s["rollback"].get<double>();
    EXPECT_DOUBLE_EQ(product, s["learning_rate"].get<double>());
    EXPECT_EQ(s["base"], 5e-3);
  }
  EXPECT_LT(steps.back()["schedule"], steps.front()["schedule"]);
}

TEST_F(RunLogTest, TellsTheOutputsLogSumExpAndWhatEpsilonHoldsBack) {
  RunConfig held = config(10);
  held.optimizer.epsilon = 1;  // far above every gradient
  start_run(held, out_ / "held", "unused");
  start_run(config(10), out_ / "run", "unused");
  const std::vector<Json> steps = events_of(out_ / "run", "step"), epsilon = events_of(out_ / "run", "epsilon");
  ASSERT_EQ(epsilon.size(), steps.size());
  for (const Json& s : steps) EXPECT_NEAR(s["output_lse"].get<double>(), std::log(90), 2) << "of about equal logits";
  for (const Json& e : epsilon) {
    for (const char* role : {"embedding", "query", "key", "value", "output", "mlp", "norm"}) {
      EXPECT_GE(e.at(role), 0) << role;
      EXPECT_LT(e.at(role), 0.5) << role;
    }
  }
  for (const Json& e : events_of(out_ / "held", "epsilon")) EXPECT_EQ(e.at("query"), 1);
  RunConfig plain = config(5);
  plain.optimizer = optimizer_defaults("sgd");
  start_run(plain, out_ / "sgd", "unused");
  EXPECT_TRUE(events_of(out_ / "sgd", "epsilon").empty());
}

TEST_F(RunLogTest, BeginsWithTheLossOfTheUntrainedModel) {
  start_run(config(12), out_ / "run", "unused", {.stop = [n = 0]() mutable { return n++ == 4; }});
  resume_run(out_ / "run", "unused");
  const std::vector<Json> valid = events_of(out_ / "run", "valid");
  ASSERT_EQ(valid.size(), 3u) << "before the first step, at 10 and at the end";
  EXPECT_EQ(valid[0]["step"], 0);
  EXPECT_NEAR(valid[0]["loss"].get<double>(), std::log(90), 1.0) << "about that of a guess among 90 pieces";
  EXPECT_GT(valid[0]["loss"], valid[2]["loss"]);
  RunConfig never = config(4);
  never.train.validate_every = 0;
  start_run(never, out_ / "never", "unused");
  EXPECT_EQ(events_of(out_ / "never", "valid").size(), 1u) << "at the end alone";
}

TEST_F(RunLogTest, TensorBoardReadsTheSame) {
  RunConfig shown = config(12);
  shown.train.tensorboard = true;
  start_run(shown, out_ / "run", "unused", {.stop = [n = 0]() mutable { return n++ == 7; }});
  resume_run(out_ / "run", "unused");
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(out_ / "run" / "tensorboard")) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  ASSERT_EQ(files.size(), 2u) << "one for each piece of the run";
  std::vector<io::TensorBoardScalar> scalars;
  for (const fs::path& file : files)
    for (const io::TensorBoardScalar& scalar : io::read_tensorboard(file)) scalars.push_back(scalar);
  const auto expect_same = [&](const std::string& tag, const std::string& kind, const std::string& field) {
    const std::vector<Json> events = events_of(out_ / "run", kind);
    ASSERT_FALSE(events.empty());
    std::vector<io::TensorBoardScalar> mine;
    std::copy_if(scalars.begin(), scalars.end(), std::back_inserter(mine), [&](const auto& s) { return s.tag == tag; });
    ASSERT_EQ(mine.size(), events.size()) << tag;
    for (std::size_t i = 0; i < events.size(); ++i) {
      EXPECT_EQ(mine[i].step, events[i]["step"]) << tag;
      EXPECT_EQ(mine[i].value, float(events[i][field].get<double>())) << tag;
    }
  };
  expect_same("loss/train", "step", "loss");
  expect_same("loss/valid", "valid", "loss");
  expect_same("rate", "step", "learning_rate");
  expect_same("gradient_norm", "step", "gradient_norm");
  expect_same("attention/largest_logit", "step", "largest_logit");
  expect_same("attention/entropy", "step", "entropy");
  expect_same("output/lse", "step", "output_lse");
  EXPECT_FALSE(fs::exists(out_ / "other" / "tensorboard"));
  start_run(config(2), out_ / "other", "unused");
  EXPECT_FALSE(fs::exists(out_ / "other" / "tensorboard")) << "unless it is asked for";
}

TEST_F(RunLogTest, TensorBoardForgetsWhatARollbackUndid) {
  {
    EventBoard board(out_ / "board", 0, true);
    board.line(R"({"event":"step","step":30,"loss":"nan"})");
    board.line(R"({"event":"guard","step":31,"action":"roll_back","before":30,"after":10})");
    board.line(R"({"event":"step","step":20,"loss":2.5})");
    board.line("no event");
  }
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(out_ / "board")) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  ASSERT_EQ(files.size(), 2u) << "a new file, whose beginning voids later steps";
  EXPECT_TRUE(std::isnan(io::read_tensorboard(files[0]).at(0).value)) << "nothing is hidden";
  EXPECT_EQ(io::read_tensorboard(files[1]).at(0).value, 2.5f);
  // A session that starts at step 11: field 2 (step) 11, field 7 {1: START}.
  EXPECT_NE(io::read_file(files[1]).find(std::string("\x10\x0b\x3a\x02\x08\x01")), std::string::npos);
}

TEST_F(RunLogTest, AListIsWrittenWithWhatIsNotFinite) {
  EventLog log = EventLog::create(out_ / "log.jsonl");
  std::vector<std::string> heard;
  log.on_line([&](std::string_view line) { heard.emplace_back(line); });
  log.write({{"event", "heads"},
             {"score", std::vector<double>{1, 0.1, 1e-30, INFINITY, NAN}},
             {"none", std::vector<double>{}}});
  EXPECT_EQ(io::read_file(out_ / "log.jsonl"),
            "{\"event\":\"heads\",\"score\":[1,0.1,1e-30,\"inf\",\"nan\"],\"none\":[]}\n");
  ASSERT_EQ(heard.size(), 1u);
  EXPECT_EQ(heard[0] + "\n", io::read_file(out_ / "log.jsonl"));
}

}  // namespace
}  // namespace attune::train
