// Where heads lie in the parameters: told by zeroing rows and watching which head's scores vanish.
#include "attune/nn/attention_sites.hpp"

#include <gtest/gtest.h>

#include "attune/autograd/tape.hpp"
#include "attune/nn/multi_head_attention.hpp"

namespace attune::nn {
namespace {

void zero(const TensorRows& rows) {
  Tensor t = rows.tensor;
  const std::int64_t width = t.size() / t.shape()[0];
  std::fill(t.data<float>() + rows.first * width, t.data<float>() + rows.end * width, 0.0f);
}

struct Case {
  std::int64_t num_heads, num_kv_heads, memory_dim;
  QkNorm qk_norm = QkNorm::none;
};
class AttentionSites : public testing::TestWithParam<Case> {};

/// The module, its biases filled, in a tree; largest |score| of each head for some input.
struct SelfAndCross : Module {
  MultiHeadAttention attention;
  Tensor x, memory;
  explicit SelfAndCross(const Case& c)
      : attention({.model_dim = 12,
                   .num_heads = c.num_heads,
                   .num_kv_heads = c.num_kv_heads,
                   .head_dim = 4,
                   .value_dim = 3,
                   .memory_dim = c.memory_dim,
                   .stability = {c.qk_norm}}) {
    add_module("attention", attention);
    Generator g(4);
    attention.bias_in.copy_from(Tensor::randn(attention.bias_in.shape(), g));
    x = Tensor::randn({2, 5, 12}, g);
    memory = c.memory_dim == 0 ? x : Tensor::randn({2, 6, c.memory_dim}, g);
  }
  std::vector<double> scores() {
    const NoGrad no_grad;
    const Statistics s = attention.attend_to(x, memory, {.statistics = true}).statistics;
    std::vector<double> largest(std::size_t(s.num_heads));
    for (std::size_t i = 0; i < s.largest_score.size(); ++i) {
      double& to = largest[i % largest.size()];
      to = std::max({to, s.largest_score[i], -s.smallest_score[i]});
    }
    return largest;
  }
};

TEST_P(AttentionSites, RowsAreThoseOfTheHead) {
  const Case c = GetParam();
  const std::size_t group = std::size_t(c.num_heads / c.num_kv_heads);
  for (std::size_t head = 0; head < std::size_t(c.num_heads); ++head) {
    for (const bool key : {false, true}) {
      set_seed(7);
      SelfAndCross pair(c);
      const std::vector<AttentionSite> sites = attention_sites(pair);
      ASSERT_EQ(sites.size(), 1u);
      EXPECT_EQ(sites[0].name, "attention");
      EXPECT_TRUE(sites[0].proportional);
      ASSERT_EQ(sites[0].num_heads(), c.num_heads);
      ASSERT_EQ(sites[0].num_kv_heads(), c.num_kv_heads);
      const std::vector<double> before = pair.scores();
      const HeadProjection& rows = key ? sites[0].keys[head / group] : sites[0].queries[head];
      EXPECT_EQ(rows.gain.tensor.defined(), c.qk_norm != QkNorm::none);
      if (rows.gain.tensor.defined()) {
        zero(rows.gain);
      } else {
        zero(rows.weight);
        zero(rows.bias);
      }
      const std::vector<double> after = pair.scores();
      for (std::size_t h = 0; h < after.size(); ++h) {
        const bool hit = key ? h / group == head / group : h == head;
        EXPECT_EQ(after[h], hit ? 0 : before[h]) << "head " << h << " after zeroing " << (key ? "key of " : "") << head;
        EXPECT_GT(before[h], 0);
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(, AttentionSites,
                         testing::Values(Case{3, 3, 0}, Case{4, 2, 0}, Case{4, 1, 0}, Case{4, 2, 10},
                                         Case{4, 2, 0, QkNorm::rms}, Case{3, 3, 7, QkNorm::l2}));

}  // namespace
}  // namespace attune::nn
