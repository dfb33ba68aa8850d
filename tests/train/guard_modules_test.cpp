// The guard, QK-clip and the log with every kind of attention module: none of them is known by its type.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "attune/autograd/ops/loss.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/optim/adam.hpp"
#include "attune/train/attention_guard.hpp"
#include "attune/train/qk_clip.hpp"
#include "attune/train/trainer.hpp"
#include "nn/attention_modules.hpp"
#include "train/run_log.hpp"
#include "train/tiny_task.hpp"

namespace attune::train {
namespace {

using nn::testing_support::AnyAttention;
using nn::testing_support::AttentionCase;
using nn::testing_support::kWidth;
using nn::testing_support::SmallModel;

constexpr std::int64_t kIds = 9, kTokens = 7;

/// Rows that count upwards by 1 or by 2; what is to be said is the next token.
class CountLearner : public Learner {
 public:
  explicit CountLearner(const AttentionCase& c) : model_((set_seed(4), c), kIds) {}
  SmallModel& model() override { return model_; }
  std::unique_ptr<MicroBatch> draw() override {
    auto batch = std::make_unique<Rows>();
    Generator g(5, std::uint64_t(cursor_.batch++));
    std::vector<std::int32_t> tokens, targets;
    for (int b = 0; b < 3; ++b) {
      const auto start = std::int32_t(g.below(kIds)), by = std::int32_t(1 + g.below(2));
      for (std::int32_t t = 0; t < kTokens; ++t) {
        tokens.push_back((start + by * t) % kIds);
        targets.push_back((start + by * (t + 1)) % kIds);
      }
    }
    batch->tokens = Ids(tokens, {3, kTokens});
    batch->targets = Ids(targets, {3, kTokens});
    batch->num_tokens = batch->target_tokens = 3 * kTokens;
    return batch;
  }
  Tensor loss(const MicroBatch& micro_batch, std::vector<SiteStatistics>* seen, OutputStatistics*) override {
    const Rows& rows = own_batch<Rows>(micro_batch);
    std::optional<nn::AttentionWatch> watch;
    if (seen) watch.emplace(model_, *seen);
    return cross_entropy(model_(rows.tokens), rows.targets, {.reduction = Reduction::sum});
  }
  BatchCursor cursor() const override { return cursor_; }
  void seek(const BatchCursor& cursor) override { cursor_ = cursor; }
  void skip(std::int64_t batches) override { cursor_.batch += batches; }
  double tokens_a_batch() const override { return 3 * kTokens; }
  bool has_validation() const override { return false; }
  double validation_loss() override { return std::nan(""); }
  TaskFacts facts() const override { return {}; }

 private:
  struct Rows : MicroBatch {
    Ids tokens, targets;
  };
  SmallModel model_;
  BatchCursor cursor_;
};

class GuardModules : public ::testing::TestWithParam<AttentionCase> {};

TEST_P(GuardModules, RatesThatAreTooLargeAreCutAndHeadsAreLogged) {
  CountLearner learner(GetParam());
  optim::AdamW optimizer(learner.model().parameters(), {.learning_rate = 0.1, .weight_decay = 0});
  AttentionGuard guard(learner.model(), optimizer, {.mode = GuardMode::full});
  const tiny::Folder out;
  RunJournal journal(RunFiles(out.path()), false, {}, nullptr);
  guard.on_event([&](const GuardEvent& e) { journal.guard(e); });
  Trainer trainer(learner, optimizer);
  trainer.set_guard(&guard);
  std::int64_t scaled = 0;
  for (int i = 0; i < 4; ++i) {
    journal.begin_update(true);
    const UpdateReport report = trainer.update(true);
    ASSERT_TRUE(report.applied);
    scaled += guard.report().scaled_heads;
    if (!report.sites.empty()) journal.step(report, optimizer, &guard, {});
  }
  const bool limited = std::any_of(guard.sites().begin(), guard.sites().end(), [](auto& s) { return s.proportional; });
  EXPECT_EQ(scaled > 0, limited);
  std::set<std::string> logged, sites;
  for (const nn::AttentionSite& s : guard.sites()) sites.insert(s.name);
  if (!sites.empty()) {
    std::istringstream log(io::read_file(out / "log.jsonl"));
    for (std::string line; std::getline(log, line);) {
      const auto event = nlohmann::json::parse(line);
      if (event["event"] == "heads") logged.insert(event["layer"]);
    }
  }
  EXPECT_EQ(logged, sites);
}

/// The largest |score| of each head of a site, for one input.
std::vector<HeadSignals> signals_of(const AnyAttention& attention, const std::vector<nn::AttentionSite>& sites,
                                    std::size_t site, const Tensor& x) {
  const NoGrad no_grad;
  std::vector<SiteStatistics> seen;
  const nn::AttentionWatch watch(*attention.module, seen);
  attention.call(x);
  return head_signals(sites, seen)[site];
}

TEST_P(GuardModules, ClippedHeadsHaveScoresOfTauAtMost) {
  Generator g(2);
  const Tensor x = Tensor::randn({2, kTokens, kWidth}, g);
  const AnyAttention first = GetParam().make();
  for (std::size_t s = 0; s < nn::attention_sites(*first.module).size(); ++s) {
    set_seed(6);
    const AnyAttention attention = GetParam().make();
    std::vector<nn::AttentionSite> sites = nn::attention_sites(*attention.module);
    if (!sites[s].proportional) continue;
    const std::vector<HeadSignals> before = signals_of(attention, sites, s, x);
    double largest = 0, smallest = 1e30;
    for (const HeadSignals& head : before) largest = std::max(largest, head.score);
    for (const HeadSignals& head : before) smallest = std::min(smallest, head.score);
    const double tau = 0.5 * (0.7 * smallest + 0.3 * largest);
    clip_heads(sites[s], clip_factors(sites[s], before, tau));
    const std::vector<HeadSignals> after = signals_of(attention, sites, s, x);
    for (std::size_t h = 0; h < after.size(); ++h) {
      EXPECT_GT(before[h].score, tau) << sites[s].name;
      EXPECT_LE(after[h].score, (tau + attention.floor) * 1.0001) << sites[s].name << " head " << h;
      EXPECT_GT(after[h].score, 0.1 * tau) << sites[s].name << " head " << h;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, GuardModules, ::testing::ValuesIn(nn::testing_support::every_attention()),
                         [](const auto& c) { return c.param.name; });

}  // namespace
}  // namespace attune::train
