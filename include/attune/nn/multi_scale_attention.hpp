// MultiScaleAttention: heads that look at single tokens beside heads that look at means of 2, 4, ... tokens.
//
//     head of scale s:  k_j = mean of the keys of tokens j s .. j s + s - 1, v_j likewise;  attend(q, k, v)
//
// Coarse heads see the whole text at 1 / s of the cost. "Multiscale vision transformers", arXiv:2104.11227 (pooled keys
// and values); "Shunted self-attention", arXiv:2111.15193 (a scale for each group of heads). Means here are plain: no
// learned pooling. A mean is of the valid tokens in its stretch. With `causal` a stretch is visible once its last token
// is not after the query, so the first s - 1 queries of a coarse head see nothing and get 0 from it.
#pragma once
#include <cstdint>
#include <vector>

#include "attune/autograd/ops/attend.hpp"
#include "attune/nn/init.hpp"
#include "attune/nn/module.hpp"

namespace attune::nn {

struct MultiScaleOptions {
  std::int64_t model_dim = 0;                 // C
  std::vector<std::int64_t> scales{1, 2, 4};  // tokens a mean, one group of heads each
  std::int64_t heads_per_scale = 1;
  std::int64_t head_dim = 0;  // D, of values too; 0: model_dim / (heads_per_scale * number of scales)
  bool causal = false;
  bool bias_terms = true;  // of the projections
  Initializer init = {Init::xavier_uniform, 1};
};

/// Parameters, [out, in]: weight_in [3 H D, C] (queries, keys, values; of each the heads of the first scale first) and
/// bias_in, weight_out [C, H D] and bias_out, H = heads_per_scale * number of scales.
///
/// Cost    The sum over scales s of an attention of heads_per_scale heads to T / s keys.
class MultiScaleAttention : public Module {
 public:
  explicit MultiScaleAttention(const MultiScaleOptions&);
  /// x [B, T, C], of which the first valid[b] tokens are visible (empty: all): [B, T, C].
  Tensor operator()(const Tensor& x, const std::vector<int>& valid = {}) const;
  std::vector<ParameterRows> own_roles() const override;
  std::vector<AttentionSite> own_sites() const override;

  const MultiScaleOptions& options() const { return options_; }

  Tensor weight_in, bias_in, weight_out, bias_out;

 private:
  MultiScaleOptions options_;
};

}  // namespace attune::nn
