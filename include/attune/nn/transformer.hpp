// Transformer layers and stacks.  "Attention is all you need", arXiv:1706.03762; pre-norm: arXiv:2002.04745
//
//     pre    x = x + dropout(f(norm(x)))          one more norm after the last layer
//     post   x = norm(x + dropout(f(x)))
//     encoder layer: f = self attention, feed-forward;   decoder layer: causal self attention, cross attention,
//     feed-forward
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "attune/nn/feed_forward.hpp"
#include "attune/nn/multi_head_attention.hpp"

namespace attune::nn {

struct TransformerOptions {
  std::int64_t num_layers = 1;
  std::int64_t model_dim = 0;  // C
  std::int64_t num_heads = 1;
  std::int64_t num_kv_heads = 0;      // 0: num_heads
  std::int64_t feed_forward_dim = 0;  // 0: 4 * model_dim
  double dropout = 0;                 // after every block and inside the feed-forward
  double attention_dropout = 0;       // of the attention weights
  Activation activation = Activation::relu;
  NormPlace norm = NormPlace::pre;  // pre or post
  NormKind norm_kind = NormKind::layer;
  bool bias_terms = true;
  Initializer init = {Init::xavier_uniform, 1};  // of all projections
  std::int64_t num_tokens = 0;                   // for stages whose learned arrays depend on the sequence
  /// Stages of self attention (an encoder's, a decoder's beside its causal mask). Cross attention takes `score` and
  /// `normalizer` alone: positions, biases and masks speak of one sequence.
  AnyPosition position;
  AnyScore score = ScaledDot{};
  Biases bias;
  AnyMask mask;
  AnyNormalizer normalizer = Softmax{};
  Stability stability;  // of every attention, cross attention too
};

/// What a stack tells about its attention, layer by layer, if asked for.
struct LayerAttention {
  AttentionResult self, cross;  // `out` is undefined here
};
struct WatchOptions {
  bool weights = false, statistics = false;
};

class TransformerEncoderLayer : public Module {
 public:
  explicit TransformerEncoderLayer(const TransformerOptions&);
  /// x [B, T, C] -> [B, T, C]. call: padding, mask and what is asked for; call.cache makes it a decoder-only layer's
  /// decoding step. The attention's weights and statistics go to `seen`, if given.
  Tensor operator()(const Tensor& x, const AttentionCall& call = {}, AttentionResult* seen = nullptr) const;

  MultiHeadAttention attention;
  FeedForward feed_forward;

 private:
  NormPlace place_;
  Norm norm_;  // of the feed-forward block
  Dropout dropout_;
};

class TransformerEncoder : public Module {
 public:
  explicit TransformerEncoder(const TransformerOptions&);
  /// x [B, T, C]; keys j >= valid[b] are hidden (empty: none). `seen` receives one entry per layer.
  Tensor operator()(const Tensor& x, const std::vector<int>& valid = {}, const WatchOptions& watch = {},
                    std::vector<LayerAttention>* seen = nullptr) const;
  /// Decoding with a stack whose mask is causal: the next tokens x [B, n, C], attending to what the caches (one a
  /// layer; none at first) hold and to themselves.
  Tensor step(const Tensor& x, std::vector<KvCache>& caches) const;

  std::vector<std::unique_ptr<TransformerEncoderLayer>> layers;

 private:
  std::optional<Norm> norm_;
};

/// What a decoder layer keeps between two tokens.
struct DecoderLayerCache {
  KvCache self, cross;
};
struct DecoderCache {
  std::vector<DecoderLayerCache> layers;
  std::vector<int> valid_memory;  // of the memory the cache was started with
  std::int64_t length() const { return layers.empty() ? 0 : layers[0].self.length; }
  /// Keeps these batch entries, in this order (beams); entries may repeat.
  void select(const Ids& batch_entries);
};

class TransformerDecoderLayer : public Module {
 public:
  explicit TransformerDecoderLayer(const TransformerOptions&);
  /// x [B, Tq, C], memory [B, Tk, C] (undefined with a cache) -> [B, Tq, C].
  Tensor operator()(const Tensor& x, const Tensor& memory, const std::vector<int>& valid_memory,
                    const WatchOptions& watch = {}, LayerAttention* seen = nullptr,
                    DecoderLayerCache* cache = nullptr) const;

  MultiHeadAttention self_attention, cross_attention;
  FeedForward feed_forward;

 private:
  NormPlace place_;
  Norm norm_;
  Dropout dropout_;
};

class TransformerDecoder : public Module {
 public:
  explicit TransformerDecoder(const TransformerOptions&);
  /// x [B, Tq, C], memory [B, Tk, C] -> [B, Tq, C], causal.
  Tensor operator()(const Tensor& x, const Tensor& memory, const std::vector<int>& valid_memory = {},
                    const WatchOptions& watch = {}, std::vector<LayerAttention>* seen = nullptr) const;
  /// A cache for decoding: the memory's keys and values are projected once.
  DecoderCache start(const Tensor& memory, const std::vector<int>& valid_memory = {}) const;
  /// The next tokens x [B, n, C] (usually n = 1), attending to what the cache holds and to themselves.
  Tensor step(const Tensor& x, DecoderCache& cache) const;

  std::vector<std::unique_ptr<TransformerDecoderLayer>> layers;

 private:
  std::optional<Norm> norm_;
};

}  // namespace attune::nn
