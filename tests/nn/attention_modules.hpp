// Every attention module that is no MultiHeadAttention, as one thing: tokens in, tokens out. For tests that ask all of
// them what they tell of themselves.
#pragma once
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/nn/all.hpp"

namespace attune::nn::testing_support {

constexpr std::int64_t kWidth = 12;

/// A module and what it makes of x [B, T, kWidth].
struct AnyAttention {
  std::shared_ptr<Module> module;
  std::function<Tensor(const Tensor&)> call;
  /// How far scores may be from proportional to the queries, nats: 0 in their place, they may be this large.
  double floor = 0;
};
struct AttentionCase {
  std::string name;
  std::function<AnyAttention()> make;
};

template <class M, class F, class... Options>
AttentionCase attention_case(std::string name, F call, double floor, Options... options) {
  return {std::move(name), [=] {
            auto module = std::make_shared<M>(options...);
            return AnyAttention{module, [=](const Tensor& x) { return call(*module, x); }, floor};
          }};
}

/// Small ones of different shapes; bias terms where there are any.
inline std::vector<AttentionCase> every_attention() {
  const auto plain = [](const auto& m, const Tensor& x) { return m(x); };
  const auto causal = [](const auto& m, const Tensor& x) { return m(x, CallMask{.mask = Causal{}}); };
  const std::int64_t c = kWidth;
  LinearAttentionOptions gated{.model_dim = c, .num_heads = 2};
  gated.attention.rule = UpdateRule::gated_delta;
  return {
      attention_case<DifferentialAttention>(
          "differential", causal, 0,
          DifferentialAttentionOptions{.model_dim = c, .num_heads = 2, .num_kv_heads = 1, .bias_terms = true}),
      attention_case<TalkingHeads>("talking_heads", causal, 0, TalkingHeadsOptions{.model_dim = c, .num_heads = 3}),
      attention_case<LatentAttention>(
          "latent", causal, 0,
          LatentAttentionOptions{.model_dim = c, .num_heads = 3, .rotary_dim = 2, .latent_dim = 5, .bias_terms = true}),
      attention_case<LatentAttention>(
          "latent_queries", [](const auto& m, const Tensor& x) { return m(x, {}, LatentForm::absorbed); }, 0,
          LatentAttentionOptions{.model_dim = c, .num_heads = 2, .latent_dim = 4, .query_latent_dim = 5}),
      attention_case<SetAttention>("set", plain, 0, SetAttentionOptions{.model_dim = c, .num_heads = 2}),
      attention_case<InducedSetAttention>("induced_set", plain, 0, SetAttentionOptions{.model_dim = c, .num_heads = 3},
                                          std::int64_t(4)),
      attention_case<CoAttention>(
          "co_attention", [](const auto& m, const Tensor& x) { return m(x, x).first + m(x, x).second; }, 0,
          CrossModalOptions{.model_dim = c, .num_heads = 2}),
      attention_case<ParallelCoAttention>(
          "parallel_co_attention",
          [](const auto& m, const Tensor& x) {
            const CoPooled p = m(x, x);
            return x + reshape(p.first + p.second, {x.shape()[0], 1, x.shape()[2]});
          },
          0, ParallelCoAttentionOptions{.first_dim = c, .second_dim = c, .hidden_dim = 6}),
      attention_case<AgentAttention>(
          "agent", plain, 0, AgentAttentionOptions{.model_dim = c, .num_heads = 2, .num_agents = 3, .conv_width = 3}),
      attention_case<AgentAttention>(
          "learned_agents", plain, 0,
          AgentAttentionOptions{.model_dim = c, .num_heads = 2, .num_agents = 3, .source = AgentSource::learned}),
      attention_case<GlobalLocalAttention>(
          "global_local", causal, 0,
          GlobalLocalOptions{.model_dim = c, .num_heads = 4, .num_kv_heads = 2, .window = {.left = 2, .right = 0}}),
      attention_case<GlobalLocalAttention>(
          "gated_global_local", causal, 0,
          GlobalLocalOptions{
              .model_dim = c, .num_heads = 2, .window = {.left = 2, .right = 0}, .joining = Joining::gate}),
      attention_case<MultiScaleAttention>("multi_scale", plain, 0,
                                          MultiScaleOptions{.model_dim = c, .scales = {1, 2}, .heads_per_scale = 2}),
      attention_case<MixtureOfHeads>("mixture_of_heads", causal, 0,
                                     MixtureOfHeadsOptions{.model_dim = c, .num_experts = 4, .num_active = 2}),
      attention_case<LandmarkAttention>(
          "landmark", plain, std::log(3.0),
          LandmarkAttentionOptions{.model_dim = c, .num_heads = 2, .block = 3, .bias_terms = true}),
      attention_case<LinearAttention>("linear", plain, 0, gated),
      attention_case<AdditiveAttention>(
          "additive", [](const auto& m, const Tensor& x) { return m(x, x).pooled; }, 0,
          AdditiveAttentionOptions{.query_dim = c, .key_dim = c, .hidden_dim = 5}),
  };
}

/// A block as of a GPT: x + attention(norm(x)), then x + feed_forward(norm(x)). The attention's own blocks stand below.
struct Block : Module {
  AnyAttention attention;
  RMSNorm attention_norm, norm;
  FeedForward feed_forward;
  explicit Block(const AttentionCase& c)
      : attention(c.make()),
        attention_norm({.dim = kWidth}),
        norm({.dim = kWidth}),
        feed_forward({.model_dim = kWidth, .hidden_dim = 16}) {
    add_module("attention_norm", attention_norm);
    add_module("attention", *attention.module);
    add_module("norm", norm);
    add_module("feed_forward", feed_forward);
  }
  Tensor operator()(const Tensor& x) const {
    const Tensor h = x + attention.call(attention_norm(x));
    return h + feed_forward(norm(h));
  }
};

/// Table, two blocks, output.
struct SmallModel : Module {
  Embedding embedding;
  Block first, second;
  Linear output;
  SmallModel(const AttentionCase& c, std::int64_t num_ids)
      : embedding({.num_ids = num_ids, .dim = kWidth, .init = {Init::normal, 1}}),
        first(c),
        second(c),
        output({.in = kWidth, .out = num_ids, .bias = false}) {
    add_module("embedding", embedding);
    add_module("layer0", first);
    add_module("layer1", second);
    add_module("output", output);
  }
  /// ids [B, T] -> logits [B, T, V]
  Tensor operator()(const Ids& ids) const { return output(second(first(embedding(ids)))); }
};

}  // namespace attune::nn::testing_support
