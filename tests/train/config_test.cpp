// Recipes: defaults, the way back to text, and complaints that name the line and the nearest key.
#include "attune/train/config.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "attune/attention/mechanisms.hpp"
#include "attune/base/error.hpp"
#include "attune/optim/adam.hpp"
#include "attune/optim/sgd.hpp"

namespace attune::train {
namespace {

/// What parse_config says to a text; "" if it takes it.
std::string complaint(const std::string& text) {
  try {
    parse_config(text, "r.toml");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

const std::string kSteps = "[train]\nsteps = 100\n";

TEST(Config, TheRecipeOfTheProject) {
  const RunConfig c = read_config(ATTUNE_SOURCE_DIR "/recipes/translate_en_de.toml");
  EXPECT_EQ(c.task, "translate");
  EXPECT_EQ(c.data.languages, (std::vector<std::string>{"en-US", "de"}));
  EXPECT_EQ(c.tokenizer.vocab_size, 2000);
  EXPECT_EQ(c.model.num_layers, 2);
  EXPECT_EQ(c.model.feed_forward_dim, 512);
  EXPECT_EQ(c.train.minutes, 5);
  EXPECT_EQ(c.train.steps, 0);
  EXPECT_EQ(c.optimizer.learning_rate, 3e-3);
  EXPECT_EQ(c.optimizer.betas, (std::array<double, 2>{0.9, 0.98}));
  EXPECT_EQ(c.schedule.kind, "linear");
  EXPECT_THROW(make_schedule(c), Error);
}

TEST(Config, IsWrittenOutInFullAndReadsBack) {
  RunConfig c = parse_config(kSteps);
  c.seed = 12345678901234;
  c.data.folder = "a \"b\" \\ \n \x01 \xc3\xa4";
  c.model.attention.bias = {"alibi", "soft_cap"};
  c.model.dropout = 0.1 + 0.2;  // 17 digits
  c.optimizer.epsilon = 1e-300;
  c.schedule = optim::ScheduleSpec{"wsd", {{"warmup", 7.0}, {"decay_shape", "cosine"}}};
  const std::string text = config_text(c);
  const RunConfig again = parse_config(text);
  EXPECT_EQ(config_text(again), text);
  EXPECT_EQ(again.seed, c.seed);
  EXPECT_EQ(again.data.folder, c.data.folder);
  EXPECT_EQ(again.model.attention.bias, c.model.attention.bias);
  EXPECT_EQ(again.model.dropout, c.model.dropout);
  EXPECT_EQ(again.optimizer.epsilon, c.optimizer.epsilon);
  EXPECT_NE(text.find("\ndecay_shape = \"cosine\"\n"), std::string::npos);
  EXPECT_NE(text.find("\nmin_ratio = 0.0\n"), std::string::npos) << "defaults are written too";
  for (std::int64_t t = 0; t < 100; ++t) EXPECT_EQ(make_schedule(again).factor(t), make_schedule(c).factor(t));
}

TEST(Config, SchedulesInsideSchedules) {
  const std::string recipe = kSteps + R"(
[schedule]
kind = "sequential"
milestones = [0.25, 60]
[[schedule.schedules]]
kind = "linear_lr"
start_ratio = 0.1
steps = 25
[[schedule.schedules]]
kind = "constant"
[[schedule.schedules]]
kind = "cosine"
min_ratio = 0.5
total = 30
)";
  const RunConfig c = parse_config(recipe);
  const optim::Schedule s = make_schedule(c);
  EXPECT_DOUBLE_EQ(s.factor(0), 0.1);
  EXPECT_EQ(s.factor(30), 1);
  EXPECT_EQ(s.factor(60 + 15), 0.75);
  EXPECT_EQ(s.factor(60 + 30), 0.5);
  const std::string text = config_text(c);
  EXPECT_EQ(config_text(parse_config(text)), text);
  for (std::int64_t t = 0; t < 100; ++t) EXPECT_EQ(make_schedule(parse_config(text)).factor(t), s.factor(t));

  const RunConfig groups = parse_config(kSteps + R"(
[schedule]
kind = "per_group"
[schedule.groups.query]
kind = "multistep"
milestones = ["50 steps", "90 %"]
[schedule.groups.otherwise]
kind = "linear"
)");
  const std::string of_groups = config_text(groups);
  EXPECT_EQ(config_text(parse_config(of_groups)), of_groups);
  EXPECT_EQ(make_schedule(groups).for_group("query").factor(60), 0.1);
  EXPECT_EQ(make_schedule(groups).for_group("key").factor(60), 0.4);

  EXPECT_EQ(complaint(kSteps + "[schedule]\nkind = \"chained\"\nschedules = [{kind = \"linear\", warmpu = 3}]\n"),
            "read_config: r.toml:5: a key of [schedule.schedules[0]], got `warmpu`; the nearest is `warmup`");
  EXPECT_EQ(complaint(kSteps + "[schedule]\nkind = \"chained\"\nschedules = [{warmup = 3}]\n"),
            "read_config: r.toml:5: a `kind` of the schedule schedule.schedules[0], got none");
  EXPECT_NE(complaint(kSteps + "[schedule]\nkind = \"chained\"\nschedules = 3\n").find("a list of schedules, got 3"),
            std::string::npos);
}

TEST(Config, SchedulesOfTheDocuments) {
  std::ifstream file(ATTUNE_SOURCE_DIR "/docs/schedules.md");
  const std::string page{std::istreambuf_iterator<char>(file), {}}, fence = "\n```toml\n";
  int blocks = 0;
  for (std::size_t at = page.find(fence); at != std::string::npos; at = page.find(fence, at), ++blocks) {
    at += fence.size();
    RunConfig c = parse_config(kSteps + page.substr(at, page.find("\n```", at) - at));
    c.schedule = optim::in_steps(c.schedule, {.steps_per_epoch = 10});
    EXPECT_GT(make_schedule(c).factor(50), 0);
  }
  EXPECT_EQ(blocks, 3);
}

TEST(Config, LengthsInEpochsWaitForTheData) {
  RunConfig c = parse_config(kSteps + "[schedule]\nkind = \"linear\"\nwarmup = \"2 epochs\"\n");
  EXPECT_NE(config_text(c).find("\nwarmup = \"2 epochs\"\n"), std::string::npos);
  EXPECT_EQ(config_text(parse_config(config_text(c))), config_text(c));
  EXPECT_THROW(make_schedule(c), Error);
  c.schedule = optim::in_steps(c.schedule, {.steps_per_epoch = 10});
  EXPECT_EQ(make_schedule(c).factor(9), 0.5);
  EXPECT_NE(complaint(kSteps + "[schedule]\nkind = \"linear\"\nwarmup = \"2 moons\"\n").find("got \"2 moons\""),
            std::string::npos);
}

TEST(Config, UnknownKeysNameFileLineAndTheNearest) {
  EXPECT_EQ(complaint("[train]\nsteps = 10\nbatch_token = 5\n"),
            "read_config: r.toml:3: a key of [train], got `batch_token`; the nearest is `batch_tokens`");
  EXPECT_EQ(complaint("sed = 1\n" + kSteps),
            "read_config: r.toml:1: a key of the recipe, got `sed`; the nearest is `seed`");
  EXPECT_EQ(complaint("[train]\nsteps = 10\nclip_norm = 1\n"),
            "read_config: r.toml:3: a key of [train], got `clip_norm`, which belongs in [optimizer]");
  EXPECT_EQ(complaint("steps = 10\n"),
            "read_config: r.toml:1: a key of the recipe, got `steps`, which belongs in [train]");
  EXPECT_EQ(complaint(kSteps + "[scheduler]\nkind = \"linear\"\n"),
            "read_config: r.toml:3: a key of the recipe, got `scheduler`; the nearest is `schedule`");
  EXPECT_EQ(complaint(kSteps + "[schedule]\nkind = \"linear\"\nwarmpu = 3\n"),
            "read_config: r.toml:5: a key of [schedule], got `warmpu`; the nearest is `warmup`");
  EXPECT_EQ(complaint(kSteps + "[model]\nnum_layers = 2\n[model.attention]\nscor = \"additive\"\n"),
            "read_config: r.toml:6: a key of [model.attention], got `scor`; the nearest is `score`");
}

TEST(Config, WrongTypesAndRangesNameTheLine) {
  EXPECT_EQ(complaint("[train]\nsteps = \"ten\"\n"),
            "read_config: r.toml:2: `steps`, a whole number of at least 0 and at most 1000000000000, got \"ten\"");
  EXPECT_EQ(complaint("[train]\nsteps = 10.5\n").substr(0, 26), "read_config: r.toml:2: `st");
  EXPECT_EQ(complaint(kSteps + "[model]\ndropout = 1.0\n"),
            "read_config: r.toml:4: `dropout`, a number of at least 0 and below 1, got 1");
  EXPECT_EQ(complaint(kSteps + "[optimizer]\nlearning_rate = nan\n"),
            "read_config: r.toml:4: `learning_rate`, a number above 0 and at most 1000000, got nan");
  EXPECT_EQ(complaint(kSteps + "[optimizer]\nbetas = [0.9]\n"),
            "read_config: r.toml:4: `betas`, a list of 2, got a list of 1");
  EXPECT_EQ(
      complaint(kSteps + "[optimizer]\nkind = \"adamv\"\n"),
      "read_config: r.toml:4: `kind`, one of sgd, adam, adamw, nadam, radam, adafactor, lamb, lion, muon, ademamix, "
      "schedule_free, prodigy, got \"adamv\"; the nearest is \"adam\"");
  EXPECT_EQ(complaint(kSteps + "[model]\ntie_output = 1\n"),
            "read_config: r.toml:4: `tie_output`, true or false, got 1");
  EXPECT_NE(complaint(kSteps + "[model.attention]\nscore = \"scaled_dto\"\n").find("the nearest is \"scaled_dot\""),
            std::string::npos);
  EXPECT_NE(complaint("train = 3\n").find("r.toml:1: a table [train], got 3"), std::string::npos);
  EXPECT_NE(complaint(kSteps + "[schedule]\nkind = \"linear\"\nwarmup = 101\n").find("r.toml:3: a valid [schedule]"),
            std::string::npos);
  EXPECT_NE(complaint(kSteps + "[schedule]\nkind = \"cosin\"\n").find("the nearest is \"cosine\""), std::string::npos);
  EXPECT_NE(complaint("[train\nsteps = 10\n").find("r.toml:1: valid TOML"), std::string::npos);
}

TEST(Config, KeysThatDependOnEachOther) {
  EXPECT_EQ(complaint(""), "read_config: r.toml:1: one of `minutes` and `steps` above 0, got 0 minutes and 0 steps");
  EXPECT_NE(complaint("[train]\nsteps = 10\nminutes = 5\n").find("r.toml:3: one of `minutes` and `steps`"),
            std::string::npos);
  EXPECT_NE(complaint(kSteps + "[model]\nnum_heads = 3\n").find("r.toml:4: `model_dim`, a multiple of `num_heads`"),
            std::string::npos);
  EXPECT_NE(complaint(kSteps + "[data]\nlanguages = [\"de\"]\n").find("r.toml:4: `languages`, two of them"),
            std::string::npos);
  EXPECT_NE(complaint(kSteps + "[model.attention]\nmask = \"window\"\n").find("[model.attention.window] with left"),
            std::string::npos);
}

TEST(Config, StagesHaveTablesOfTheirOptions) {
  const RunConfig c = parse_config(kSteps + R"([model.attention]
position = "rotary"
bias = "soft_cap"
mask = ["window", "causal"]
[model.attention.soft_cap]
cap = 12
[model.attention.window]
left = 5
[model.attention.rotary]
base = 5e5
)");
  const AttentionConfig& a = c.model.attention;
  EXPECT_EQ(a.bias, std::vector<std::string>{"soft_cap"});
  EXPECT_EQ(a.mask, (std::vector<std::string>{"window", "causal"}));
  EXPECT_EQ(a.options.at("soft_cap"), (OptionValues{{"cap", 12.0}}));
  EXPECT_EQ(a.options.at("window"), (OptionValues{{"left", 5.0}}));
  const std::string text = config_text(c);
  EXPECT_NE(text.find("\n[model.attention.window]\nleft = 5.0\nright = -1.0\n"), std::string::npos) << text;
  EXPECT_NE(text.find("\n[model.attention.rotary]\nbase = 500000.0\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("[model.attention.causal]"), std::string::npos) << "it has no options";
  EXPECT_EQ(config_text(parse_config(text)), text);

  const std::string attention = kSteps + "[model.attention]\n";
  // A score and a key of the same name: the table is the score's.
  const std::string normed = config_text(parse_config(attention + "score = \"qk_norm\"\nqk_norm.epsilon = 0.001\n"));
  EXPECT_NE(normed.find("\n[model.attention.qk_norm]\nepsilon = 0.001\n"), std::string::npos) << normed;
  EXPECT_EQ(config_text(parse_config(normed)), normed);
  EXPECT_EQ(complaint(attention + "score = \"qk_norm\"\nqk_norm = \"rms\"\n"),
            "read_config: r.toml:5: `qk_norm` left out with the score qk_norm, got \"rms\"");
  EXPECT_EQ(parse_config(attention + "mask = \"none\"\n").model.attention.mask, std::vector<std::string>{});
  EXPECT_EQ(complaint(attention + "bias = [\"soft_cap\"]\n[model.attention.soft_cap]\n\ncup = 3\n"),
            "read_config: r.toml:7: an option of the bias soft_cap: cap, got `cup`");
  EXPECT_EQ(complaint(attention + "bias = [\"soft_cap\"]\n[model.attention.soft_cap]\ncap = true\n"),
            "read_config: r.toml:6: a valid `cap`, soft_cap: cap as a number, got a value of another type");
  EXPECT_NE(complaint(attention + "bias = [\"soft_cap\"]\n[model.attention.soft_cap]\ncap = -1\n")
                .find("r.toml:5: a bias soft_cap that a recipe can have (options: cap)"),
            std::string::npos);
  EXPECT_EQ(complaint(attention + "[model.attention.soft_cap]\ncap = 3\n"),
            "read_config: r.toml:4: the options of a stage that [model.attention] names, got those of soft_cap");
  EXPECT_NE(complaint(attention + "bias = [\"soft_cap\"]\n[model.attention.soft_cup]\ncap = 3\n")
                .find("got `soft_cup`; the nearest is `soft_cap`"),
            std::string::npos);
  EXPECT_NE(complaint(attention + "mask = \"padding\"\n").find("r.toml:4: a mask padding"), std::string::npos);
  EXPECT_NE(complaint(attention + "bias = [\"dense\"]\n").find("sequences of every length"), std::string::npos);
}

TEST(Config, WhatIsAddedToTokensFollowsWhatAttentionHas) {
  const auto positions = [](const std::string& model) {
    const ModelConfig m = parse_config(config_text(parse_config(kSteps + "[model]\n" + model))).model;
    return m.token_position + " " + m.attention.position;
  };
  EXPECT_EQ(positions(""), "sinusoidal none");
  EXPECT_EQ(positions("attention.position = \"none\"\n"), "sinusoidal none");
  EXPECT_EQ(positions("attention.position = \"rotary\"\n"), "none rotary");
  EXPECT_EQ(positions("attention.position = \"sinusoidal\"\n"), "none sinusoidal");
  EXPECT_EQ(positions("attention.position = \"learned\"\nattention.learned.num_positions = 900\n"), "none learned");
  EXPECT_EQ(positions("token_position = \"none\"\n"), "none none");
  EXPECT_EQ(positions("token_position = \"learned\"\n"), "learned none");
  EXPECT_EQ(positions("token_position = \"learned\"\nattention.position = \"xpos\"\n"), "learned xpos");

  RunConfig c = parse_config(kSteps);
  c.model.attention.position = "rotary";  // chosen later, in C++
  EXPECT_EQ(token_position_of(c.model), "none");

  EXPECT_EQ(
      complaint(kSteps + "[model]\ntoken_position = \"sinusoidle\"\n"),
      "read_config: r.toml:4: `token_position`, one of none, sinusoidal, learned, got \"sinusoidle\"; the nearest "
      "is \"sinusoidal\"");
  EXPECT_EQ(complaint(kSteps + "[model]\ntoken_positon = \"none\"\n"),
            "read_config: r.toml:4: a key of [model], got `token_positon`; the nearest is `token_position`");
  EXPECT_EQ(complaint(kSteps + "[model]\ntoken_position = \"rotary\"\n").substr(0, 73),
            "read_config: r.toml:4: `token_position`, one of none, sinusoidal, learned");
  EXPECT_EQ(complaint(kSteps + "[model]\nposition = \"rotary\"\n"),
            "read_config: r.toml:4: a key of [model], got `position`, which belongs in [model.attention]");
  EXPECT_EQ(complaint(kSteps + "[model.attention]\ntoken_position = \"none\"\n"),
            "read_config: r.toml:4: a key of [model.attention], got `token_position`, which belongs in [model]");
}

TEST(Config, RunsOfOlderVersionsHadOneKeyForBothPositions) {
  const std::filesystem::path file = std::filesystem::path(::testing::TempDir()) / "older_positions.toml";
  const auto positions = [&](const std::string& model) {
    { std::ofstream(file) << kSteps << "[model]\n" << model; }
    const ModelConfig m = read_run_config(file).model;
    return token_position_of(m) + " " + m.attention.position;
  };
  for (const char* added : {"none", "sinusoidal", "learned"}) {
    EXPECT_EQ(positions("attention.position = \"" + std::string(added) + "\"\n"), added + std::string(" none"));
    EXPECT_EQ(positions("token_position = \"none\"\nattention.position = \"" + std::string(added) + "\"\n"),
              "none " + std::string(added))
        << "a run of today";
  }
  EXPECT_EQ(positions("attention.position = \"rotary\"\n"), "none rotary");
  EXPECT_EQ(positions(""), "sinusoidal none");
  std::filesystem::remove(file);
}

/// Every mechanism that a name and options are enough for stands in a recipe: it is read, written, and read again.
TEST(Config, EveryMechanismCanBeNamed) {
  int named = 0;
  for (const Mechanism& m : mechanisms()) {
    if (!m.by_name) continue;
    const bool follows_length = m.kind == "bias" && m.name == "dense";  // a number for every pair
    std::string recipe = kSteps + "[model.attention]\n" + m.kind + " = \"" + m.name + "\"\n";
    if (m.name == "window") recipe += "window.left = 9\n";
    const std::string wrong = complaint(recipe);
    EXPECT_EQ(wrong.empty(), !follows_length) << m.kind << " " << m.name << ": " << wrong;
    if (!wrong.empty()) continue;
    const std::string text = config_text(parse_config(recipe));
    EXPECT_EQ(config_text(parse_config(text)), text);
    ++named;
  }
  EXPECT_GT(named, 10);
}

TEST(Config, RunsOfOlderVersionsHadTwoOptionsAsNumbers) {
  const std::filesystem::path file = std::filesystem::path(::testing::TempDir()) / "older_config.toml";
  const std::string attention = kSteps + "[model.attention]\nsoft_cap = 20.0\nwindow = 7\n";
  { std::ofstream(file) << attention << "bias = [\"soft_cap\"]\nmask = \"window\"\n"; }
  const AttentionConfig a = read_run_config(file).model.attention;
  EXPECT_EQ(a.options.at("soft_cap"), (OptionValues{{"cap", 20.0}}));
  EXPECT_EQ(a.options.at("window"), (OptionValues{{"left", 7.0}, {"right", 7.0}}));
  { std::ofstream(file) << attention << "bias = []\nmask = \"none\"\n"; }
  EXPECT_TRUE(read_run_config(file).model.attention.options.empty());
  std::filesystem::remove(file);
  EXPECT_EQ(complaint(attention + "bias = [\"soft_cap\"]\n"),
            "read_config: r.toml:4: a table [model.attention.soft_cap] with the options of the stage, got 20");
}

TEST(Config, MakesTheOptimizerItDescribes) {
  const auto parameters = [] {
    std::vector<Tensor> tensors{Tensor::zeros({3, 2}), Tensor::zeros({3})};
    for (Tensor& t : tensors) t.requires_grad();
    return tensors;
  };
  RunConfig c = parse_config(kSteps + "[optimizer]\nlearning_rate = 0.5\ndecay = \"matrices\"\nclip_norm = 2\n");
  const auto adamw = make_optimizer(c, parameters());
  EXPECT_EQ(adamw->kind(), "adamw");
  EXPECT_EQ(adamw->options().clip_norm, 2);
  EXPECT_EQ(adamw->options().weight_decay, 0.01);
  EXPECT_EQ(adamw->learning_rate(), 0.5 / 10);  // the first of ten steps of warm-up
  c.train.steps = 0;
  EXPECT_EQ(make_optimizer(c, parameters())->learning_rate(), 0.5);
  c.optimizer.kind = "sgd";
  EXPECT_EQ(make_optimizer(c, parameters())->kind(), "sgd");
  c.optimizer.kind = "adam";
  EXPECT_EQ(make_optimizer(c, parameters())->kind(), "adam");
  c.optimizer.kind = "loin";
  EXPECT_THROW(make_optimizer(c, parameters()), Error);
}

TEST(Config, MissingFileIsNamed) { EXPECT_THROW(read_config("/nowhere/recipe.toml"), Error); }

}  // namespace
}  // namespace attune::train
