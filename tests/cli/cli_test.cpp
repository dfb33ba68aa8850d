// The command line: what it answers, with which exit code, and that a killed training loses nothing.
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "attune/base/cpu.hpp"
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

class Cli : public testing::Test {
 protected:
  Outcome run(std::vector<std::string> arguments, const std::string& input = "") {
    return Program(work_.path(), std::move(arguments), input).wait();
  }
  /// The text and a recipe of so many steps.
  void write_recipe(int steps) {
    tiny::write_text(work_ / "text");
    io::write_file(work_ / "tiny.toml", tiny::recipe(work_ / "text", steps));
  }
  void expect_error(const Outcome& outcome, const std::string& part) {
    EXPECT_EQ(outcome.code, 1) << outcome.err;
    EXPECT_TRUE(outcome.one_line_of_error()) << outcome.err;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
  tiny::Folder work_;
};

TEST_F(Cli, HelpHasAnExampleOfEveryCommand) {
  const Outcome all = run({"--help"});
  EXPECT_EQ(all.code, 0);
  std::istringstream lines(all.out.substr(all.out.find("Subcommands:\n") + 13));
  std::set<std::string> commands;
  for (std::string line; std::getline(lines, line) && line.starts_with("  ");)
    commands.insert(line.substr(2, line.find(' ', 2) - 2));
  EXPECT_GE(commands.size(), 15u) << all.out;
  for (const std::string& command : commands) {
    const Outcome help = run({command, "--help"});
    EXPECT_EQ(help.code, 0);
    EXPECT_NE(help.out.find("Example:\n  attune " + command), std::string::npos) << help.out;
  }
  // Both documents list the same commands, no more and no fewer.
  for (const char* name : {"README.md", "README.zh.md"}) {
    const std::string page = io::read_file(fs::path(ATTUNE_SOURCE_DIR) / name);
    std::istringstream text(page.substr(page.find("\n```\nattune ") + 5));
    std::set<std::string> listed;
    for (std::string line; std::getline(text, line) && line != "```";)
      if (line.starts_with("attune ")) listed.insert(line.substr(7, line.find(' ', 7) - 7));
    EXPECT_EQ(listed, commands) << name;
  }
  EXPECT_EQ(run({"--version"}).code, 0);
}

TEST_F(Cli, WrongUsageIsTwo) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{},
                                             {"sing"},
                                             {"info", "--sing"},
                                             {"explain"},
                                             {"explain", "--shape", "1,8,1024"},
                                             {"schedule"},
                                             {"schedule", "plot"},
                                             {"schedule", "print", "linear,total=3", "--total", "-1"},
                                             {"eval"},
                                             {"eval", "run", "--on", "moon"},
                                             {"train"},
                                             {"train", "a.toml", "--resume", "out/a"},
                                             {"train", "a.toml", "--minutes", "-1"},
                                             {"train", "a.toml", "--port", "80"},
                                             {"translate", "run", "a", "--beam", "0"}}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_TRUE(outcome.one_line_of_error()) << outcome.err;
  }
}

TEST_F(Cli, ScheduleIsShownBeforeItIsUsed) {
  const Json printed =
      Json::parse(run({"schedule", "print", "linear,warmup=0.1,total=40", "--rate", "2", "--json"}).out);
  const Json& rows = printed.at(0).at("rows");
  EXPECT_EQ(rows.front().at("learning_rate"), 0.5);  // the first of four steps of warm-up
  EXPECT_EQ(rows.back(), (Json{{"step", 39}, {"factor", 1.0 / 36}, {"learning_rate", 2.0 / 36}}));
  EXPECT_NE(run({"schedule", "print", R"({"kind": "onecycle", "total": 20})"}).out.find("momentum"), std::string::npos);
  EXPECT_NE(run({"schedule", "list"}).out.find(R"({"kind":"per_group")"), std::string::npos);
  write_recipe(40);
  const Outcome plot =
      run({"schedule", "plot", "tiny.toml", "cosine,warmup=2 epochs,total=40", "--epoch", "5", "--rate", "1"});
  EXPECT_EQ(plot.out, "schedule.svg\n") << plot.err;
  const std::string picture = io::read_file(work_ / "schedule.svg");
  for (const char* part : {"<svg", ">tiny<", ">cosine<", "40 steps", "prefers-color-scheme:dark"})
    EXPECT_NE(picture.find(part), std::string::npos) << part;
  expect_error(run({"schedule", "print", "cosin,total=3"}), "the nearest is `cosine`");
  expect_error(run({"schedule", "print", "cosine"}), "`total`, 1 step or more");
  expect_error(run({"schedule", "print", "noam"}), "a total, in the schedule or as --total");
  expect_error(run({"schedule", "print", "linear,warmup=2 epochs,total=40"}), "the length of an epoch is not known");
  expect_error(run({"schedule", "plot", "linear,total=40", "--momentum"}), "schedules with a momentum");
}

TEST_F(Cli, InfoTellsWhatThereIs) {
  const Json cpu = Json::parse(run({"info", "--cpu", "--json"}).out);
  EXPECT_EQ(cpu.at("target"), std::string(name_of(cpu_target())));
  EXPECT_GE(cpu.at("cores"), 1);
  const Json mechanisms = Json::parse(run({"info", "--mechanisms", "--json"}).out);
  for (const char* kind : {"position", "score", "bias", "mask", "normalizer"})
    EXPECT_FALSE(mechanisms.at(kind).empty()) << kind;
  EXPECT_NE(run({"info", "--mechanisms"}).out.find("scaled_dot"), std::string::npos);
  EXPECT_NE(run({"info"}).out.find("threads"), std::string::npos);
  expect_error(run({"info", "nowhere"}), "nowhere");
}

TEST_F(Cli, ExplainTellsThePathOfACall) {
  const auto told = [&](std::vector<std::string> more) {
    std::vector<std::string> all{"explain", "--shape", "1,8,1024,64", "--threads", "1", "--json"};
    all.insert(all.end(), more.begin(), more.end());
    return Json::parse(run(all).out);
  };
  const Json plain = told({"--causal"}), biased = told({"--causal", "--bias", "soft_cap", "--bias", "alibi"});
  EXPECT_EQ(plain.at("path"), "plain");
  EXPECT_EQ(biased.at("path"), "stages");
  EXPECT_NE(biased.at("why").get<std::string>().find("soft_cap"), std::string::npos);
  EXPECT_GT(told({"--score", "additive"}).at("forward_bytes"), plain.at("forward_bytes"));
  EXPECT_NE(run({"explain", "--shape", "2,4,8,16", "--position", "rotary"}).out.find("why"), std::string::npos);
  // Additive keeps its hidden features: twice as many, more memory.
  EXPECT_GT(told({"--score", "additive:hidden_dim=128"}).at("forward_bytes"),
            told({"--score", "additive:hidden_dim=64"}).at("forward_bytes"));
  EXPECT_EQ(told({"--mask", "window:left=63,right=0"}).at("path"), "plain");
  EXPECT_EQ(told({"--score", "mlp:hidden=[8,4]"}).at("path"), "stages");
  expect_error(run({"explain", "--shape", "1,8,1024,64", "--bias", "soft_cap:cup=3"}), "an option: cap");
  expect_error(run({"explain", "--shape", "1,8,1024,64", "--bias", "soft_cap:cap"}), "option=value");
  expect_error(run({"explain", "--shape", "1,8,1024,64", "--bias", "alib"}), "alibi");
  expect_error(run({"explain", "--shape", "1,8,1024,64", "--kv-heads", "3"}), "3 key heads");
  expect_error(run({"explain", "--shape", "1,8,-1,64"}), "1 or more");
  expect_error(run({"explain", "--shape", "1,8,1024,64", "--dtype", "int8"}), "bfloat16");
}

TEST_F(Cli, ErrorsAreOneLineThatNamesTheCause) {
  expect_error(run({"train", "missing.toml"}), "missing.toml");
  io::write_file(work_ / "wrong.toml", "task = \"translate\"\n[model]\nmodel_dmi = 32\n");
  expect_error(run({"train", "wrong.toml"}), "model_dim");
  expect_error(run({"translate", "nowhere", "A sentence."}), "nowhere");
  expect_error(run({"fetch", "the-moon"}), "the-moon");
  write_recipe(2);
  io::write_file(work_ / "text" / "train.tsv", "a line without a tab\n");
  expect_error(run({"train", "tiny.toml"}), "train.tsv");
  io::write_file(work_ / "text" / "train.tsv", "");
  expect_error(run({"train", "--resume", "out/tiny"}), "train.tsv");
  Program full(work_.path(), {"info", "--json"}, "", "/dev/full");
  EXPECT_EQ(full.wait().code, 1) << "standard output is full";
}

TEST_F(Cli, FromRecipeToTranslation) {
  write_recipe(60);
  const Outcome trained = run({"train", "tiny.toml", "--json"});
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_EQ(Json::parse(trained.out).at("step"), 60);
  EXPECT_NE(trained.err.find("step 60/60"), std::string::npos) << trained.err;
  expect_error(run({"train", "tiny.toml"}), "resume");

  const Json scores = Json::parse(run({"eval", "out/tiny", "--on", "test", "--json"}).out);
  for (const char* key : {"bleu", "chrf", "copy_bleu", "memory_bleu"}) {
    EXPECT_GE(scores.at(key), 0);
    EXPECT_LE(scores.at(key), 100);
  }
  EXPECT_EQ(scores.at("sentences"), 24);
  EXPECT_NE(run({"eval", "out/tiny", "--on", "valid"}).out.find("translation memory"), std::string::npos);

  const Outcome one = run({"translate", "out/tiny", "open the file."});
  EXPECT_EQ(one.code, 0) << one.err;
  const Outcome two = run({"translate", "out/tiny"}, "open the file.\n\nopen the file.\n");
  EXPECT_EQ(two.out, one.out + "\n" + one.out) << "line by line, an empty line stays one";
  EXPECT_EQ(Json::parse(run({"translate", "out/tiny", "open the file.", "--beam", "3", "--json"}).out).at("source"),
            "open the file.");

  const Outcome view = run({"view", "out/tiny", "open the <file>.", "--json"});
  ASSERT_EQ(view.code, 0) << view.err;
  const std::string page = io::read_file(work_ / Json::parse(view.out).at("page").get<std::string>());
  EXPECT_NE(page.find("<html"), std::string::npos);
  EXPECT_EQ(page.find("open the <file>"), std::string::npos) << "text is escaped";
  expect_error(run({"view", "out/tiny", ""}), "empty");
  EXPECT_NE(run({"info", "out/tiny"}).out.find("60 of 60 steps"), std::string::npos);
}

TEST_F(Cli, OtherTasksFromRecipeToScore) {
  const std::string model =
      "[model]\nnum_layers = 1\nmodel_dim = 16\nnum_heads = 2\ncontext = 16\nkind = \"gpt\"\n[model.attention]\n"
      "position = \"rotary\"\n[train]\nsteps = 5\nbatch_tokens = 64\n";
  fs::create_directories(work_ / "text");
  std::string text;
  for (int i = 0; i < 60; ++i) text += i % 3 == 0 ? "one and two\n" : "two and one\n";
  for (const char* part : {"train.txt", "valid.txt", "test.txt"}) io::write_file(work_ / "text" / part, text);
  io::write_file(work_ / "text.toml", "task = \"language-model\"\n[data]\nsource = \"text\"\nfolder = \"" +
                                          (work_ / "text").string() + "\"\n" + model);
  ASSERT_EQ(run({"train", "text.toml"}).code, 0);
  const Json score = Json::parse(run({"eval", "out/text", "--on", "valid", "--json"}).out);
  EXPECT_EQ(score.at("characters"), text.size() - 1);
  EXPECT_GT(score.at("bits_per_character"), 0);
  EXPECT_NE(run({"eval", "out/text"}).out.find("bits per character (test, 719 characters)"), std::string::npos);
  EXPECT_NE(run({"info", "out/text"}).out.find("720 characters"), std::string::npos);
  expect_error(run({"translate", "out/text", "one"}), "language-model");

  io::write_file(work_ / "recall.toml", "task = \"recall\"\n" + model);
  ASSERT_EQ(run({"train", "recall.toml"}).code, 0);
  const Json answers = Json::parse(run({"eval", "out/recall", "--json"}).out);
  EXPECT_GE(answers.at("accuracy"), 0);
  EXPECT_LE(answers.at("accuracy"), 1);
  EXPECT_NE(run({"eval", "out/recall"}).out.find("questions"), std::string::npos);
}

TEST_F(Cli, ADemoWritesItsResult) {
  write_recipe(30);
  const Outcome demo = run({"demo", "--recipe", "tiny.toml"});
  ASSERT_EQ(demo.code, 0) << demo.err;
  const Json result = Json::parse(io::read_file(work_ / "out/demo/result.json"));
  for (const char* key :
       {"bleu", "chrf", "copy_bleu", "memory_bleu", "minutes", "steps", "tokens_per_second", "parameters"})
    EXPECT_TRUE(result.at(key).is_number()) << key;
  EXPECT_EQ(result.at("steps"), 30);
  EXPECT_TRUE(fs::exists(work_ / "out/demo/attention.html"));
  std::size_t translations = 0;
  for (std::size_t at = 0; (at = demo.out.find("\n  attune ", at)) != std::string::npos; ++at) ++translations;
  EXPECT_EQ(translations, 10u);
  EXPECT_EQ(run({"demo", "--recipe", "tiny.toml"}).code, 0) << "a finished demo is shown again";
  expect_error(run({"demo", "--recipe", "tiny.toml", "--minutes", "3"}), "--fresh");
  EXPECT_EQ(run({"demo", "--recipe", "tiny.toml", "--fresh"}).code, 0);
}

TEST_F(Cli, CtrlCSavesAndStops) {
  write_recipe(100000);
  Program training(work_.path(), {"train", "tiny.toml", "--dashboard"});
  while (!fs::exists(work_ / "out/tiny/checkpoint/state.json") && training.runs_for(std::chrono::milliseconds(5))) {
  }
  training.send(SIGINT);
  const Outcome stopped = training.wait();
  EXPECT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_NE(stopped.err.find("attune train --resume out/tiny"), std::string::npos) << stopped.err;
  EXPECT_NE(stopped.err.find("dashboard: http://127.0.0.1:"), std::string::npos) << stopped.err;
  EXPECT_EQ(run({"dashboard", "out/tiny"}).out, "out/tiny/dashboard.html\n");
  EXPECT_NE(io::read_file(work_ / "out/tiny/dashboard.html").find("\"event\":\"heads\""), std::string::npos);
  expect_error(run({"dashboard", "out/nothing"}), "out/nothing");
  EXPECT_EQ(run({"translate", "out/tiny", "open the file."}).code, 0) << "what was saved can translate";
}

TEST_F(Cli, KilledAtAnyMomentItEndsWithTheSameBits) {
  write_recipe(40);
  ASSERT_EQ(run({"train", "tiny.toml", "--out", "out/whole"}).code, 0);
  const auto began = std::chrono::steady_clock::now();
  ASSERT_EQ(run({"train", "tiny.toml", "--out", "out/measured"}).code, 0);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();

  const int kills = std::getenv("ATTUNE_FULL") ? 10 : 3;
  Generator moments(std::uint64_t(std::chrono::steady_clock::now().time_since_epoch().count()));
  int killed = 0;
  for (int i = 0; i < kills; ++i) {
    const std::string out = "out/killed_" + std::to_string(i);
    const auto moment = std::chrono::milliseconds(1 + int(900 * seconds * moments.uniform()));
    Program training(work_.path(), {"train", "tiny.toml", "--out", out});
    training.runs_for(moment);
    training.send(SIGKILL);
    killed += training.wait().code == 128 + SIGKILL;
    // Killed before config.toml was there, nothing has begun: start; else go on.
    const bool begun = fs::exists(work_ / (out + "/config.toml"));
    const Outcome rest = begun ? run({"train", "--resume", out}) : run({"train", "tiny.toml", "--out", out});
    ASSERT_EQ(rest.code, 0) << rest.err << " killed after " << moment.count() << " ms";
    const train::Checkpoint x = train::load_checkpoint(work_ / "out/whole/checkpoint"),
                            y = train::load_checkpoint(work_ / (out + "/checkpoint"));
    ASSERT_EQ(x.weights.size(), y.weights.size());
    EXPECT_EQ(y.step, 40);
    for (std::size_t w = 0; w < x.weights.size(); ++w)
      EXPECT_EQ(x.weights[w].tensor.to_vector(), y.weights[w].tensor.to_vector())
          << x.weights[w].name << ", killed after " << moment.count() << " ms";
  }
  EXPECT_GT(killed, 0) << "no kill came in time";
}

}  // namespace
}  // namespace attune::cli
