// Attention modules of width 512 on 1,024 tokens, beside a causal MultiHeadAttention of 8 heads ("plain"): a forward
// pass, a step of training (forward and backward), and a token of decoding after 1,000. Read "x plain"; operations that
// count are MultiHeadAttention's for every row. runner.hpp says which options there are.
#include <functional>
#include <memory>
#include <string>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/matmul.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/nn/agent_attention.hpp"
#include "attune/nn/differential_attention.hpp"
#include "attune/nn/global_local_attention.hpp"
#include "attune/nn/landmark_attention.hpp"
#include "attune/nn/latent_attention.hpp"
#include "attune/nn/mixture_of_heads.hpp"
#include "attune/nn/multi_scale_attention.hpp"
#include "attune/nn/talking_heads.hpp"
#include "runner.hpp"

namespace {
using namespace attune;

constexpr int kTokens = 1024, kWidth = 512, kHeads = 8, kPast = 1000;
using Forward = std::function<Tensor(const Tensor&)>;

template <class Module, class Options>
std::function<Forward()> of(Options options) {
  return [options] {
    return Forward([module = std::make_shared<Module>(options)](const Tensor& x) { return (*module)(x); });
  };
}

/// Talking heads as matrices of weights, stored and not causal: what the module's way is measured against.
Forward stored_talking_heads() {
  return [m = std::make_shared<nn::TalkingHeads>(nn::TalkingHeadsOptions{.model_dim = kWidth, .num_heads = kHeads})](
             const Tensor& x) {
    const Tensor p = linear(x, m->weight_in, m->bias_in);
    const auto heads = [&](int i) { return split_heads(slice(p, 2, i * kWidth, (i + 1) * kWidth), kHeads); };
    const auto mixed = [](const Tensor& maps, const Tensor& mix) {
      return reshape(matmul(mix, reshape(maps, {kHeads, kTokens * kTokens})), maps.shape());
    };
    const Tensor logits = mixed(matmul(heads(0), heads(1), {.transpose_b = true}), m->mix_logits);
    const Tensor weights = mixed(softmax(scale(logits, 0.125)), m->mix_weights);
    return linear(merge_heads(matmul(weights, heads(2))), m->weight_out, m->bias_out);
  };
}

void add(bench::Bench& rows, const std::string& pass, const std::string& variant,
         const std::function<bench::Call()>& prepare) {
  const bool decode = pass == "decode";
  bench::Row row;
  row.shape = "M";
  row.extents = {1, kHeads, kHeads, decode ? 1 : kTokens, decode ? kPast : kTokens, kWidth / kHeads};
  row.pass = pass;
  row.variant = variant;
  row.causal = true;
  const double pairs = decode ? kPast : 0.5 * kTokens * kTokens, tokens = decode ? 1 : kTokens;
  row.flops = (8 * tokens * kWidth * kWidth + 4 * pairs * kWidth) * (pass == "training" ? 3 : 1);
  row.prepare = prepare;
  rows.add(row);
}
void add(bench::Bench& rows, const std::string& variant, const std::function<Forward()>& make) {
  add(rows, "forward", variant, [make] {
    return bench::Call([f = make(), x = randn({1, kTokens, kWidth})] {
      const NoGrad evaluation;
      f(x);
    });
  });
  add(rows, "training", variant, [make] {
    return bench::Call([f = make(), x = randn({1, kTokens, kWidth})] {
      const Tensor y = f(x);
      y.backward(Tensor::ones(y.shape()));
    });
  });
}

}  // namespace

int main(int argc, char** argv) {
  bench::Bench rows("modules_bench");
  const nn::MultiHeadAttentionOptions plain{.model_dim = kWidth, .num_heads = kHeads, .mask = Causal{}};
  const nn::LatentAttentionOptions latent{
      .model_dim = kWidth, .num_heads = kHeads, .rotary_dim = 32, .latent_dim = 128, .mask = Causal{}};
  add(rows, "plain", of<nn::MultiHeadAttention>(plain));
  add(rows, "differential",
      of<nn::DifferentialAttention>(
          nn::DifferentialAttentionOptions{.model_dim = kWidth, .num_heads = kHeads / 2, .mask = Causal{}}));
  for (int kv : {8, 2, 1}) {
    add(rows, "talking_" + std::to_string(kv),
        of<nn::TalkingHeads>(
            nn::TalkingHeadsOptions{.model_dim = kWidth, .num_heads = kHeads, .num_kv_heads = kv, .mask = Causal{}}));
  }
  add(rows, "talking_stored", stored_talking_heads);
  add(rows, "latent", of<nn::LatentAttention>(latent));
  add(rows, "latent_absorbed", [latent] {
    return Forward([m = std::make_shared<nn::LatentAttention>(latent)](const Tensor& x) {
      return (*m)(x, {}, nn::LatentForm::absorbed);
    });
  });
  add(rows, "mixture",
      of<nn::MixtureOfHeads>(
          nn::MixtureOfHeadsOptions{.model_dim = kWidth, .num_experts = 32, .num_active = kHeads, .mask = Causal{}}));
  add(rows, "agent",
      of<nn::AgentAttention>(nn::AgentAttentionOptions{.model_dim = kWidth, .num_heads = kHeads, .num_agents = 64}));
  add(rows, "global_local",
      of<nn::GlobalLocalAttention>(nn::GlobalLocalOptions{.model_dim = kWidth, .num_heads = kHeads, .mask = Causal{}}));
  add(rows, "multi_scale",
      of<nn::MultiScaleAttention>(
          nn::MultiScaleOptions{.model_dim = kWidth, .scales = {1, 2, 4, 8}, .heads_per_scale = 2, .causal = true}));
  add(rows, "landmark",
      of<nn::LandmarkAttention>(nn::LandmarkAttentionOptions{.model_dim = kWidth, .num_heads = kHeads, .block = 64}));

  add(rows, "decode", "plain", [plain] {
    auto module = std::make_shared<nn::MultiHeadAttention>(plain);
    auto cache = std::make_shared<nn::KvCache>();
    const NoGrad evaluation;
    const Tensor past = randn({1, kPast, kWidth});
    module->attend_to(past, past, {.cache = cache.get()});
    return bench::Call([module, cache, x = randn({1, 1, kWidth})] {
      const NoGrad decoding;
      module->attend_to(x, x, {.cache = cache.get()});
      cache->length = kPast;
    });
  });
  add(rows, "decode", "latent", [latent] {
    auto module = std::make_shared<nn::LatentAttention>(latent);
    auto cache = std::make_shared<nn::KvCache>();
    const NoGrad evaluation;
    module->step(randn({1, kPast, kWidth}), *cache);
    return bench::Call([module, cache, x = randn({1, 1, kWidth})] {
      const NoGrad decoding;
      module->step(x, *cache);
      cache->length = kPast;
    });
  });
  return rows.run(argc, argv);
}
