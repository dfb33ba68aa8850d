// GlobalLocalAttention: one product for all projections, two attentions on it, joined.
#include "attune/nn/global_local_attention.hpp"

#include <string>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/matmul.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "nn/compose.hpp"

namespace attune::nn {

GlobalLocalAttention::GlobalLocalAttention(const GlobalLocalOptions& options) : options_(options) {
  GlobalLocalOptions& o = options_;
  const char* name = "GlobalLocalAttention";
  detail::check_positive(name, {{"model_dim", o.model_dim}, {"num_heads", o.num_heads}});
  detail::fill_kv_heads(name, o.num_heads, o.num_kv_heads);
  detail::fill_head_dim(name, o.model_dim, o.num_heads, o.head_dim);
  detail::check_positive(name, {{"head_dim", o.head_dim}});
  detail::check_no_parameters(name, {.position = o.position, .bias = o.bias}, o.num_heads, o.num_kv_heads, o.head_dim);
  const std::int64_t group = o.num_heads / o.num_kv_heads;
  if (o.joining == Joining::heads) {
    if (o.local_heads == 0) o.local_heads = (o.num_kv_heads + 1) / 2 * group;
    if (o.local_heads < 0 || o.local_heads > o.num_heads || o.local_heads % group != 0) {
      fail(name,
           "local_heads that are whole groups of " + std::to_string(group) + ", " + std::to_string(o.num_heads) +
               " at most",
           "got " + std::to_string(o.local_heads));
    }
  }
  const std::int64_t queries = o.num_heads * o.head_dim, keys = o.num_kv_heads * o.head_dim;
  weight_in = add_parameter("weight_in", detail::stacked_parameter({queries, keys, keys}, o.model_dim, o.init));
  if (o.bias_terms) bias_in = add_parameter("bias_in", Tensor::zeros({queries + 2 * keys}));
  if (o.joining == Joining::gate) {
    weight_gate = add_parameter("weight_gate", Tensor::zeros({o.num_heads, o.model_dim}));
    bias_gate = add_parameter("bias_gate", Tensor::zeros({o.num_heads}));
  }
  weight_out = add_parameter("weight_out", make_parameter({o.model_dim, queries}, o.init));
  if (o.bias_terms) bias_out = add_parameter("bias_out", Tensor::zeros({o.model_dim}));
}

Tensor GlobalLocalAttention::operator()(const Tensor& x, const CallMask& call) const {
  const GlobalLocalOptions& o = options_;
  detail::check_tokens("GlobalLocalAttention", "x", x, o.model_dim);
  const std::int64_t b = x.shape()[0], t = x.shape()[1], h = o.num_heads, kv = o.num_kv_heads, d = o.head_dim;
  const Tensor projected = linear(x, weight_in, bias_in);
  const AnyMask visible = call.with(o.mask);
  // Key heads first .. end - 1 and the query heads that read them: [B, T, heads D].
  const auto part = [&](std::int64_t first, std::int64_t end, const AnyMask& mask) {
    const std::int64_t group = h / kv, n = end - first;
    return attend_packed({projected, first * group * d, n * group, d}, {projected, (h + first) * d, n, d},
                         {projected, (h + kv + first) * d, n, d},
                         {.position = o.position, .bias = o.bias, .mask = mask})
        .out;
  };
  const AnyMask near = visible & AnyMask(o.window);
  Tensor heads;
  if (o.joining == Joining::heads) {
    const std::int64_t cut = o.local_heads / (h / kv);
    heads = cut == kv ? part(0, kv, near) : concat({part(0, cut, near), part(cut, kv, visible)}, 2);
  } else {
    const Tensor local = part(0, kv, near), global = part(0, kv, visible);
    if (o.joining == Joining::sum) {
      heads = local + global;
    } else {
      const Shape by_head{b, t, h, d};
      const Tensor g = reshape(sigmoid(linear(x, weight_gate, bias_gate)), {b, t, h, 1});
      heads = reshape(reshape(global, by_head) + g * reshape(local - global, by_head), {b, t, h * d});
    }
  }
  return linear(heads, weight_out, bias_out);
}

}  // namespace attune::nn
