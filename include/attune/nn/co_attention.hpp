// Two streams that look at each other: words and image regions, a sentence and its audio.
//
//     CrossModalAttention   H = x + attention(x, memory),  out = H + feed_forward(H), with norms before or after
//                           one stream reads another: "MulT", arXiv:1906.00295
//     CoAttention           two of them, each stream reading the other as it was: "ViLBERT", arXiv:1908.02265
//     ParallelCoAttention   both streams pooled by one affinity: "Hierarchical question-image co-attention",
//                           arXiv:1606.00061
//         C = tanh(X Wb Y^T);  Hx = tanh(X Wx + C (Y Wy)),  Hy = tanh(Y Wy + C^T (X Wx))
//         first = softmax(Hx wx) . X,   second = softmax(Hy wy) . Y
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "attune/nn/dropout.hpp"
#include "attune/nn/feed_forward.hpp"
#include "attune/nn/multi_head_attention.hpp"
#include "attune/nn/norm.hpp"

namespace attune::nn {

struct CrossModalOptions {
  std::int64_t model_dim = 0;   // C of the stream that reads
  std::int64_t memory_dim = 0;  // of the one that is read; 0: model_dim
  std::int64_t num_heads = 1;
  std::int64_t head_dim = 0;         // 0: model_dim / num_heads
  std::int64_t hidden_dim = 0;       // of the feed-forward part; 0: 4 model_dim
  NormPlace norm = NormPlace::post;  // pre: both streams are normalised before they meet
  double dropout = 0;                // after attention and feed-forward, and inside of the latter
  double attention_dropout = 0;      // of the attention weights
  Activation activation = Activation::gelu;
  Initializer init = {Init::xavier_uniform, 1};
};

/// Members attention, feed_forward, attention_norm, feed_forward_norm; memory_norm with NormPlace::pre.
class CrossModalAttention : public Module {
 public:
  explicit CrossModalAttention(const CrossModalOptions&);
  /// x [B, T, C] reads memory [B, M, memory_dim], of which the first valid[b] rows are visible (empty: all):
  /// [B, T, C]. Cost T M.
  Tensor operator()(const Tensor& x, const Tensor& memory, const std::vector<int>& valid = {}) const;

  MultiHeadAttention attention;
  FeedForward feed_forward;

 private:
  NormPlace place_;
  std::optional<LayerNorm> attention_norm_, feed_forward_norm_, memory_norm_;
  Dropout dropout_;
};

/// What two streams became.
struct Streams {
  Tensor first, second;
};

/// Members first and second, each a CrossModalAttention. The options are the first stream's; the second's are the same
/// with model_dim and memory_dim exchanged (and the first's head_dim, so that both have num_heads heads of one width).
class CoAttention : public Module {
 public:
  explicit CoAttention(const CrossModalOptions&);
  /// first [B, T, C] and second [B, M, memory_dim], of which valid_first[b] and valid_second[b] rows are visible.
  Streams operator()(const Tensor& first, const Tensor& second, const std::vector<int>& valid_first = {},
                     const std::vector<int>& valid_second = {}) const;

 private:
  std::optional<CrossModalAttention> first_, second_;
};

struct ParallelCoAttentionOptions {
  std::int64_t first_dim = 0, second_dim = 0;  // of the streams
  std::int64_t hidden_dim = 0;                 // K
  Initializer init = {Init::xavier_uniform, 1};
};

struct CoPooled {
  Tensor first, second;                  // [B, first_dim], [B, second_dim]
  Tensor first_weights, second_weights;  // [B, T], [B, M], without history
};

/// Parameters: affinity [first_dim, second_dim], first_weight [K, first_dim], second_weight [K, second_dim],
/// first_query [1, K], second_query [1, K].
///
/// Cost    T M (min(first_dim, second_dim) + 2 K) multiply-adds; C is stored, B T M numbers.
class ParallelCoAttention : public Module {
 public:
  explicit ParallelCoAttention(const ParallelCoAttentionOptions&);
  /// first [B, T, first_dim], second [B, M, second_dim]; rows from valid[b] on are no members. A stream without members
  /// is pooled to 0.
  CoPooled operator()(const Tensor& first, const Tensor& second, const std::vector<int>& valid_first = {},
                      const std::vector<int>& valid_second = {}) const;
  std::vector<ParameterRows> own_roles() const override;
  std::vector<AttentionSite> own_sites() const override;

  Tensor affinity, first_weight, second_weight, first_query, second_query;
};

}  // namespace attune::nn
