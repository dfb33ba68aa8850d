// Chaos: one batch of a training is broken, its gradient a thousandfold or its loss NaN, and the run must not be lost.
//
// With ATTUNE_FULL=1 on recipes/tiny_novels.toml (attune fetch novels), with three seeds, two optimizers and without
// the guard beside it: the table of docs/learning_rate.md. There the guarded run ends within 5 % of the loss of the
// same run without the broken batch. Otherwise on a made-up task whose loss still falls steeply at the end: the rate
// that a rollback halves is felt more there, and rounding alone moves the loss by a few percent. So it must keep 85 %
// of what the undisturbed run learns.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/base/error.hpp"
#include "attune/train/guard_config.hpp"
#include "attune/train/task.hpp"
#include "attune/train/trainer.hpp"
#include "train/tiny_task.hpp"

namespace attune::train {
namespace {

/// Batches of the training data whose loss is broken.
struct Broken {
  std::int64_t from = 0, count = 0;  // batches drawn before the first of them; how many
  double gradient = 1;               // factor; the loss itself stays as it is
  bool not_finite = false;           // the loss is NaN
};

/// A learner some of whose batches are broken. A place in the data is broken, not a step: whoever goes back and leaves
/// the window out does not meet it again.
class BrokenLearner : public Learner {
 public:
  BrokenLearner(Learner& whole, const Broken& broken) : whole_(whole), broken_(broken) {}
  nn::Module& model() override { return whole_.model(); }
  std::unique_ptr<MicroBatch> draw() override {
    breaks_ = drawn_ >= broken_.from && drawn_ < broken_.from + broken_.count;
    ++drawn_;
    return whole_.draw();
  }
  Tensor loss(const MicroBatch& batch, std::vector<SiteStatistics>* seen, OutputStatistics* output) override {
    Tensor loss = whole_.loss(batch, seen, output);
    if (!breaks_) return loss;
    if (broken_.not_finite) return loss * std::numeric_limits<double>::quiet_NaN();
    return loss + (loss - loss.detach()) * (broken_.gradient - 1);  // adds 0, with a gradient
  }
  BatchCursor cursor() const override { return whole_.cursor(); }
  void seek(const BatchCursor& cursor) override { whole_.seek(cursor); }
  void skip(std::int64_t batches) override { whole_.skip(batches), drawn_ += batches; }
  double tokens_a_batch() const override { return whole_.tokens_a_batch(); }
  bool has_validation() const override { return whole_.has_validation(); }
  double validation_loss() override { return whole_.validation_loss(); }
  TaskFacts facts() const override { return whole_.facts(); }

 private:
  Learner& whole_;
  Broken broken_;
  std::int64_t drawn_ = 0;
  bool breaks_ = false;
};

struct End {
  double loss = std::numeric_limits<double>::quiet_NaN();  // held-out, nats a token; NaN: the run was lost
  std::int64_t rollbacks = 0;
  bool lost() const { return std::isnan(loss); }
};

End train(const RunConfig& config, const std::filesystem::path& folder, const std::filesystem::path& data,
          const Broken& broken) {
  const std::unique_ptr<Learner> whole =
      make_learner(config, {.files = RunFiles(folder), .data_folder = data, .told = {}, .data_sha256 = ""});
  BrokenLearner learner(*whole, broken);
  const std::unique_ptr<optim::Optimizer> optimizer = make_optimizer(config, whole->model());
  optimizer->set_schedule(make_schedule(config));
  AttentionGuard guard(whole->model(), *optimizer, guard_options(config));
  Trainer trainer(learner, *optimizer);
  if (guard.watches()) trainer.set_guard(&guard);
  End end;
  try {
    while (optimizer->step() < config.train.steps) trainer.update();
    end.loss = learner.validation_loss();
  } catch (const Error&) {  // what the trainer or the guard gives up with
  }
  end.rollbacks = guard.rollbacks();
  return end;
}

TEST(Chaos, AGuardedRunIsNotLost) {
  const tiny::Folder text, out;
  tiny::write_text(text.path());
  RunConfig config = tiny::config(text.path(), 300);
  RunConfig guarded = config;
  guarded.guard.mode = "full";
  const double untrained = std::log(double(config.tokenizer.vocab_size)),
               undisturbed = train(config, out.path(), "unused", {}).loss;
  for (const Broken& broken :
       {Broken{.from = 150, .count = 1, .gradient = 1e3}, Broken{.from = 150, .count = 1, .not_finite = true}}) {
    const End end = train(guarded, out.path(), "unused", broken);
    EXPECT_EQ(end.rollbacks, 1);
    EXPECT_LE(end.loss, undisturbed + 0.15 * (untrained - undisturbed)) << undisturbed << " undisturbed";
  }
  // The gradient is a thousandfold indeed: without guard and clipping, a momentum that has no denominator is lost.
  config.optimizer.kind = "sgd";
  config.optimizer.learning_rate = 0.1;
  config.optimizer.clip_norm = 0;
  const double plain = train(config, out.path(), "unused", {}).loss;
  const End harmed = train(config, out.path(), "unused", {.from = 150, .count = 1, .gradient = 1e3});
  EXPECT_FALSE(harmed.loss <= 1.2 * plain) << harmed.loss << " after " << plain;
}

/// "2.51 2.53 lost (+3 %)": each seed, and the worst against the same seed undisturbed.
std::string row_of(const std::vector<End>& ends, const std::vector<End>& undisturbed) {
  std::string text;
  double worst = -1;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    text += ends[i].lost() ? "lost " : fmt::format("{:.3f} ", ends[i].loss);
    worst = std::max(worst, ends[i].lost() ? 9.99 : ends[i].loss / undisturbed[i].loss - 1);
  }
  return text + (worst > 9 ? "" : fmt::format("({:+.1f} %)", 100 * worst));
}

TEST(Chaos, TableOfThreeSeeds) {
  if (!std::getenv("ATTUNE_FULL")) GTEST_SKIP() << "a minute or two: ATTUNE_FULL=1";
  const std::filesystem::path data = ATTUNE_SOURCE_DIR "/data";
  if (!std::filesystem::exists(data / "novels")) GTEST_SKIP() << "no novels: attune fetch novels";
  const tiny::Folder out;
  struct Case {
    const char* name;
    Broken broken;
  };
  const Case cases[] = {{"nothing", {}},
                        {"one gradient x 1e3", {.from = 120, .count = 1, .gradient = 1e3}},
                        {"one batch NaN", {.from = 120, .count = 1, .not_finite = true}},
                        {"8 batches in a row NaN", {.from = 120, .count = 8, .not_finite = true}}};
  struct Way {
    const char* name;
    const char* kind;
    double rate, clip_norm;
  };
  const Way ways[] = {{"AdamW, clipped", "adamw", 3e-3, 1},
                      {"AdamW, not clipped", "adamw", 3e-3, 0},
                      {"SGD with momentum, not clipped", "sgd", 0.1, 0}};
  fmt::print("| optimizer | broken | base, loss of each seed (worst) | guard | rollbacks |\n|---|---|---|---|---|\n");
  for (const Way& way : ways) {
    std::vector<End> undisturbed;
    for (const Case& c : cases) {
      std::vector<End> base, guard;
      std::string rollbacks;
      for (const std::uint64_t seed : {1, 2, 3}) {
        RunConfig config = read_config(ATTUNE_SOURCE_DIR "/recipes/tiny_novels.toml");
        config.seed = seed;
        config.optimizer.kind = way.kind;
        config.optimizer.learning_rate = way.rate;
        config.optimizer.momentum = 0.9;
        config.optimizer.clip_norm = way.clip_norm;
        base.push_back(train(config, out.path(), data, c.broken));
        config.guard.mode = "full";
        guard.push_back(train(config, out.path(), data, c.broken));
        rollbacks += fmt::format("{} ", guard.back().rollbacks);
      }
      if (undisturbed.empty()) undisturbed = base;
      fmt::print("| {} | {} | {} | {} | {}|\n", way.name, c.name, row_of(base, undisturbed), row_of(guard, undisturbed),
                 rollbacks);
      for (std::size_t i = 0; i < guard.size(); ++i)
        EXPECT_TRUE(c.broken.count > 1 || guard[i].loss <= 1.05 * undisturbed[i].loss) << way.name << ", " << c.name;
    }
  }
}

}  // namespace
}  // namespace attune::train
