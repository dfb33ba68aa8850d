// DifferentialAttention: one product for all projections, two attentions on it where the heads lie, their difference.
#include "attune/nn/differential_attention.hpp"

#include <cmath>
#include <string>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/matmul.hpp"
#include "attune/autograd/ops/norm.hpp"
#include "attune/autograd/ops/reduce.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "nn/compose.hpp"
#include "nn/told.hpp"

namespace attune::nn {

DifferentialAttention::DifferentialAttention(const DifferentialAttentionOptions& options) : options_(options) {
  DifferentialAttentionOptions& o = options_;
  const char* name = "DifferentialAttention";
  detail::check_positive(name, {{"model_dim", o.model_dim}, {"num_heads", o.num_heads}, {"depth", o.depth}});
  detail::fill_kv_heads(name, o.num_heads, o.num_kv_heads);
  detail::fill_head_dim(name, o.model_dim, 2 * o.num_heads, o.head_dim);
  detail::check_positive(name, {{"head_dim", o.head_dim}});
  if (!o.lambda_init) o.lambda_init = 0.8 - 0.6 * std::exp(-0.3 * double(o.depth - 1));
  if (!(*o.lambda_init >= 0 && *o.lambda_init < 1))
    fail(name, "0 <= lambda_init < 1", "got " + std::to_string(*o.lambda_init));
  if (!(o.epsilon > 0)) fail(name, "epsilon above 0", "got " + std::to_string(o.epsilon));
  detail::check_no_parameters(name, {.position = o.position, .bias = o.bias}, o.num_heads, o.num_kv_heads, o.head_dim);

  const std::int64_t queries = o.num_heads * o.head_dim, keys = o.num_kv_heads * o.head_dim;
  const Tensor in = detail::stacked_parameter({queries, queries, keys, keys, 2 * keys}, o.model_dim, o.init);
  weight_in = add_parameter("weight_in", in);
  if (o.bias_terms) bias_in = add_parameter("bias_in", Tensor::zeros({in.shape()[0]}));
  const Initializer small{Init::normal, 0.1};
  lambda_query = add_parameter("lambda_query", make_parameter({2, o.head_dim}, small));
  lambda_key = add_parameter("lambda_key", make_parameter({2, o.head_dim}, small));
  if (o.norm_gain) gain = add_parameter("gain", Tensor::ones({2 * o.head_dim}));
  weight_out = add_parameter("weight_out", make_parameter({o.model_dim, 2 * queries}, o.init));
  if (o.bias_terms) bias_out = add_parameter("bias_out", Tensor::zeros({o.model_dim}));
}

Tensor DifferentialAttention::lambda() const {
  const Tensor factors = exp(sum(lambda_query * lambda_key, 1));  // [2]
  return slice(factors, 0, 0, 1) - slice(factors, 0, 1, 2) + *options_.lambda_init;
}

Tensor DifferentialAttention::operator()(const Tensor& x, const CallMask& call) const {
  const DifferentialAttentionOptions& o = options_;
  detail::check_tokens("DifferentialAttention", "x", x, o.model_dim);
  const std::int64_t b = x.shape()[0], t = x.shape()[1], d = o.head_dim;
  const std::int64_t queries = o.num_heads * d, keys = o.num_kv_heads * d, first_key = 2 * queries;
  const Tensor projected = linear(x, weight_in, bias_in);
  const AttendOptions options{.position = o.position, .bias = o.bias, .mask = call.with(o.mask)};
  const auto map = [&](std::int64_t which) {  // [B, T, H 2 D]
    return detail::attend_seen(*this, which == 0 ? "first" : "second", {projected, which * queries, o.num_heads, d},
                               {projected, first_key + which * keys, o.num_kv_heads, d},
                               {projected, first_key + 2 * keys, o.num_kv_heads, 2 * d}, options)
        .out;
  };
  const Tensor first = map(0), second = map(1), heads = first - lambda() * second;
  const Tensor even = rms_norm(reshape(heads, {b, t, o.num_heads, 2 * d}), gain, o.epsilon);
  return linear(reshape(scale(even, 1 - *o.lambda_init), {b, t, 2 * queries}), weight_out, bias_out);
}

std::vector<ParameterRows> DifferentialAttention::own_roles() const {
  const DifferentialAttentionOptions& o = options_;
  const detail::HeadRows queries{Role::query, o.num_heads, o.head_dim}, keys{Role::key, o.num_kv_heads, o.head_dim},
      values{Role::value, o.num_kv_heads, 2 * o.head_dim};
  detail::Told told;
  for (const Tensor& t : {weight_in, bias_in}) told.heads(t, {queries, queries, keys, keys, values});
  for (const Tensor& t : {weight_out, bias_out}) told.all(t, Role::output);
  for (const Tensor& t : {lambda_query, lambda_key, gain}) told.all(t, Role::gain);
  return told.rows;
}

std::vector<AttentionSite> DifferentialAttention::own_sites() const {
  const DifferentialAttentionOptions& o = options_;
  const std::int64_t d = o.head_dim, queries = o.num_heads * d, keys = o.num_kv_heads * d;
  std::vector<AttentionSite> maps(2);
  for (std::int64_t m = 0; m < 2; ++m) {
    AttentionSite& map = maps[std::size_t(m)];
    map.name = m == 0 ? "first" : "second";
    map.queries = detail::heads_of(weight_in, bias_in, m * queries, o.num_heads, d);
    map.keys = detail::heads_of(weight_in, bias_in, 2 * queries + m * keys, o.num_kv_heads, d);
  }
  return maps;
}

}  // namespace attune::nn
