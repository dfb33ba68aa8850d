// doctor, compare and explain-lr from the command line: what they answer, with which exit code.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "attune/io/atomic_file.hpp"
#include "cli/program.hpp"
#include "train/tiny_task.hpp"

namespace attune::cli {
namespace {

namespace fs = std::filesystem;
namespace tiny = train::tiny;
using LogJson = nlohmann::json;
using testing_program::Outcome;
using testing_program::Program;

class LogTools : public testing::Test {
 protected:
  Outcome run(std::vector<std::string> arguments) { return Program(work_.path(), std::move(arguments)).wait(); }
  /// A run of 40 lines whose scores end at `score`, at a learning rate.
  void write_run(const std::string& name, double score, double rate) {
    fs::create_directories(work_ / name);
    train::RunConfig config = train::parse_config("[train]\nsteps = 400\n");
    config.optimizer.learning_rate = rate;
    train::write_config(config, work_ / (name + "/config.toml"));
    std::string log;
    for (int i = 1; i <= 40; ++i)
      log += fmt::format(
          R"({{"event":"step","step":{},"loss":{},"gradient_norm":0.5,"largest_logit":{},"entropy":{},"seconds":{}}})"
          "\n",
          10 * i, 4 - 0.05 * i, i < 20 ? 5 : score, i < 20 ? 0.6 : 0.01, 0.1 * i);
    io::write_file(work_ / (name + "/log.jsonl"), log);
  }
  tiny::Folder work_;
};

TEST_F(LogTools, DoctorAnswersThreeWhenSomethingIsBadlyWrong) {
  write_run("well", 5, 1e-3);
  write_run("ill", 5000, 1e-1);
  const Outcome well = run({"doctor", "well"}), ill = run({"doctor", "ill"});
  EXPECT_EQ(well.code, 0) << well.err;
  EXPECT_TRUE(well.out.starts_with("healthy")) << well.out;
  EXPECT_EQ(ill.code, 3) << ill.err;
  EXPECT_NE(ill.out.find("explosion"), std::string::npos) << ill.out;
  const Outcome json = run({"doctor", "ill", "--json"});
  EXPECT_EQ(json.code, 3);
  EXPECT_EQ(LogJson::parse(json.out).at("findings").at(0).at("symptom"), "explosion");
  EXPECT_EQ(run({"doctor", "nowhere"}).code, 1);
  EXPECT_TRUE(run({"doctor", "nowhere"}).one_line_of_error());
  EXPECT_EQ(run({"doctor"}).code, 2);
}

TEST_F(LogTools, CompareTellsTheDifferenceAndDrawsIt) {
  write_run("slow", 5, 1e-3);
  write_run("fast", 50, 1e-1);
  const Outcome json = run({"compare", "slow", "fast", "--out", "pictures", "--json"});
  ASSERT_EQ(json.code, 0) << json.err;
  const LogJson result = LogJson::parse(json.out);
  EXPECT_EQ(result.at("configuration").at("optimizer.learning_rate"), (std::vector<std::string>{"0.001", "0.1"}));
  EXPECT_EQ(result.at("runs").at(1).at("largest_logit"), 50);
  EXPECT_EQ(result.at("pictures").size(), 2u) << "nothing was held out";
  EXPECT_NE(io::read_file(work_ / "pictures/loss_by_step.svg").find("<svg"), std::string::npos);
  EXPECT_NE(run({"compare", "slow", "fast"}).out.find("optimizer.learning_rate"), std::string::npos);
  EXPECT_EQ(run({"compare", "slow"}).code, 2);
  EXPECT_EQ(run({"compare", "slow", "nowhere"}).code, 1);
}

TEST_F(LogTools, ExplainLrNamesEveryFactor) {
  io::write_file(work_ / "recall.toml",
                 "task = \"recall\"\n[model]\nnum_layers = 1\nmodel_dim = 16\nnum_heads = 2\nkind = \"gpt\"\n"
                 "[model.attention]\nposition = \"rotary\"\n[train]\nsteps = 4\nbatch_tokens = 64\nlog_every = 1\n");
  ASSERT_EQ(run({"train", "recall.toml"}).code, 0);
  const Outcome text = run({"explain-lr", "out/recall", "--param", "L0.Wq.h1", "--step", "2"});
  EXPECT_EQ(text.code, 0) << text.err;
  for (const char* part : {"update 2", "query head 1", "base", "schedule", "guard", "rollback", " = "})
    EXPECT_NE(text.out.find(part), std::string::npos) << part << ": " << text.out;
  const LogJson json = LogJson::parse(run({"explain-lr", "out/recall", "--param", "L0.Wq", "--json"}).out);
  EXPECT_EQ(json.at("step"), 4);
  EXPECT_EQ(json.at("rows").at(0).at("rate"), json.at("logged_rate"));
  EXPECT_EQ(run({"explain-lr", "out/recall", "--param", "L9.Wq"}).code, 1);
  EXPECT_EQ(run({"explain-lr", "out/recall"}).code, 2);
  EXPECT_NE(run({"explain-lr", "--help"}).out.find("Example:\n  attune explain-lr"), std::string::npos);
}

}  // namespace
}  // namespace attune::cli
