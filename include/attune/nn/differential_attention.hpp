// DifferentialAttention: the difference of two attention maps, so that what both see as noise cancels.
// "Differential transformer", arXiv:2410.05258
//
//     head = (softmax(Q1 K1^T / sqrt(D)) - lambda softmax(Q2 K2^T / sqrt(D))) V
//     lambda = exp(lq1 . lk1) - exp(lq2 . lk2) + lambda_init,   lambda_init = 0.8 - 0.6 exp(-0.3 (depth - 1))
//     out = concat((1 - lambda_init) RMSNorm(head)) Wo^T
//
// The difference is taken of what the two maps fetch, not of the maps: memory stays linear in the sequence. A query
// that sees no key gets heads of 0. Weights have no dropout: the paper defines none.
#pragma once
#include <cstdint>
#include <optional>

#include "attune/autograd/ops/attend.hpp"
#include "attune/nn/call_mask.hpp"
#include "attune/nn/init.hpp"
#include "attune/nn/module.hpp"

namespace attune::nn {

struct DifferentialAttentionOptions {
  std::int64_t model_dim = 0;                    // C
  std::int64_t num_heads = 1;                    // H, each of two maps
  std::int64_t num_kv_heads = 0;                 // 0: num_heads
  std::int64_t head_dim = 0;                     // D of one map; values have 2 D; 0: model_dim / (2 num_heads)
  std::int64_t depth = 1;                        // of the layer, from 1: it sets lambda_init
  std::optional<double> lambda_init;             // instead of what the depth gives; 0 <= lambda_init < 1
  bool norm_gain = true;                         // the norm of heads has a gain
  double epsilon = 1e-5;                         // of that norm
  bool bias_terms = false;                       // of the projections
  Initializer init = {Init::xavier_uniform, 1};  // of each projection
  /// Of both maps; stages without learned arrays.
  AnyPosition position;
  Biases bias;
  AnyMask mask;
};

/// Parameters, [out, in]: weight_in [2 H D + 2 Hkv D + Hkv 2 D, C] and bias_in: the first queries of all heads, the
/// second ones, the first keys, the second ones, the values (2 D a head); lambda_query and lambda_key [2, D], one row a
/// map; gain [2 D] of the norm, the same for all heads; weight_out [C, H 2 D] and bias_out.
///
/// Cost    Two attentions with H heads, of which each reads the values: as one with 2 H heads of D whose values are
///         twice as wide.
class DifferentialAttention : public Module {
 public:
  explicit DifferentialAttention(const DifferentialAttentionOptions&);
  /// x [B, T, C] -> [B, T, C].
  Tensor operator()(const Tensor& x, const CallMask& call = {}) const;
  /// The factor of the second map, [1]; differentiable.
  Tensor lambda() const;
  std::vector<ParameterRows> own_roles() const override;
  std::vector<AttentionSite> own_sites() const override;

  const DifferentialAttentionOptions& options() const { return options_; }

  Tensor weight_in, bias_in, lambda_query, lambda_key, gain, weight_out, bias_out;

 private:
  DifferentialAttentionOptions options_;
};

}  // namespace attune::nn
