// GlobalLocalAttention: one product for all projections, two attentions on it, joined.
#include "attune/nn/global_local_attention.hpp"

#include <string>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/matmul.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "nn/compose.hpp"
#include "nn/told.hpp"

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
  const auto part = [&](const char* site, std::int64_t first, std::int64_t end, const AnyMask& mask) {
    const std::int64_t group = h / kv, n = end - first;
    return detail::attend_seen(*this, site, {projected, first * group * d, n * group, d},
                               {projected, (h + first) * d, n, d}, {projected, (h + kv + first) * d, n, d},
                               {.position = o.position, .bias = o.bias, .mask = mask})
        .out;
  };
  const AnyMask near = visible & AnyMask(o.window);
  Tensor heads;
  if (o.joining == Joining::heads) {
    const std::int64_t cut = o.local_heads / (h / kv);
    heads = cut == kv ? part("local", 0, kv, near)
                      : concat({part("local", 0, cut, near), part("global", cut, kv, visible)}, 2);
  } else {
    const Tensor local = part("local", 0, kv, near), global = part("global", 0, kv, visible);
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

std::vector<ParameterRows> GlobalLocalAttention::own_roles() const {
  const GlobalLocalOptions& o = options_;
  const detail::HeadRows queries{Role::query, o.num_heads, o.head_dim}, keys{Role::key, o.num_kv_heads, o.head_dim},
      values{Role::value, o.num_kv_heads, o.head_dim};
  detail::Told told;
  for (const Tensor& t : {weight_in, bias_in}) told.heads(t, {queries, keys, values});
  for (const Tensor& t : {weight_out, bias_out}) told.all(t, Role::output);
  told.all(weight_gate, Role::gain, true).all(bias_gate, Role::gain);
  return told.rows;
}

/// Heads of their own, or the same heads twice.
std::vector<AttentionSite> GlobalLocalAttention::own_sites() const {
  const GlobalLocalOptions& o = options_;
  const std::int64_t d = o.head_dim, group = o.num_heads / o.num_kv_heads;
  const auto part = [&](const char* name, std::int64_t first, std::int64_t end) {
    return AttentionSite{name, detail::heads_of(weight_in, bias_in, first * group * d, (end - first) * group, d),
                         detail::heads_of(weight_in, bias_in, (o.num_heads + first) * d, end - first, d)};
  };
  const std::int64_t kv = o.num_kv_heads;
  if (o.joining != Joining::heads) {
    std::vector<AttentionSite> both{part("local", 0, kv), part("global", 0, kv)};
    both[0].proportional = false;  // its scores are among those of `global`, which is the one to be limited
    return both;
  }
  const std::int64_t cut = o.local_heads / group;
  std::vector<AttentionSite> parts{part("local", 0, cut)};
  if (cut < kv) parts.push_back(part("global", cut, kv));
  return parts;
}

}  // namespace attune::nn
