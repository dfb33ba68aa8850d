// Runs: interrupted and resumed they end with the same bits; minutes become steps without a trace; what is wrong is
// said.
#include "attune/train/run.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/checkpoint.hpp"
#include "attune/train/evaluate.hpp"
#include "attune/train/task.hpp"
#include "attune/train/translate_task.hpp"
#include "train/timeless_log.hpp"
#include "train/tiny_task.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;

/// Stops before update number `updates` + 1 of this piece of the run.
RunHooks stop_after(int updates) {
  auto left = std::make_shared<int>(updates);
  return {.stop = [left] { return (*left)-- <= 0; }};
}

void expect_equal_bits(const fs::path& a, const fs::path& b) {
  const Checkpoint x = load_checkpoint(a / "checkpoint"), y = load_checkpoint(b / "checkpoint");
  EXPECT_EQ(x.step, y.step);
  EXPECT_EQ(x.data, y.data);
  EXPECT_EQ(x.generators, y.generators);
  ASSERT_EQ(x.weights.size(), y.weights.size());
  for (std::size_t i = 0; i < x.weights.size(); ++i) {
    ASSERT_EQ(x.weights[i].name, y.weights[i].name);
    ASSERT_EQ(x.weights[i].tensor.shape(), y.weights[i].tensor.shape());
    EXPECT_EQ(std::memcmp(x.weights[i].tensor.raw(), y.weights[i].tensor.raw(),
                          std::size_t(x.weights[i].tensor.size()) * sizeof(float)),
              0)
        << x.weights[i].name;
  }
  ASSERT_EQ(x.optimizer.arrays.size(), y.optimizer.arrays.size());
  for (std::size_t i = 0; i < x.optimizer.arrays.size(); ++i)
    EXPECT_EQ(x.optimizer.arrays[i].second.to_vector(), y.optimizer.arrays[i].second.to_vector());
}

class RunTest : public ::testing::Test {
 protected:
  RunTest() { tiny::write_text(text_.path()); }
  RunConfig config(int steps) const { return tiny::config(text_.path(), steps); }
  tiny::Folder text_, out_;
};

TEST_F(RunTest, LearnsAndTranslates) {
  RunConfig learnable = config(200);
  learnable.model.dropout = learnable.model.attention_dropout = 0;
  learnable.train.label_smoothing = 0;
  learnable.optimizer.learning_rate = 1e-2;
  const RunResult result = start_run(learnable, out_ / "run", "unused");
  EXPECT_EQ(result.step, 200);
  EXPECT_FALSE(result.interrupted);
  EXPECT_EQ(result.refused, 0);
  EXPECT_GT(result.tokens_per_second, 0);
  EXPECT_LT(result.valid_loss, 1.5) << "nats per token; a uniform guess has 4.5";
  const ParallelText text = load_text(out_ / "run");
  const Evaluation scores = evaluate(load_translator(out_ / "run"), text.test, text.train, BleuTokens::mteval_13a);
  EXPECT_EQ(scores.sentences, 24);
  EXPECT_GT(scores.model.bleu, scores.copy.bleu + 10);
  EXPECT_GT(scores.model.chrf, scores.copy.chrf);
  const AttentionPage page = load_translator(out_ / "run").open_up(text.test.front().source);
  EXPECT_EQ(page.maps.size(), 3u * 2u);  // encoder, decoder, cross of one layer, two heads each
  EXPECT_EQ(page.target_inputs.size(), page.target_tokens.size());
  EXPECT_NE(attention_page_html(page).find("<html"), std::string::npos);
  bool has_parameters = false;
  for (const auto& [name, value] : facts_of(out_ / "run"))
    has_parameters |= value.find("parameters") != std::string::npos;
  EXPECT_TRUE(has_parameters);
}

TEST_F(RunTest, ResumedEndsWithTheSameBits) {
  start_run(config(24), out_ / "whole", "unused");
  for (const int stop : {0, 3, 10, 17}) {
    const fs::path run = out_ / fmt::format("stopped_{}", stop);
    RunResult result = start_run(config(24), run, "unused", stop_after(stop));
    EXPECT_TRUE(result.interrupted);
    EXPECT_EQ(result.step, stop);
    result = resume_run(run, "unused", stop_after(4));  // and once more
    EXPECT_EQ(result.step, stop + 4);
    result = resume_run(run, "unused");
    EXPECT_EQ(result.step, 24);
    EXPECT_FALSE(result.interrupted);
    expect_equal_bits(out_ / "whole", run);
    EXPECT_EQ(log_without_seconds(out_ / "whole"), log_without_seconds(run)) << "stopped after " << stop;
  }
}

TEST_F(RunTest, AFinishedRunIsLeftAsItIs) {
  start_run(config(5), out_ / "run", "unused");
  const std::string log = io::read_file(out_ / "run" / "log.jsonl");
  const RunResult again = resume_run(out_ / "run", "unused");
  EXPECT_EQ(again.step, 5);
  EXPECT_FALSE(again.interrupted);
  EXPECT_EQ(io::read_file(out_ / "run" / "log.jsonl"), log);
}

TEST_F(RunTest, WithoutACheckpointItBeginsAnew) {
  start_run(config(12), out_ / "whole", "unused");
  start_run(config(12), out_ / "killed", "unused", stop_after(7));
  fs::remove_all(out_ / "killed" / "checkpoint");  // as if killed before the first one
  resume_run(out_ / "killed", "unused");
  expect_equal_bits(out_ / "whole", out_ / "killed");
}

TEST_F(RunTest, LookingChangesNothing) {
  start_run(config(12), out_ / "seldom", "unused");
  RunConfig often = config(12);
  often.train.log_every = 1;
  often.train.validate_every = 2;
  often.train.checkpoint_every = 3;
  start_run(often, out_ / "often", "unused");
  expect_equal_bits(out_ / "seldom", out_ / "often");
}

TEST_F(RunTest, MinutesBecomeStepsWithoutATrace) {
  RunConfig timed = config(1);
  timed.train.steps = 0;
  timed.train.minutes = 0.004;
  const RunResult result = start_run(timed, out_ / "timed", "unused");
  const RunConfig written = read_config(out_ / "timed" / "config.toml");
  EXPECT_GE(written.train.steps, 1);
  EXPECT_EQ(written.train.steps, result.step);
  EXPECT_EQ(written.train.minutes, 0);
  EXPECT_EQ(read_facts(RunFiles(out_ / "timed")).planned_minutes, 0.004);
  start_run(config(int(written.train.steps)), out_ / "stepped", "unused");
  expect_equal_bits(out_ / "timed", out_ / "stepped");
}

TEST_F(RunTest, LengthsInEpochsAndTokensBecomeSteps) {
  RunConfig counted = config(3);
  counted.train.accumulate = 2;
  counted.schedule = {"sequential",
                      {{"milestones", std::vector<std::variant<double, std::string>>{"4 epochs", "1e9 tokens"}},
                       {"schedules", std::vector<optim::ScheduleSpec>(3, {"constant", {}})}}};
  start_run(counted, out_ / "run", "unused");
  const RunConfig written = read_config(out_ / "run" / "config.toml");
  EXPECT_FALSE(optim::counts_in_data(written.schedule));
  const std::string text = config_text(written);
  EXPECT_EQ(text.find("epochs"), std::string::npos) << text;
}

TEST_F(RunTest, SaysWhatIsWrong) {
  EXPECT_THROW(resume_run(out_ / "nothing", "unused"), Error);
  EXPECT_THROW(load_translator(out_ / "nothing"), Error);
  start_run(config(12), out_ / "run", "unused", stop_after(2));
  EXPECT_THROW(start_run(config(12), out_ / "run", "unused"), Error) << "there is a run";

  for (const fs::directory_entry& entry : fs::directory_iterator(out_ / "run" / "checkpoint")) {
    const std::string content = io::read_file(entry.path());
    io::write_file(entry.path(), content.substr(0, content.size() / 2));
    try {
      resume_run(out_ / "run", "unused");
      ADD_FAILURE() << "a truncated " << entry.path() << " was believed";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("checkpoint"), std::string::npos) << error.what();
    }
    io::write_file(entry.path(), content);
  }
  EXPECT_EQ(resume_run(out_ / "run", "unused", stop_after(1)).step, 3) << "what was put back is sound";

  std::vector<SentencePair> other = tiny::sentences(240, 9);
  write_tsv(text_ / "train.tsv", other);
  EXPECT_THROW(resume_run(out_ / "run", "unused"), Error) << "the text has changed";
}

TEST_F(RunTest, ALossThatExplodesIsAnErrorAndTheCheckpointStays) {
  RunConfig wild = config(400);
  wild.optimizer.learning_rate = 1e30;
  wild.optimizer.clip_norm = 0;
  wild.train.checkpoint_every = 1;
  wild.schedule = {"constant", {}};
  try {
    start_run(wild, out_ / "run", "unused");
    ADD_FAILURE() << "a learning rate of 1e30 went through";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("finite"), std::string::npos) << error.what();
  }
  EXPECT_NO_THROW(load_checkpoint(out_ / "run" / "checkpoint"));
  EXPECT_NE(io::read_file(out_ / "run" / "log.jsonl").find("refused"), std::string::npos);
}

TEST_F(RunTest, EveryMechanismOfARecipeTrains) {
  int number = 0;
  const auto train_with = [&](auto&& change) {
    RunConfig changed = config(3);
    change(changed.model);
    const fs::path run = out_ / fmt::format("mechanism_{}", number++);
    EXPECT_EQ(start_run(changed, run, "unused").step, 3);
    EXPECT_EQ(load_translator(run).translate(std::string("open the file.")),
              load_translator(run).translate(std::string("open the file.")));
  };
  train_with([](ModelConfig& m) { m.norm = "post"; });
  train_with([](ModelConfig& m) { m.share_embeddings = m.tie_output = false; });
  train_with([](ModelConfig& m) { m.num_kv_heads = 1; });
  train_with([](ModelConfig& m) { m.attention.position = "rotary"; });
  train_with([](ModelConfig& m) { m.attention.position = "sinusoidal"; });
  train_with([](ModelConfig& m) { m.attention.position = "learned"; });
  train_with([](ModelConfig& m) { m.token_position = m.attention.position = "learned"; });
  train_with([](ModelConfig& m) { m.token_position = "none", m.attention.bias = {"soft_cap", "alibi"}; });
  train_with([](ModelConfig& m) { m.attention.score = "additive"; });
  train_with([](ModelConfig& m) { m.attention.mask = {"window"}, m.attention.options["window"] = {{"left", 4.0}}; });
  train_with([](ModelConfig& m) { m.attention.normalizer = "softmax_with_sink"; });
  train_with([](ModelConfig& m) { m.attention.normalizer = "sparsemax"; });
  train_with([](ModelConfig& m) { m.norm_kind = "rms", m.attention.qk_norm = "rms"; });
  train_with([](ModelConfig& m) { m.attention.qk_norm = "l2", m.attention.output_gate = true; });
  train_with([](ModelConfig& m) { m.attention.sigma_reparam = true, m.attention.mup_base_head_dim = 8; });
}

}  // namespace
}  // namespace attune::train
