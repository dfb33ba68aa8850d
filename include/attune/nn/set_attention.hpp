// Attention on sets: no order goes in, none comes out.  "Set transformer", arXiv:1810.00825
//
//     block(X, Y)  = norm(H + feed_forward(H)),   H = norm(X + attention(X, Y))                     MAB
//     SetAttention(X)        = block(X, X)                                                         SAB
//     InducedSetAttention(X) = block(X, block(I, X))            I [m, C] learned                   ISAB
//     SetPooling(X)          = block(S, feed_forward(X))        S [k, C] learned                   PMA
//
// Sets of different sizes are padded: valid[b] elements of entry b are members, what follows is no member and reaches
// no result of a member. An empty set is allowed: its attention fetches 0.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "attune/nn/feed_forward.hpp"
#include "attune/nn/multi_head_attention.hpp"
#include "attune/nn/norm.hpp"

namespace attune::nn {

struct SetAttentionOptions {
  std::int64_t model_dim = 0;  // C
  std::int64_t num_heads = 1;
  std::int64_t hidden_dim = 0;  // of the feed-forward parts; 0: model_dim
  bool norm = true;             // layer norms
  double dropout = 0;           // of the attention weights, in training
  Activation activation = Activation::relu;
  Initializer init = {Init::xavier_uniform, 1};
};

/// Members attention, feed_forward, attention_norm and feed_forward_norm.
class SetBlock : public Module {
 public:
  explicit SetBlock(const SetAttentionOptions&);
  /// x [B, n, C] attends to y [B, m, C], of which valid[b] are members (empty: all): [B, n, C].
  Tensor operator()(const Tensor& x, const Tensor& y, const std::vector<int>& valid = {}) const;

  MultiHeadAttention attention;
  FeedForward feed_forward;

 private:
  std::optional<LayerNorm> attention_norm_, feed_forward_norm_;
};

/// Each element attends to all: equivariant. Cost n^2. Member block.
class SetAttention : public Module {
 public:
  explicit SetAttention(const SetAttentionOptions&);
  /// x [B, n, C] -> [B, n, C].
  Tensor operator()(const Tensor& x, const std::vector<int>& valid = {}) const { return block(x, x, valid); }

  SetBlock block;
};

/// The same through m learned points, which attend to the set and are attended to: equivariant. Cost 2 n m. Parameter
/// points [m, C]; members to_points, from_points.
class InducedSetAttention : public Module {
 public:
  InducedSetAttention(const SetAttentionOptions&, std::int64_t num_points);
  /// x [B, n, C] -> [B, n, C].
  Tensor operator()(const Tensor& x, const std::vector<int>& valid = {}) const;
  std::vector<ParameterRows> own_roles() const override;

  Tensor points;
  SetBlock to_points, from_points;
};

/// k learned seeds attend to the set: invariant. Cost n k. Parameter seeds [k, C]; members feed_forward, block.
class SetPooling : public Module {
 public:
  SetPooling(const SetAttentionOptions&, std::int64_t num_seeds);
  /// x [B, n, C] -> [B, k, C].
  Tensor operator()(const Tensor& x, const std::vector<int>& valid = {}) const;
  std::vector<ParameterRows> own_roles() const override;

  Tensor seeds;
  FeedForward feed_forward;
  SetBlock block;
};

}  // namespace attune::nn
