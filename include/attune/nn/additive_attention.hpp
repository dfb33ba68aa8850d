// AdditiveAttention: weights = softmax(v^T tanh(Wq query + Wk key)), pooled = weights . value.
// "Neural machine translation by jointly learning to align and translate", arXiv:1409.0473
#pragma once
#include "attune/attention/mask/all.hpp"
#include "attune/autograd/ops/attend.hpp"
#include "attune/nn/module.hpp"

namespace attune::nn {

struct AdditiveAttentionOptions {
  std::int64_t query_dim = 0, key_dim = 0, hidden_dim = 0;
};

struct Pooled {
  Tensor pooled;   // [B, Tq, Dv], or [B, Dv] for a query of rank 2
  Tensor weights;  // [B, Tq, Tk], or [B, Tk]; without history
};

/// query_weight [1, hidden, query_dim], key_weight [1, hidden, key_dim], v [1, hidden].
class AdditiveAttention : public Module {
 public:
  explicit AdditiveAttention(const AdditiveAttentionOptions&);
  /// query [B, Tq, query_dim] or [B, query_dim], key [B, Tk, key_dim], value [B, Tk, Dv]; undefined: the keys.
  /// valid_keys [B] hides keys beyond; empty: all are valid.
  Pooled operator()(const Tensor& query, const Tensor& key, const Tensor& value = {},
                    const std::vector<int>& valid_keys = {}) const;
  std::vector<ParameterRows> own_roles() const override;
  std::vector<AttentionSite> own_sites() const override;

  Tensor query_weight, key_weight, v;

 private:
  AdditiveAttentionOptions options_;
};

}  // namespace attune::nn
