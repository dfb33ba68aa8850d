// TalkingHeads: heads that mix their logits before the softmax and their weights after it.
// "Talking-heads attention", arXiv:2003.02436
//
//     logits_h = sum_i M[h, i] (q_i . k_i) / sqrt(D)
//     P_h = normalize(mask(bias(logits_h)))
//     head_h = (sum_i W[h, i] P_i) v_h,   out = concat(head) Wo^T
//
// A mixture of products is one product of wider rows: with all key heads side by side as one, k = [k_1 .. k_Hkv], the
// query [M[h, 1] q_1 .. ] gives logits_h, and P_i fetches all values [v_1 .. v_Hkv] at once, of which the second
// mixture takes its share. So no map is ever stored, and every rule of attend() holds. Key heads that are shared are
// cheaper: with one of them, mixing costs nothing per pair.
#pragma once
#include <cstdint>

#include "attune/autograd/ops/attend.hpp"
#include "attune/nn/call_mask.hpp"
#include "attune/nn/init.hpp"
#include "attune/nn/module.hpp"

namespace attune::nn {

struct TalkingHeadsOptions {
  std::int64_t model_dim = 0;                    // C
  std::int64_t num_heads = 1;                    // H
  std::int64_t num_kv_heads = 0;                 // 0: num_heads
  std::int64_t head_dim = 0;                     // D; 0: model_dim / num_heads
  std::int64_t value_dim = 0;                    // Dv; 0: head_dim
  bool bias_terms = true;                        // of the projections
  double dropout = 0;                            // of the weights before they mix, in training
  Initializer init = {Init::xavier_uniform, 1};  // of each projection
  /// Of the mixed logits; stages without learned arrays. Positions that turn heads are not offered: the heads that they
  /// would turn are mixed.
  Biases bias;
  AnyMask mask;
  AnyNormalizer normalizer = Softmax{};
};

/// Parameters, [out, in]: weight_in [H D + Hkv D + Hkv Dv, C] and bias_in, mix_logits [H, H], mix_weights [H, H], both
/// the identity at first (then it is a MultiHeadAttention), weight_out [C, H Dv] and bias_out.
///
/// Cost    Hkv times the multiply-adds of an attention with H heads; memory linear in the sequence, Hkv times as many
///         numbers for query and heads.
class TalkingHeads : public Module {
 public:
  explicit TalkingHeads(const TalkingHeadsOptions&);
  /// x [B, T, C] -> [B, T, C].
  Tensor operator()(const Tensor& x, const CallMask& call = {}) const;
  std::vector<ParameterRows> own_roles() const override;
  std::vector<AttentionSite> own_sites() const override;

  const TalkingHeadsOptions& options() const { return options_; }

  Tensor weight_in, bias_in, mix_logits, mix_weights, weight_out, bias_out;

 private:
  TalkingHeadsOptions options_;
};

}  // namespace attune::nn
