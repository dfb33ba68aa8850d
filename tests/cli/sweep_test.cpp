// A sweep from plan to report, stopped and gone on with.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "attune/train/sweep.hpp"
#include "cli/program.hpp"
#include "message_of.hpp"
#include "temporary_folder.hpp"

namespace attune::cli {
namespace {

using attune::testing::message_of;
using attune::testing::TemporaryFolder;

constexpr const char* kRecipe =
    "task = \"recall\"\n[data]\npairs = 2\nkeys = 4\n[model]\nkind = \"gpt\"\nnum_layers = 1\nmodel_dim = 16\n"
    "num_heads = 1\nfeed_forward_dim = 32\ndropout = 0.0\ntoken_position = \"learned\"\n"
    "[train]\nbatch_tokens = 80\nlabel_smoothing = 0.0\nsteps = 12\nlog_every = 4\nvalidate_every = 6\n"
    "[optimizer]\nlearning_rate = 1e-2\n";
const std::string kPlan =
    "recipes = [\"small.toml\"]\nseeds = [1, 2]\n[axis]\nlabel = \"learning rate\"\nkeys = "
    "[\"optimizer.learning_rate\"]\n"
    "values = [1e-3, 1e-2]\n[[remedy]]\nname = \"base\"\n[[remedy]]\nname = \"guard\"\nset.guard.mode = \"full\"\n"
    "set.guard.limit = 1e-3\n";

void write(const std::filesystem::path& file, const std::string& text) { std::ofstream(file) << text; }

TEST(Sweep, TrainsEveryCombinationOnceAndReports) {
  const TemporaryFolder folder;
  write(folder / "small.toml", kRecipe);
  write(folder / "plan.toml", kPlan);
  const auto run = [&] {
    testing_program::Program program(folder.path(), {"sweep", "plan.toml", "--out", "out", "--json"});
    return program.wait();
  };
  const testing_program::Outcome first = run();
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(std::count(first.err.begin(), first.err.end(), '\n'), 8);  // a line a run

  const nlohmann::json report = nlohmann::json::parse(testing_program::content(folder / "out/report.json"));
  ASSERT_EQ(report["rows"].size(), 8u);
  ASSERT_EQ(report["summary"].size(), 2u);
  std::int64_t acted = 0, acted_on_base = 0;
  for (const nlohmann::json& row : report["rows"]) {
    EXPECT_EQ(row["task"], "small");
    EXPECT_FALSE(row["diverged"]) << row;
    EXPECT_GT(row["initial_loss"].get<double>(), row["loss"].get<double>());
    (row["remedy"] == "base" ? acted_on_base : acted) += row["actions"].get<std::int64_t>();
  }
  EXPECT_GT(acted, 0);
  EXPECT_EQ(acted_on_base, 0);
  for (const char* file : {"index.html", "loss_small.svg", "max_logit_small.svg", "entropy_small.svg"})
    EXPECT_GT(std::filesystem::file_size(folder / "out" / file), 1000u) << file;

  // Nothing is trained twice; a run whose line was cut off is.
  const std::string rows = testing_program::content(folder / "out/runs.jsonl");
  EXPECT_EQ(run().err, "");
  EXPECT_EQ(testing_program::content(folder / "out/runs.jsonl"), rows);
  write(folder / "out/runs.jsonl", rows.substr(0, rows.size() - 20));
  const testing_program::Outcome again = run();
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(nlohmann::json::parse(testing_program::content(folder / "out/report.json"))["summary"], report["summary"]);
}

TEST(Sweep, PlansOfAFileAreScoredAndReportedTogether) {
  const TemporaryFolder folder;
  write(folder / "small.toml", kRecipe);
  std::string plan = kPlan;
  plan.replace(plan.find("[1, 2]"), 6, "[1]");
  write(folder / "plain.toml", plan);
  write(folder / "scored.toml", "score = true\n" + plan);
  write(folder / "both.toml", "plans = [\"plain.toml\", \"scored.toml\"]\n");
  const testing_program::Outcome outcome =
      testing_program::Program(folder.path(), {"sweep", "both.toml", "--out", "out"}).wait();
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("best score, at |"), std::string::npos);

  const nlohmann::json report = nlohmann::json::parse(testing_program::content(folder / "out/report.json"));
  ASSERT_EQ(report["sweeps"].size(), 2u);
  const nlohmann::json &plain = report["sweeps"][0], &scored = report["sweeps"][1];
  for (std::size_t i = 0; i < 4; ++i) {
    const nlohmann::json& row = scored["rows"][i];
    EXPECT_EQ(row["score_name"], "accuracy");
    EXPECT_GE(row["score"].get<double>(), 0);
    EXPECT_LE(row["score"].get<double>(), 1);
    EXPECT_EQ(row["loss"], plain["rows"][i]["loss"]) << "scoring changes no bit";
    EXPECT_FALSE(plain["rows"][i].contains("score"));
  }
  for (const nlohmann::json& of_remedy : scored["summary"]) {
    double best = 0;
    for (const nlohmann::json& row : scored["rows"])
      if (row["remedy"] == of_remedy["remedy"]) best = std::max(best, row["score"].get<double>());
    EXPECT_EQ(of_remedy["score"].get<double>(), best);
  }
  const std::string page = testing_program::content(folder / "out/index.html");
  EXPECT_NE(page.find("<h2>plain</h2>"), std::string::npos);
  EXPECT_NE(page.find("href=\"scored/index.html\""), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(folder / "out/scored/score_small.svg"));
  EXPECT_FALSE(std::filesystem::exists(folder / "out/plain/score_small.svg"));

  // A plan that asks for scores later gets them: the runs whose weights are gone are trained again.
  write(folder / "plain.toml", "score = true\n" + plan);
  ASSERT_EQ(testing_program::Program(folder.path(), {"sweep", "both.toml", "--out", "out"}).wait().code, 0);
  const nlohmann::json later = nlohmann::json::parse(testing_program::content(folder / "out/report.json"));
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(later["sweeps"][0]["rows"][i]["score"], scored["rows"][i]["score"]);
    EXPECT_EQ(later["sweeps"][0]["rows"][i]["loss"], scored["rows"][i]["loss"]);
  }
}

TEST(Sweep, PresetsAreThePlansOfThatName) {
  for (const char* preset : {"ci", "quick", "full"}) {
    const auto plans = train::read_sweeps(std::string(ATTUNE_SOURCE_DIR "/recipes/sweeps/") + preset + ".toml");
    for (const train::SweepPlan& plan : plans) EXPECT_GE(plan.runs.size(), 12u) << preset << ' ' << plan.name;
    EXPECT_EQ(plans.size() > 1, std::string_view(preset) == "full");
  }
  EXPECT_EQ(train::read_sweep(ATTUNE_SOURCE_DIR "/recipes/sweeps/translation.toml").runs.size(), 10u);
  const TemporaryFolder folder;
  const auto code = [&](std::vector<std::string> arguments) {
    return testing_program::Program(folder.path(), std::move(arguments)).wait().code;
  };
  EXPECT_EQ(code({"sweep"}), 2);
  EXPECT_EQ(code({"sweep", "--preset", "huge"}), 2);
  EXPECT_EQ(code({"sweep", "plan.toml", "--preset", "ci"}), 2);
}

TEST(Sweep, APlanSaysWhatIsWrongWithIt) {
  const TemporaryFolder folder;
  write(folder / "small.toml", kRecipe);
  const auto message = [&](std::string what, const std::string& with) {
    std::string plan = kPlan;
    plan.replace(plan.find(what), what.size(), with);
    write(folder / "plan.toml", plan);
    return message_of([&] { train::read_sweep(folder / "plan.toml"); });
  };
  EXPECT_NE(message("seeds", "sedes").find("seeds"), std::string::npos);
  EXPECT_NE(message("1e-3, 1e-2", "1e-2, 1e-3").find("increase"), std::string::npos);
  EXPECT_NE(message("\"guard\"", "\"base\"").find("two of the name base"), std::string::npos);
  EXPECT_NE(message("guard.mode", "guard.mood").find("mode"), std::string::npos);
  EXPECT_NE(message("optimizer.learning_rate", "optimizer.learning_rat").find("learning_rate"), std::string::npos);
  write(folder / "plans.toml", "plans = [\"plan.toml\", \"plan.toml\"]\n");
  write(folder / "plan.toml", kPlan);
  EXPECT_NE(message_of([&] { train::read_sweeps(folder / "plans.toml"); }).find("two of the name"), std::string::npos);
  EXPECT_NE(message("small.toml", "large.toml").find("large.toml"), std::string::npos);
}

}  // namespace
}  // namespace attune::cli
