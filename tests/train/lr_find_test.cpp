#include "attune/train/lr_find.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "attune/io/atomic_file.hpp"
#include "attune/train/task.hpp"
#include "message_of.hpp"
#include "temporary_folder.hpp"

namespace attune::train {
namespace {

using attune::testing::message_of;
using attune::testing::TemporaryFolder;

/// Associative recall at its smallest.
struct Trained {
  TemporaryFolder folder;
  RunConfig config = parse_config(
      "task = \"recall\"\nseed = 3\n[data]\npairs = 2\nkeys = 4\n[model]\nkind = \"gpt\"\nnum_layers = 1\nmodel_dim = "
      "16\n"
      "num_heads = 2\nfeed_forward_dim = 32\ndropout = 0.1\ninit_deviation = 0.2\ntoken_position = "
      "\"learned\"\n"
      "[train]\nbatch_tokens = 80\nlabel_smoothing = 0.0\nsteps = 50\n[optimizer]\nlearning_rate = 1e-2\n");
  std::unique_ptr<Learner> learner;
  std::unique_ptr<optim::Optimizer> optimizer;
  Trained() {
    learner = make_learner(
        config, {.files = RunFiles(folder.path()), .data_folder = folder.path(), .told = {}, .data_sha256 = ""});
    optimizer = make_optimizer(config, learner->model().parameters());
    for (int i = 0; i < 3; ++i) Trainer(*learner, *optimizer).update();
  }
  /// The weights' bytes after two more updates.
  std::string after() {
    for (int i = 0; i < 2; ++i) Trainer(*learner, *optimizer).update();
    std::string all;
    for (const Tensor& p : learner->model().parameters())
      all.append(reinterpret_cast<const char*>(p.data<float>()), std::size_t(p.size()) * sizeof(float));
    return all;
  }
};

TEST(LrFind, FindsARateAndPutsEverythingBack) {
  Trained untouched, tried;
  const LrFindResult result =
      find_learning_rate(*tried.learner, *tried.optimizer, {}, {.low = 1e-5, .high = 3, .iterations = 60});
  EXPECT_EQ(tried.optimizer->step(), 3);
  EXPECT_EQ(tried.after(), untouched.after());

  ASSERT_TRUE(result.valley);
  ASSERT_TRUE(result.attention_limit);
  EXPECT_LE(*result.suggestion(), *result.valley);
  EXPECT_LE(*result.suggestion(), *result.attention_limit / 3);
  EXPECT_GT(*result.suggestion(), 1e-4);
  EXPECT_LT(*result.suggestion(), 1);
  // The predicted move of a head grows with the rate; the limit is the first point beyond half a nat.
  for (const LrFindPoint& p : result.points) {
    if (p.learning_rate < *result.attention_limit) {
      EXPECT_LE(p.move, 0.5);
    } else if (p.learning_rate == *result.attention_limit) {
      EXPECT_GT(p.move, 0.5);
    }
  }
  EXPECT_EQ(result.limiting_site.find("layers."), 0u);
  EXPECT_EQ(write_lr_find_report("small.toml", std::vector{result}, tried.folder.path()), tried.folder / "index.html");
  for (const char* panel : {"loss.svg", "logits.svg", "entropy.svg"})
    EXPECT_NE(io::read_file(tried.folder / panel).find("valley"), std::string::npos);
}

TEST(LrFind, RatesThatTeachNothingHaveNoValley) {
  Trained t;
  const LrFindResult result =
      find_learning_rate(*t.learner, *t.optimizer, {}, {.low = 1e-12, .high = 1e-11, .iterations = 20});
  EXPECT_FALSE(result.valley);
  EXPECT_FALSE(result.attention_limit);
  EXPECT_FALSE(result.suggestion());
}

TEST(LrFind, RefusesOptionsOutOfRange) {
  Trained t;
  const auto message = [&](const LrFindOptions& options) {
    return message_of([&] { find_learning_rate(*t.learner, *t.optimizer, {}, options); });
  };
  EXPECT_NE(message({.low = 1, .high = 1e-3}).find("low < high"), std::string::npos);
  EXPECT_NE(message({.iterations = 2}).find("10 iterations"), std::string::npos);
  EXPECT_NE(message({.smoothing = 1}).find("smoothing"), std::string::npos);
  EXPECT_NE(message({.move_limit = 0}).find("move_limit"), std::string::npos);
}

}  // namespace
}  // namespace attune::train
