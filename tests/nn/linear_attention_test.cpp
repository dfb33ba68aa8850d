// The module LinearAttention: gradients of its parameters, decoding, what it learns from its gates.
#include "attune/nn/linear_attention.hpp"

#include <gtest/gtest.h>

#include "attune/autograd/ops/reduce.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "autograd/check.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

LinearAttentionOptions of_rule(UpdateRule rule) {
  return {.model_dim = 6, .num_heads = 2, .num_kv_heads = 1, .attention = {.rule = rule}};
}

TEST(LinearAttentionModule, HasRightGradients) {
  for (UpdateRule rule : {UpdateRule::linear, UpdateRule::gated, UpdateRule::delta, UpdateRule::gated_delta}) {
    SCOPED_TRACE(name_of(rule));
    set_seed(3);
    LinearAttention layer(of_rule(rule));
    layer.to(DType::float64);
    Inputs in = layer.parameters();
    in.push_back(normal({2, 5, 6}, 4));
    expect_gradients([&](const Inputs& all) { return layer(all.back()); }, in, {.taylor_length = 0.1});
  }
}

TEST(LinearAttentionModule, NamesWhatItsRuleTakes) {
  const auto names = [](const LinearAttentionOptions& o) {
    const LinearAttention layer(o);
    std::vector<std::string> all;
    for (const NamedTensor& p : layer.named_parameters()) all.push_back(p.name + " " + p.tensor.shape().text());
    return all;
  };
  LinearAttentionOptions o = of_rule(UpdateRule::gated_delta);
  o.bias_terms = false;
  EXPECT_EQ(names(o), (std::vector<std::string>{"query.weight [6, 6]", "key.weight [3, 6]", "value.weight [3, 6]",
                                                "decay.weight [3, 6]", "decay.bias [3]", "beta.weight [1, 6]",
                                                "beta.bias [1]", "out.weight [6, 6]"}));
  o.decay_per_head = true;
  EXPECT_EQ(names(o)[3], "decay.weight [1, 6]");
}

TEST(LinearAttentionModule, DecodesWhatItReads) {
  for (UpdateRule rule : {UpdateRule::gated, UpdateRule::delta}) {
    LinearAttentionOptions o = of_rule(rule);
    o.decay_per_head = true;
    if (rule == UpdateRule::gated) o.attention.features = features::EluPlusOne{}, o.attention.normalize = true;
    LinearAttention layer(o);
    layer.to(DType::float64);
    const Tensor x = normal({2, 9, 6}, 5), whole = layer(x);
    LinearAttended now = layer.attend_to(slice(x, 1, 0, 4));
    std::vector<Tensor> parts{now.out};
    for (int t = 4; t < 9; ++t) parts.push_back((now = layer.attend_to(slice(x, 1, t, t + 1), now.state)).out);
    EXPECT_LT(error_of(concat(parts, 1), whole), 1e-13);
  }
}

TEST(LinearAttentionModule, RefusesBadOptions) {
  EXPECT_THROW(LinearAttention({.model_dim = 6, .num_heads = 4}), Error);
  EXPECT_THROW(LinearAttention({.model_dim = 6, .num_heads = 2, .gate_temperature = 0}), Error);
  EXPECT_THROW(LinearAttention({.model_dim = 6, .num_heads = 3, .num_kv_heads = 2}), Error);
  const LinearAttention layer(of_rule(UpdateRule::linear));
  EXPECT_THROW(layer(normal({2, 6}, 1, DType::float32)), Error);
}

}  // namespace
}  // namespace attune::nn
