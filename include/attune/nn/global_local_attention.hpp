// GlobalLocalAttention: what is near and what is far, by heads of their own or by both in every head.
//
//     local  = attend(q, k, v) within a window,   global = attend(q, k, v) over everything
//     heads   the first heads are local, the others global, side by side
//     sum     local + global
//     gate    g local + (1 - g) global,   g = sigmoid(x Wg^T + bg), one number a token and head
//
// Windows beside full attention in one layer: "Longformer", arXiv:2004.05150, and "Focal attention for long-range
// interactions", arXiv:2107.00641; a learned gate between the two: "Memorizing transformers", arXiv:2203.08913.
#pragma once
#include <cstdint>

#include "attune/autograd/ops/attend.hpp"
#include "attune/nn/call_mask.hpp"
#include "attune/nn/init.hpp"
#include "attune/nn/module.hpp"

namespace attune::nn {

enum class Joining : std::uint8_t { heads, sum, gate };

struct GlobalLocalOptions {
  std::int64_t model_dim = 0;              // C
  std::int64_t num_heads = 1;              // H
  std::int64_t num_kv_heads = 0;           // 0: num_heads
  std::int64_t head_dim = 0;               // D, of values too; 0: model_dim / num_heads
  Window window{.left = 64, .right = 64};  // of the local part, in keys
  Joining joining = Joining::heads;
  std::int64_t local_heads = 0;  // with Joining::heads: how many, whole groups; 0: half of the groups, rounded up
  bool bias_terms = true;        // of the projections
  Initializer init = {Init::xavier_uniform, 1};
  /// Of both parts; stages without learned arrays. Where a stage tells heads apart, Joining::heads counts each part
  /// from 0.
  AnyPosition position;
  Biases bias;
  AnyMask mask;
};

/// Parameters, [out, in]: weight_in [H D + 2 Hkv D, C] (queries, keys, values) and bias_in; weight_gate [H, C] and
/// bias_gate [H] with a gate, zeros at first: half of each; weight_out [C, H D] and bias_out.
///
/// Cost    heads: that of the local heads within the window and of the others over everything; sum and gate: that of
///         full attention and of a window besides.
class GlobalLocalAttention : public Module {
 public:
  explicit GlobalLocalAttention(const GlobalLocalOptions&);
  /// x [B, T, C] -> [B, T, C].
  Tensor operator()(const Tensor& x, const CallMask& call = {}) const;
  std::vector<ParameterRows> own_roles() const override;
  std::vector<AttentionSite> own_sites() const override;

  const GlobalLocalOptions& options() const { return options_; }

  Tensor weight_in, bias_in, weight_gate, bias_gate, weight_out, bias_out;

 private:
  GlobalLocalOptions options_;
};

}  // namespace attune::nn
