// Runs that cannot be lost: the program is killed while the rate warms up, while it cools down, and right after the
// guard has gone back; resumed it ends with the same weights and the same log, bit for bit. And a run whose guard gives
// up says so in its exit code.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "attune/io/atomic_file.hpp"
#include "attune/train/checkpoint.hpp"
#include "cli/program.hpp"
#include "train/tiny_task.hpp"

namespace attune::cli {
namespace {

namespace fs = std::filesystem;
namespace tiny = train::tiny;
using Json = nlohmann::json;
using testing_program::Outcome;
using testing_program::Program;

/// What a log says: complete lines, without what a clock has measured.
struct Log {
  std::vector<std::string> lines;
  std::int64_t step = 0;       // of the last line of a step
  std::int64_t rollbacks = 0;  // of the guard
};
Log read_log(const fs::path& run) {
  Log log;
  std::istringstream content(testing_program::content(run / "log.jsonl"));
  for (std::string line; std::getline(content, line) && !content.eof();) {
    Json event = Json::parse(line);
    event.erase("seconds");
    if (event["event"] == "step") log.step = event["step"];
    log.rollbacks += event.value("action", "") == "roll_back";
    log.lines.push_back(event.dump());
  }
  return log;
}

class Kill : public testing::Test {
 protected:
  Outcome run(std::vector<std::string> arguments) { return Program(work_.path(), std::move(arguments)).wait(); }

  void write_recipe(int steps, const std::string& schedule, const std::string& more = "") {
    tiny::write_text(work_ / "text");
    std::string recipe = tiny::recipe(work_ / "text", steps);
    recipe = recipe.substr(0, recipe.find("[schedule]")) + "[schedule]\n" + schedule + more;
    const auto set = [&](const std::string& key, const std::string& value) {
      const std::size_t at = recipe.find(key + " = ");
      recipe.replace(at, recipe.find('\n', at) - at, key + " = " + value);
    };
    set("log_every", "5");
    set("checkpoint_every", "13");
    set("validate_every", "50");
    io::write_file(work_ / "tiny.toml", recipe);
  }

  /// Trains, kills the program once its log is so far, and returns the log of that moment. Empty if it came too late.
  Log killed(const std::string& out, const std::function<bool(const Log&)>& far) {
    Program training(work_.path(), {"train", "tiny.toml", "--out", out});
    while (training.runs_for(std::chrono::milliseconds(3)) && !far(read_log(work_ / out))) {
    }
    training.send(SIGKILL);
    return training.wait().code == 128 + SIGKILL ? read_log(work_ / out) : Log{};
  }

  void expect_same_end(const std::string& a, const std::string& b) {
    const train::Checkpoint x = train::load_checkpoint(work_ / (a + "/checkpoint")),
                            y = train::load_checkpoint(work_ / (b + "/checkpoint"));
    EXPECT_EQ(x.step, y.step);
    EXPECT_EQ(x.data, y.data);
    ASSERT_EQ(x.weights.size(), y.weights.size());
    for (std::size_t w = 0; w < x.weights.size(); ++w)
      EXPECT_EQ(x.weights[w].tensor.to_vector(), y.weights[w].tensor.to_vector()) << b << " " << x.weights[w].name;
    EXPECT_EQ(x.guard.numbers, y.guard.numbers);
    EXPECT_EQ(read_log(work_ / a).lines, read_log(work_ / b).lines) << b;
  }

  /// Moments within [first, last): one, or ten at random.
  std::vector<std::int64_t> moments(std::int64_t first, std::int64_t last) {
    if (!std::getenv("ATTUNE_FULL")) return {(first + last) / 2};
    Generator random(std::uint64_t(std::chrono::steady_clock::now().time_since_epoch().count()));
    std::vector<std::int64_t> all;
    for (int i = 0; i < 10; ++i) all.push_back(first + std::int64_t(random.below(std::uint64_t(last - first))));
    return all;
  }

  tiny::Folder work_;
};

TEST_F(Kill, InTheWarmUpAndInTheCoolDown) {
  write_recipe(160, "kind = \"wsd\"\nwarmup = 60\ndecay = 60\n", "[guard]\nmode = \"full\"\n");
  ASSERT_EQ(run({"train", "tiny.toml", "--out", "out/whole"}).code, 0);
  int number = 0, within = 0;
  for (const auto& [first, last] : {std::pair<std::int64_t, std::int64_t>{10, 50}, {105, 150}}) {
    for (const std::int64_t moment : moments(first, last)) {
      const std::string out = "out/killed_" + std::to_string(number++);
      const Log log = killed(out, [&, step = moment](const Log& l) { return l.step >= step; });
      within += log.step >= moment && log.step < (first < 60 ? 60 : 160);
      const Outcome rest = run({"train", "--resume", out});
      ASSERT_EQ(rest.code, 0) << rest.err;
      expect_same_end("out/whole", out);
    }
  }
  EXPECT_GE(2 * within, number) << "too few kills came in time";
}

TEST_F(Kill, RightAfterARollback) {
  // Update 31 makes every weight too large for single precision: twice the run goes back to where it began, then it
  // gives up.
  write_recipe(60, "kind = \"piecewise_constant\"\nmilestones = [30]\nscales = [1e30]\n", "[guard]\nmode = \"full\"\n");
  const Outcome whole = run({"train", "tiny.toml", "--out", "out/whole"});
  EXPECT_EQ(whole.code, 3) << whole.err;
  ASSERT_EQ(read_log(work_ / "out/whole").rollbacks, 2);
  const int kills = std::getenv("ATTUNE_FULL") ? 10 : 2;
  int within = 0;
  for (int i = 0; i < kills; ++i) {
    const std::string out = "out/killed_" + std::to_string(i);
    const Log log = killed(out, [&](const Log& l) { return l.rollbacks > i % 2; });
    within += log.rollbacks > 0;
    EXPECT_EQ(run({"train", "--resume", out}).code, 3);
    expect_same_end("out/whole", out);
  }
  EXPECT_GT(within, 0) << "no kill came in time";
}

TEST_F(Kill, AGuardThatGivesUpIsThree) {
  write_recipe(60, "kind = \"piecewise_constant\"\nmilestones = [30]\nscales = [1e30]\n", "[guard]\nmode = \"full\"\n");
  const Outcome told = run({"train", "tiny.toml", "--out", "out/told"});
  EXPECT_EQ(told.code, 3);
  EXPECT_NE(told.err.find("\nattune: AttentionGuard: at most 2 spikes"), std::string::npos) << told.err;
  EXPECT_EQ(told.out.find("went back from step 31 to 0 (not_finite)\nwent back from step 31 to 0 (not_finite)\n"), 0u)
      << told.out;
  EXPECT_NE(told.out.find("spike"), std::string::npos) << "the doctor's words: " << told.out;
  const Outcome json = run({"train", "tiny.toml", "--out", "out/json", "--json"});
  EXPECT_EQ(json.code, 3);
  const Json report = Json::parse(json.out);
  EXPECT_EQ(report.at("gave_up"), true);
  EXPECT_EQ(report.at("rollbacks").size(), 2u);
  EXPECT_EQ(report.at("rollbacks").at(0), (Json{{"from", 31}, {"to", 0}, {"signal", "not_finite"}}));
  EXPECT_EQ(run({"doctor", "out/told"}).code, 3) << "it is badly wrong";
  // Without a guard the same is an error as any other.
  write_recipe(60, "kind = \"piecewise_constant\"\nmilestones = [30]\nscales = [1e30]\n");
  EXPECT_EQ(run({"train", "tiny.toml", "--out", "out/alone"}).code, 1);
}

}  // namespace
}  // namespace attune::cli
