// The decoder-only Transformer: predicts every token from those before it. "Improving language understanding by
// generative pre-training" (2018); layout of "Language models are unsupervised multitask learners" (2019).
//
//   x = dropout(E[tokens] + P[0 .. T-1]);   x = layers(x), causal, pre-norm;   logits = norm(x) E^T
//
// P: learned rows, sines, or nothing, where a stage of the attention speaks of positions (rotary, ALiBi). The output
// projection is the embedding table unless asked otherwise (arXiv:1608.05859). It knows ids, not text.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "attune/nn/embedding.hpp"
#include "attune/nn/positions.hpp"
#include "attune/nn/transformer.hpp"

namespace attune::models {

struct GptOptions {
  std::int64_t vocab_size = 0;  // V
  std::int64_t num_layers = 4;
  std::int64_t model_dim = 128;  // C
  std::int64_t num_heads = 4;
  std::int64_t num_kv_heads = 0;      // 0: num_heads
  std::int64_t feed_forward_dim = 0;  // 0: 4 C
  std::int64_t context = 256;         // the longest sequence, tokens
  double dropout = 0;                 // of embeddings, blocks and inside the feed-forward
  double attention_dropout = 0;       // of attention weights
  Activation activation = Activation::gelu;
  bool tied = true;  // the embedding table is the output projection as well
  nn::TokenPosition token_position = nn::TokenPosition::learned;
  nn::NormKind norm_kind = nn::NormKind::layer;
  bool bias_terms = true;          // of the projections; the output has none
  double init_deviation = 0.02;    // standard deviation of all matrices and tables at first ...
  double embedding_deviation = 0;  // ... but of the embedding table this, unless 0
  double mup_base_width = 0;       // muP (nn/mup.hpp): the model_dim at which all is as without it; 0: off
  /// Stages of the attention; every query sees itself and what came before it, `mask` may hide more.
  AnyPosition position;
  AnyScore score = ScaledDot{};
  Biases bias;
  AnyMask mask;
  AnyNormalizer normalizer = Softmax{};
  nn::Stability stability;
};

struct GenerateOptions {
  std::int64_t max_new_tokens = 64;
  double temperature = 0;    // 0: the most probable token; else draws from softmax(logits / temperature)
  std::int32_t end_id = -1;  // a token that ends the text, kept in it; -1: none
  std::uint64_t seed = 0;    // of the draws
};

class Gpt : public nn::Module {
 public:
  /// Parameters come from the default generator (set_seed). Throws Error for options that do not fit together.
  explicit Gpt(const GptOptions&);

  /// tokens [B, T], T <= context -> logits [B, T, V] of the token after each. `seen` receives what `watch` asks for.
  Tensor logits(const Ids& tokens, const nn::WatchOptions& watch = {},
                std::vector<nn::LayerAttention>* seen = nullptr) const;
  /// Mean cross-entropy of targets [B, T] given tokens [B, T], nats a token, shape []. Targets of -100 do not count.
  Tensor loss(const Ids& tokens, const Ids& targets) const;

  /// prompt (at least one token) and what follows it, at most max_new_tokens and never beyond `context` tokens in all.
  /// Decodes with a cache; nothing is dropped and nothing recorded.
  std::vector<std::int32_t> generate(const std::vector<std::int32_t>& prompt, const GenerateOptions& options = {});

  const GptOptions& options() const { return options_; }

 private:
  Tensor embed(const Ids& tokens, std::int64_t first) const;
  Tensor project(const Tensor& states) const;

  GptOptions options_;
  nn::Embedding embedding_;
  std::optional<nn::LearnedPositions> positions_;
  std::optional<nn::SinusoidalPositions> sinusoidal_;
  nn::Dropout dropout_;
  nn::TransformerEncoder layers_;
  std::optional<nn::Linear> output_;
};

}  // namespace attune::models
