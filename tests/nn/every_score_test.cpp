// Every score in MultiHeadAttention, by its name alone: it gets its learned arrays, starts them where training can
// begin, and hands gradients to all of them.
#include <gtest/gtest.h>

#include <cmath>

#include "attune/attention/mechanisms.hpp"
#include "attune/autograd/ops/all.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/nn/multi_head_attention.hpp"
#include "autograd/check.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

MultiHeadAttentionOptions with_score(const std::string& name) {
  MultiHeadAttentionOptions o{.model_dim = 12, .num_heads = 3, .num_kv_heads = 1, .num_tokens = 7};
  const AttendShape shape{1, 3, 1, 7, 7, 4, 4, 4};
  o.score = score_named(name, {}, shape);
  return o;
}

TEST(EveryScore, TrainsInAModule) {
  for (const Mechanism& m : mechanisms()) {
    if (m.kind != "score" || !m.by_name) continue;
    MultiHeadAttention module(with_score(m.name));
    EXPECT_EQ(module.stage_parameters.size(), m.parameters.size()) << m.name;
    const Tensor x = normal({2, 7, 12}, 5).to(DType::float32), y = module(x);
    sum(mul(y, y)).backward();
    for (const auto& p : module.named_parameters()) {
      ASSERT_TRUE(p.tensor.grad().defined()) << m.name << " " << p.name;
      double largest = 0;
      const Tensor gradient = p.tensor.grad();
      for (std::int64_t n = 0; n < gradient.size(); ++n) {
        const double g = std::abs(double(gradient.data<float>()[n]));
        ASSERT_TRUE(std::isfinite(g)) << m.name << " " << p.name;
        largest = std::max(largest, g);
      }
      EXPECT_GT(largest, 0) << m.name << " " << p.name;
    }
  }
}

TEST(EveryScore, StartsWhereTrainingCanBegin) {
  const auto starts = [](const char* name, std::size_t n) {
    const MultiHeadAttention module(with_score(name));
    return module.stage_parameters[n].data<float>()[0];
  };
  EXPECT_EQ(starts("cosine", 0), 0.1f);    // temperature
  EXPECT_EQ(starts("gaussian", 0), 1.0f);  // bandwidth
  EXPECT_EQ(starts("qk_norm", 0), 1.0f);   // gains
  EXPECT_EQ(starts("qk_norm", 1), 1.0f);
  EXPECT_EQ(starts("mlp", 2), 0.0f);  // bias
  EXPECT_NE(starts("mlp", 0), 0.0f);  // weight
}

}  // namespace
}  // namespace attune::nn
