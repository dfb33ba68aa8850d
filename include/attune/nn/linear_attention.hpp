// LinearAttention: projections around linear_attend, with the gates and betas that its rule takes from the input.
//
//     q, k, v = x W^T by heads;   delta rules: q and k of length 1
//     decay = log(sigmoid(x Wg^T + bg)) / gate_temperature,   beta = sigmoid(x Wb^T + bb)
//     y = linear_attend(q, k, v, decay, beta) Wo^T
//
// "Transformers are RNNs", arXiv:2006.16236; "Gated linear attention transformers", arXiv:2312.06635; "Gated delta
// networks", arXiv:2412.06464. Short convolutions and output gates of those papers' blocks are left to the model.
#pragma once
#include <optional>

#include "attune/autograd/ops/linear_attend.hpp"
#include "attune/nn/linear.hpp"

namespace attune::nn {

struct LinearAttentionOptions {
  std::int64_t model_dim = 0;  // C
  std::int64_t num_heads = 1;
  std::int64_t num_kv_heads = 0;  // 0: num_heads
  std::int64_t head_dim = 0;      // D of query and key; 0: model_dim / num_heads
  std::int64_t value_dim = 0;     // Dv; 0: head_dim
  LinearAttendOptions attention;  // rule, features, normalizer, causality
  bool decay_per_head = false;    // one gate a head instead of one for each feature
  double gate_temperature = 16;   // > 0; a gate of sigmoid 1/2 forgets 4 % a token
  bool bias_terms = true;         // of query, key, value and output; gates and betas always have them
  Initializer init = {Init::xavier_uniform, 1};
};

/// Members query [H * D, C], key [Hkv * D, C], value [Hkv * Dv, C], out [C, H * Dv]; decay [Hkv or Hkv * F, C] and
/// beta [Hkv, C] where the rule takes them.
class LinearAttention : public Module {
 public:
  explicit LinearAttention(const LinearAttentionOptions&);
  /// x [B, T, C] -> [B, T, C].
  Tensor operator()(const Tensor& x) const { return attend_to(x).out; }
  /// The same after what `state` has seen: out [B, T, C], and the state [B, Hkv, F, Dv (+ 1)] for the tokens that
  /// follow. One token a call is a step of decoding.
  LinearAttended attend_to(const Tensor& x, const Tensor& state = {}) const;
  std::vector<ParameterRows> own_roles() const override;

  const LinearAttentionOptions& options() const { return options_; }

 private:
  LinearAttentionOptions options_;
  std::optional<Linear> query_, key_, value_, out_, decay_, beta_;
};

}  // namespace attune::nn
