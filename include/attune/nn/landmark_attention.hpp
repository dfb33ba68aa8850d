// LandmarkAttention: every block of tokens ends in a landmark, and attention to a block passes through it.
// "Landmark attention: random-access infinite context length for transformers", arXiv:2305.16300
//
//     token i, block of i own, s_ij = q_i . k_j / sqrt(D), causal:
//     gate  = softmax over the tokens of the own block and the landmarks of earlier blocks
//     p_ij  = gate_ij                                    j in the own block
//     p_ij  = gate_i,landmark(b) softmax_j in b (s_ij)    j in an earlier block b
//     p_ij  = 0                                          j a landmark
//
// That is one softmax over all tokens with s_ij + s_i,landmark(b) - lse_ib in earlier blocks, lse_ib the log of the sum
// of exp(s_ij) over block b. So the engine runs once a block for lse_ib, and once for all tokens with these numbers as
// further columns of the query against columns that name a key's block: no map is stored. Choosing a few blocks by
// their landmarks when decoding is not part of this.
#pragma once
#include <cstdint>
#include <optional>

#include "attune/attention/position/rotary.hpp"
#include "attune/nn/init.hpp"
#include "attune/nn/module.hpp"

namespace attune::nn {

struct LandmarkAttentionOptions {
  std::int64_t model_dim = 0;     // C
  std::int64_t num_heads = 1;     // H
  std::int64_t num_kv_heads = 0;  // 0: num_heads
  std::int64_t head_dim = 0;      // D, of values too; 0: model_dim / num_heads
  std::int64_t block = 64;        // tokens, the landmark at their end included; 2 or more
  bool bias_terms = false;        // of the projections
  Initializer init = {Init::xavier_uniform, 1};
  std::optional<Rotary> rotary;  // over all of D
};

/// Parameters, [out, in]: weight_in [H D + 2 Hkv D, C] (queries, keys, values) and bias_in, weight_out [C, H D] and
/// bias_out. Tokens block - 1, 2 block - 1, ... of x are the landmarks; the model puts them there.
///
/// Cost    Twice the products of causal attention with query and key, and one with values. Rows of queries and keys are
///         T / block numbers wider: that is the memory it adds, O(B H T^2 / block) numbers instead of B H T^2.
class LandmarkAttention : public Module {
 public:
  explicit LandmarkAttention(const LandmarkAttentionOptions&);
  /// x [B, T, C] -> [B, T, C]. Padding at the end needs no mask: no earlier token sees it.
  Tensor operator()(const Tensor& x) const;
  std::vector<ParameterRows> own_roles() const override;
  std::vector<AttentionSite> own_sites() const override;

  const LandmarkAttentionOptions& options() const { return options_; }

  Tensor weight_in, bias_in, weight_out, bias_out;

 private:
  LandmarkAttentionOptions options_;
};

}  // namespace attune::nn
