// MixtureOfHeads: every token picks a few attention heads out of many.
// "Mixture of attention heads: selecting attention heads per token", arXiv:2210.05144
//
//     p = softmax(x Wr^T) over E experts;  G = the k largest
//     out = sum over e in G of share_e attend(x Wq_e^T, x Wk^T, x Wv^T) Wo_e^T
//     share_e = p_e / (sum of p over G), the divisor taken as a constant
//
// All experts share keys and values; only chosen queries are projected and attended to. Two losses keep the router in
// order: balance = E sum_e f_e P_e with f the share of choices and P the mean of p (1 if even), and z, the mean square
// of the log of the router's sum of exponentials. The choice itself has no gradient.
#pragma once
#include <cstdint>
#include <vector>

#include "attune/autograd/ops/attend.hpp"
#include "attune/nn/call_mask.hpp"
#include "attune/nn/init.hpp"
#include "attune/nn/module.hpp"

namespace attune::nn {

/// What a chosen head is multiplied by.
enum class HeadShare : std::uint8_t {
  plain,      // p_e
  of_chosen,  // p_e / sum of the chosen, with its full gradient
  detached    // the same number; the sum is a constant to the gradient, as in the paper
};

struct MixtureOfHeadsOptions {
  std::int64_t model_dim = 0;    // C
  std::int64_t num_experts = 0;  // E
  std::int64_t num_active = 1;   // k, 1 .. E; equal probabilities: the first
  std::int64_t head_dim = 0;     // D, of values too; 0: model_dim / num_active
  HeadShare share = HeadShare::detached;
  Initializer init = {Init::xavier_uniform, 1};
  /// Stages without learned arrays; masks that tell heads apart see the k places, not experts.
  AnyPosition position;
  AnyMask mask;
};

struct MixtureResult {
  Tensor out;                        // [B, T, C]
  Tensor balance_loss, z_loss;       // [], over valid tokens; 0 without any
  std::vector<std::int64_t> chosen;  // [E]: how many valid tokens chose each expert
};

/// Parameters, [out, in]: weight_router [E, C]; weight_query [E D, C], D rows an expert; weight_key_value [2 D, C];
/// weight_out [E C, D], C rows an expert.
///
/// Cost    An attention with k query heads and one key head, k projections a token to and from heads, and the router.
class MixtureOfHeads : public Module {
 public:
  explicit MixtureOfHeads(const MixtureOfHeadsOptions&);
  Tensor operator()(const Tensor& x, const CallMask& call = {}) const { return attend_to(x, call).out; }
  /// x [B, T, C]; call.valid_keys are also the tokens that count in the losses.
  MixtureResult attend_to(const Tensor& x, const CallMask& call = {}) const;
  std::vector<ParameterRows> own_roles() const override;
  std::vector<AttentionSite> own_sites() const override;

  const MixtureOfHeadsOptions& options() const { return options_; }

  Tensor weight_router, weight_query, weight_key_value, weight_out;

 private:
  MixtureOfHeadsOptions options_;
};

}  // namespace attune::nn
