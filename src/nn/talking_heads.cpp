// TalkingHeads: mixed queries against all keys as one head, all values fetched by each map, mixed again.
#include "attune/nn/talking_heads.hpp"

#include <cmath>
#include <string>
#include <vector>

#include "attune/autograd/ops/matmul.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "nn/compose.hpp"
#include "nn/told.hpp"

namespace attune::nn {
namespace {

Tensor identity_matrix(std::int64_t n) {
  Tensor x = Tensor::zeros({n, n});
  for (std::int64_t i = 0; i < n; ++i) x.data<float>()[i * n + i] = 1;
  return x;
}

/// out [N, R, D] with out[n, r] = sum_i mix[r, i] x[n, i]; x [N, I, D], mix [R, I].
Tensor mixed(const Tensor& x, const Tensor& mix) {
  return transpose(matmul(transpose(x, 1, 2), mix, {.transpose_b = true}), 1, 2);
}

}  // namespace

TalkingHeads::TalkingHeads(const TalkingHeadsOptions& options) : options_(options) {
  TalkingHeadsOptions& o = options_;
  const char* name = "TalkingHeads";
  detail::check_positive(name, {{"model_dim", o.model_dim}, {"num_heads", o.num_heads}});
  detail::fill_kv_heads(name, o.num_heads, o.num_kv_heads);
  detail::fill_head_dim(name, o.model_dim, o.num_heads, o.head_dim);
  if (o.value_dim == 0) o.value_dim = o.head_dim;
  detail::check_positive(name, {{"head_dim", o.head_dim}, {"value_dim", o.value_dim}});
  if (!(o.dropout >= 0 && o.dropout < 1)) fail(name, "0 <= dropout < 1", "got " + std::to_string(o.dropout));
  detail::check_no_parameters(name, {.bias = o.bias, .normalizer = o.normalizer}, o.num_heads, 1,
                              o.num_kv_heads * o.head_dim);

  const Tensor in = detail::stacked_parameter(
      {o.num_heads * o.head_dim, o.num_kv_heads * o.head_dim, o.num_kv_heads * o.value_dim}, o.model_dim, o.init);
  weight_in = add_parameter("weight_in", in);
  if (o.bias_terms) bias_in = add_parameter("bias_in", Tensor::zeros({in.shape()[0]}));
  mix_logits = add_parameter("mix_logits", identity_matrix(o.num_heads));
  mix_weights = add_parameter("mix_weights", identity_matrix(o.num_heads));
  weight_out = add_parameter("weight_out", make_parameter({o.model_dim, o.num_heads * o.value_dim}, o.init));
  if (o.bias_terms) bias_out = add_parameter("bias_out", Tensor::zeros({o.model_dim}));
}

Tensor TalkingHeads::operator()(const Tensor& x, const CallMask& call) const {
  const TalkingHeadsOptions& o = options_;
  detail::check_tokens("TalkingHeads", "x", x, o.model_dim);
  const std::int64_t b = x.shape()[0], t = x.shape()[1], h = o.num_heads, kv = o.num_kv_heads, group = h / kv;
  const std::int64_t d = o.head_dim, dv = o.value_dim;
  const Tensor projected = linear(x, weight_in, bias_in);  // [B, T, H D + Hkv D + Hkv Dv]

  std::vector<Tensor> parts;
  for (std::int64_t g = 0; g < kv; ++g) {  // [B T, group, D] -> [B T, H, D]
    const Tensor heads = reshape(slice(projected, 2, g * group * d, (g + 1) * group * d), {b * t, group, d});
    parts.push_back(mixed(heads, slice(mix_logits, 1, g * group, (g + 1) * group)));
  }
  const Tensor query = reshape(concat(parts, 2), {b, t, h * kv * d});

  AttendOptions options{.score = ScaledDot{.scale = 1 / std::sqrt(double(d))},
                        .bias = o.bias,
                        .mask = call.with(o.mask),
                        .normalizer = o.normalizer};
  if (training() && o.dropout > 0) {
    options.dropout_p = o.dropout;
    options.seed = generator().next_u64();
  }
  const Tensor fetched = detail::attend_seen(*this, "", {query, 0, h, kv * d}, {projected, h * d, 1, kv * d},
                                             {projected, h * d + kv * d, 1, kv * dv}, options)
                             .out;  // [B, T, H Hkv Dv]
  const Tensor by_head = reshape(fetched, {b * t, h, kv * dv});
  parts.clear();
  for (std::int64_t g = 0; g < kv; ++g) {  // [B T, H, Dv] -> [B T, group, Dv]
    parts.push_back(mixed(slice(by_head, 2, g * dv, (g + 1) * dv), slice(mix_weights, 0, g * group, (g + 1) * group)));
  }
  return linear(reshape(concat(parts, 1), {b, t, h * dv}), weight_out, bias_out);
}

std::vector<ParameterRows> TalkingHeads::own_roles() const {
  const TalkingHeadsOptions& o = options_;
  const detail::HeadRows queries{Role::query, o.num_heads, o.head_dim}, keys{Role::key, o.num_kv_heads, o.head_dim},
      values{Role::value, o.num_kv_heads, o.value_dim};
  detail::Told told;
  for (const Tensor& t : {weight_in, bias_in}) told.heads(t, {queries, keys, values});
  for (const Tensor& t : {weight_out, bias_out}) told.all(t, Role::output);
  for (const Tensor& t : {mix_logits, mix_weights}) told.all(t, Role::gain);
  return told.rows;
}

/// Every mixed head reads all query and all key heads; its row of mix_logits is its size.
std::vector<AttentionSite> TalkingHeads::own_sites() const {
  const TalkingHeadsOptions& o = options_;
  const std::int64_t queries = o.num_heads * o.head_dim, keys = o.num_kv_heads * o.head_dim;
  AttentionSite site;
  for (std::int64_t h = 0; h < o.num_heads; ++h) {
    site.queries.push_back(detail::heads_of(weight_in, bias_in, 0, 1, queries)[0]);
    site.queries.back().gain = detail::rows_of(mix_logits, h, 1);
    site.queries.back().gain_scales_bias = true;
  }
  site.keys = detail::heads_of(weight_in, bias_in, queries, 1, keys);
  return {site};
}

}  // namespace attune::nn
