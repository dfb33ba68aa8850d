// AgentAttention: a few agents gather from all keys, and queries read from the agents.
// "Agent attention", arXiv:2312.08874
//
//     A = means of the queries over n equal stretches of the text (or n learned rows)
//     out = softmax(Q A^T / sqrt(D)) (softmax(A K^T / sqrt(D)) V) + conv(V)
//
// Two attentions with n queries or n keys: linear in the sequence, in time as in memory. Agents see the whole text, so
// there is no causal form. conv is a convolution along the tokens, each column by itself, which gives back the details
// that n agents cannot carry; 0 beyond the ends. The paper's learned biases for image patches are left out.
#pragma once
#include <cstdint>
#include <vector>

#include "attune/autograd/ops/attend.hpp"
#include "attune/nn/init.hpp"
#include "attune/nn/module.hpp"

namespace attune::nn {

enum class AgentSource : std::uint8_t {
  queries,  // means over stretches: token i of T valid ones is in stretch a if a T / n <= i < (a + 1) T / n, rounded
            // out
  learned   // a parameter
};

struct AgentAttentionOptions {
  std::int64_t model_dim = 0;   // C
  std::int64_t num_heads = 1;   // H
  std::int64_t head_dim = 0;    // D, of values too; 0: model_dim / num_heads
  std::int64_t num_agents = 0;  // n
  AgentSource source = AgentSource::queries;
  std::int64_t conv_width = 0;  // tokens, odd; 0: no convolution
  bool bias_terms = true;       // of the projections
  Initializer init = {Init::xavier_uniform, 1};
};

/// Parameters, [out, in]: weight_in [3 H D, C] (queries, keys, values) and bias_in, agents [n, H D] if learned, conv
/// [conv_width, H D], zeros at first; weight_out [C, H D] and bias_out.
///
/// Cost    4 B T n H D multiply-adds beside the projections.
class AgentAttention : public Module {
 public:
  explicit AgentAttention(const AgentAttentionOptions&);
  /// x [B, T, C], of which the first valid[b] tokens are valid (empty: all): [B, T, C].
  Tensor operator()(const Tensor& x, const std::vector<int>& valid = {}) const;
  std::vector<ParameterRows> own_roles() const override;
  std::vector<AttentionSite> own_sites() const override;

  const AgentAttentionOptions& options() const { return options_; }

  Tensor weight_in, bias_in, agents, conv, weight_out, bias_out;

 private:
  AgentAttentionOptions options_;
};

}  // namespace attune::nn
