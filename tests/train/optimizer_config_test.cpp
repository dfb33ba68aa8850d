// [optimizer] of a recipe: every optimizer by its name, its own keys, groups, and its state in a checkpoint.
#include "attune/train/optimizer_config.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/models/gpt.hpp"
#include "attune/nn/roles.hpp"
#include "attune/train/checkpoint.hpp"
#include "attune/train/config.hpp"
#include "attune/train/run.hpp"
#include "train/tiny_task.hpp"

namespace attune::train {
namespace {

const std::string kHead = "[train]\nsteps = 100\n[optimizer]\n";

std::string refusal(const std::string& text) {
  try {
    parse_config(text, "r.toml");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

models::GptOptions tiny_gpt() {
  models::GptOptions o;
  o.vocab_size = 5;
  o.num_layers = 2;
  o.model_dim = 8;
  o.num_heads = 2;
  o.context = 6;
  return o;
}

/// One update on a sequence that depends on the step.
void update(models::Gpt& model, optim::Optimizer& optimizer) {
  std::vector<std::int32_t> tokens, targets;
  for (std::int64_t i = 0; i < 6; ++i) {
    tokens.push_back(std::int32_t((3 * i + optimizer.step()) % 5));
    targets.push_back(std::int32_t((3 * i + 3 + optimizer.step()) % 5));
  }
  optimizer.zero_grad();
  model.loss(Ids(tokens, {1, 6}), Ids(targets, {1, 6})).backward();
  ASSERT_TRUE(optimizer.advance());
}

std::vector<double> weights_of(const models::Gpt& model) {
  std::vector<double> all;
  for (const Tensor& w : model.parameters()) {
    for (const double x : w.to_vector()) all.push_back(x);
  }
  return all;
}

TEST(OptimizerConfig, EveryKindIsReadWrittenAndMade) {
  EXPECT_EQ(optimizer_kinds().size(), 12u);
  for (const std::string& kind : optimizer_kinds()) {
    const RunConfig c = parse_config(kHead + "kind = \"" + kind + "\"\n");
    EXPECT_EQ(c.optimizer, optimizer_defaults(kind)) << kind;
    const std::string text = config_text(c);
    EXPECT_EQ(config_text(parse_config(text)), text) << kind;
    set_seed(1);
    models::Gpt model(tiny_gpt());
    const auto optimizer = make_optimizer(c, model);
    EXPECT_EQ(optimizer->kind(), kind);
    EXPECT_EQ(optimizer->options().clip_norm, 1);
    for (int t = 0; t < 3; ++t) update(model, *optimizer);
  }
}

TEST(OptimizerConfig, DefaultsAreThoseOfTheKind) {
  EXPECT_EQ(parse_config(kHead + "kind = \"lion\"\n").optimizer.betas, (std::array<double, 2>{0.9, 0.99}));
  EXPECT_EQ(parse_config(kHead + "kind = \"muon\"\n").optimizer.momentum, 0.95);
  EXPECT_EQ(parse_config(kHead + "kind = \"lamb\"\nbetas = [0.8, 0.9]\n").optimizer.betas[0], 0.8);
  EXPECT_EQ(parse_config(kHead).optimizer, OptimizerConfig{});
}

TEST(OptimizerConfig, KeysOfOtherOptimizersAreNamed) {
  EXPECT_EQ(refusal(kHead + "momentum = 0.5\n"),
            "read_config: r.toml:4: a key of [optimizer], got `momentum`, a key of sgd, muon");
  EXPECT_EQ(refusal(kHead + "kind = \"lion\"\nepsilon = 1e-8\n")
                .find("read_config: r.toml:5: a key of [optimizer], got "
                      "`epsilon`, a key of adam, adamw, "),
            0u);
  EXPECT_EQ(refusal(kHead + "lerning_rate = 1\n"),
            "read_config: r.toml:4: a key of [optimizer], got `lerning_rate`; the nearest is `learning_rate`");
  EXPECT_NE(refusal(kHead + "kind = \"muon\"\nscale = \"big\"\n").find("one of original, adamw, spectral"),
            std::string::npos);
  EXPECT_NE(refusal(kHead + "[optimizer.groups]\nquerry = 2.0\n").find("the nearest is `query`"), std::string::npos);
  EXPECT_NE(refusal(kHead + "[optimizer.groups]\nlayer_decay = 0.0\n").find("r.toml:5: `layer_decay`"),
            std::string::npos);
}

TEST(OptimizerConfig, RunsOfOlderProgramsStayReadable) {
  // Programs that knew three optimizers wrote the keys of all three for each.
  tiny::Folder folder;
  const std::string old = kHead + "kind = \"adamw\"\nmomentum = 0.0\nnesterov = false\nbetas = [0.9, 0.98]\n";
  io::write_file(folder / "config.toml", old);
  const RunConfig c = read_run_config(folder / "config.toml");
  EXPECT_EQ(c.optimizer.kind, "adamw");
  EXPECT_EQ(c.optimizer.betas[1], 0.98);
  EXPECT_THROW(read_config(folder / "config.toml"), Error) << "in a recipe it is a mistake";
  EXPECT_NE(refusal(old).find("got `momentum`, a key of sgd, muon"), std::string::npos) << refusal(old);
  EXPECT_EQ(config_text(c).find("momentum"), std::string::npos) << "what is written now has its own keys alone";
  io::write_file(folder / "config.toml", old + "momentun = 1\n");
  EXPECT_THROW(read_run_config(folder / "config.toml"), Error) << "no optimizer has such a key";
  io::write_file(folder / "config.toml", old + "[model]\nmomentum = 0.0\n");
  EXPECT_THROW(read_run_config(folder / "config.toml"), Error) << "nor has another table";
}

TEST(OptimizerConfig, GroupsReachTheRows) {
  const RunConfig c = parse_config(
      "[train]\nsteps = 100\n[schedule]\nkind = \"constant\"\n[optimizer]\nlearning_rate = "
      "0.5\n[optimizer.groups]\nquery "
      "= 0.5\nembedding = 0.0\nlayer_decay = 0.5\nquery_heads = [1.0, 0.25]\nbase_width = 4\n");
  EXPECT_EQ(config_text(parse_config(config_text(c))), config_text(c));
  models::Gpt model(tiny_gpt());
  const auto optimizer = make_optimizer(c, model);
  const auto rows = nn::rows_named(nn::parameter_roles(model), "layer1.attention.query.head1");
  const std::size_t i = optimizer->index_of(rows[0].tensor);
  // 0.5 base, the role's 0.5, depth 2 of 3, the head's 0.25, 4 wide instead of 8.
  EXPECT_DOUBLE_EQ(optim::product_of(optimizer->rate_of(i, rows[0].first, rows[0].end)), 0.5 * 0.5 * 0.5 * 0.25 * 0.5);
  const auto before = nn::rows_named(nn::parameter_roles(model), "embedding.weight")[0].tensor.to_vector();
  update(model, *optimizer);
  EXPECT_EQ(nn::rows_named(nn::parameter_roles(model), "embedding.weight")[0].tensor.to_vector(), before);
  EXPECT_THROW(make_optimizer(c, model.parameters()), Error);
}

TEST(OptimizerConfig, StatesOutliveACheckpoint) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "attune_optimizer_config_test";
  for (const std::string& kind : optimizer_kinds()) {
    std::filesystem::remove_all(folder);
    const std::string average = kind == "adamw" ? "average = 0.9\nclip_zscore = 2.0\n" : "";
    const RunConfig c = parse_config(kHead + "kind = \"" + kind + "\"\n" + average);
    set_seed(1);
    models::Gpt whole(tiny_gpt());
    const auto optimizer = make_optimizer(c, whole);
    optimizer->set_rate_multiplier(1.0 / 3);
    for (int t = 0; t < 3; ++t) update(whole, *optimizer);
    Checkpoint checkpoint;
    checkpoint.weights = whole.named_parameters();
    checkpoint.optimizer = optimizer->state();
    optimizer->eval();
    save_checkpoint(folder, checkpoint);
    optimizer->train();
    set_seed(2);
    models::Gpt resumed(tiny_gpt());
    const auto again = make_optimizer(c, resumed);
    const Checkpoint loaded = load_checkpoint(folder);
    EXPECT_EQ(loaded.optimizer.numbers, checkpoint.optimizer.numbers) << kind;
    restore_weights(loaded.weights, resumed);
    again->load_state(loaded.optimizer);
    for (int t = 0; t < 3; ++t) {
      update(whole, *optimizer);
      update(resumed, *again);
    }
    EXPECT_EQ(weights_of(resumed), weights_of(whole)) << kind;
  }
  std::filesystem::remove_all(folder);
}

TEST(OptimizerConfig, RunsResumeWithTheSameBits) {
  tiny::Folder text, out;
  tiny::write_text(text.path());
  const auto updates = [](int count) {
    auto left = std::make_shared<int>(count);
    return RunHooks{.stop = [left] { return (*left)-- <= 0; }};
  };
  for (const std::string kind : {"adamw", "schedule_free", "prodigy", "muon", "adafactor"}) {
    RunConfig config = tiny::config(text.path(), 10);
    const double rate = config.optimizer.learning_rate;
    config.optimizer = optimizer_defaults(kind);
    config.optimizer.learning_rate = kind == "prodigy" ? 1 : rate;
    config.optimizer.clip_zscore = 2;
    if (kind == "adamw") config.optimizer.average = 0.9;
    if (kind == "muon") config.optimizer.groups = {.roles = {{Role::query, 0.5}}, .layer_decay = 0.9};
    start_run(config, out / (kind + "_whole"), "unused");
    start_run(config, out / (kind + "_stopped"), "unused", updates(4));
    resume_run(out / (kind + "_stopped"), "unused");
    const Checkpoint a = load_checkpoint(out / (kind + "_whole") / "checkpoint"),
                     b = load_checkpoint(out / (kind + "_stopped") / "checkpoint");
    EXPECT_EQ(a.step, 10);
    EXPECT_EQ(a.optimizer.numbers, b.optimizer.numbers) << kind;
    ASSERT_EQ(a.optimizer.arrays.size(), b.optimizer.arrays.size());
    for (std::size_t i = 0; i < a.optimizer.arrays.size(); ++i) {
      EXPECT_EQ(a.optimizer.arrays[i].second.to_vector(), b.optimizer.arrays[i].second.to_vector()) << kind;
    }
    for (std::size_t i = 0; i < a.weights.size(); ++i) {
      EXPECT_EQ(a.weights[i].tensor.to_vector(), b.weights[i].tensor.to_vector()) << kind;
    }
    // Weights to evaluate with lie where a translator looks for them, the trained ones with the optimizer.
    const bool averages = kind == "adamw" || kind == "schedule_free";
    EXPECT_EQ(a.optimizer.arrays.back().first == "trained_weights", averages) << kind;
    if (averages) {
      const double trained = a.optimizer.arrays.back().second.to_vector()[0];
      EXPECT_NE(a.weights[0].tensor.to_vector()[0], trained) << kind;
    }
  }
}

}  // namespace
}  // namespace attune::train
