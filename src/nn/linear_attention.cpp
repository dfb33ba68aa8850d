// LinearAttention: see the header for the formulas.
#include "attune/nn/linear_attention.hpp"

#include <cmath>
#include <string>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/norm.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "nn/told.hpp"

namespace attune::nn {
namespace {

/// log(sigmoid(x)) = log_softmax((x, 0))_0, which rounds no sigmoid to 0.
Tensor log_sigmoid(const Tensor& x) {
  const std::int64_t n = x.size();
  const Tensor pairs = concat({reshape(x, {n, 1}), Tensor::zeros({n, 1}, x.dtype())}, 1);
  return reshape(slice(log_softmax(pairs), 1, 0, 1), x.shape());
}
/// Rows of length 1.
Tensor unit_rows(const Tensor& x) { return scale(rms_norm(x, {}), 1 / std::sqrt(double(x.shape().back()))); }

}  // namespace

LinearAttention::LinearAttention(const LinearAttentionOptions& options) : options_(options) {
  LinearAttentionOptions& o = options_;
  if (o.num_kv_heads == 0) o.num_kv_heads = o.num_heads;
  if (o.model_dim < 1 || o.num_heads < 1 || o.num_kv_heads < 1 || o.num_heads % o.num_kv_heads != 0) {
    fail("LinearAttention", "a model_dim of at least 1 and num_heads that is a multiple of num_kv_heads",
         "got " + std::to_string(o.model_dim) + ", " + std::to_string(o.num_heads) + " and " +
             std::to_string(o.num_kv_heads));
  }
  if (o.head_dim == 0 && o.model_dim % o.num_heads != 0) {
    fail("LinearAttention", "a model_dim that num_heads divides, or a head_dim",
         "got " + std::to_string(o.model_dim) + " and " + std::to_string(o.num_heads) + " heads");
  }
  if (o.head_dim == 0) o.head_dim = o.model_dim / o.num_heads;
  if (o.value_dim == 0) o.value_dim = o.head_dim;
  if (o.head_dim < 1 || o.value_dim < 1) {
    fail("LinearAttention", "positive widths",
         "got head_dim " + std::to_string(o.head_dim) + " and value_dim " + std::to_string(o.value_dim));
  }
  if (!(o.gate_temperature > 0) || !std::isfinite(o.gate_temperature))
    fail("LinearAttention", "a gate_temperature above 0", "got " + std::to_string(o.gate_temperature));
  const auto add = [&](const char* name, std::optional<Linear>& to, std::int64_t in, std::int64_t out, bool bias) {
    to.emplace(LinearOptions{.in = in, .out = out, .bias = bias, .init = o.init});
    add_module(name, *to);
  };
  add("query", query_, o.model_dim, o.num_heads * o.head_dim, o.bias_terms);
  add("key", key_, o.model_dim, o.num_kv_heads * o.head_dim, o.bias_terms);
  add("value", value_, o.model_dim, o.num_kv_heads * o.value_dim, o.bias_terms);
  if (takes_decay(o.attention.rule)) {
    const int features = feature_width(o.attention.features, int(o.head_dim));
    add("decay", decay_, o.model_dim, o.num_kv_heads * (o.decay_per_head ? 1 : features), true);
  }
  if (takes_beta(o.attention.rule)) add("beta", beta_, o.model_dim, o.num_kv_heads, true);
  add("out", out_, o.num_heads * o.value_dim, o.model_dim, o.bias_terms);
}

LinearAttended LinearAttention::attend_to(const Tensor& x, const Tensor& state) const {
  const LinearAttentionOptions& o = options_;
  if (!x.defined() || x.rank() != 3 || x.shape()[2] != o.model_dim) {
    fail("LinearAttention", "[B, T, " + std::to_string(o.model_dim) + "]",
         x.defined() ? "got " + x.shape().text() : "got none");
  }
  const std::int64_t b = x.shape()[0], t = x.shape()[1];
  Tensor query = reshape((*query_)(x), {b, t, o.num_heads, o.head_dim});
  Tensor key = reshape((*key_)(x), {b, t, o.num_kv_heads, o.head_dim});
  const Tensor value = reshape((*value_)(x), {b, t, o.num_kv_heads, o.value_dim});
  LinearAttendExtras extras{.state = state, .layout = HeadLayout::tokens_first};
  if (decay_) {
    extras.decay = scale(log_sigmoid((*decay_)(x)), 1 / o.gate_temperature);
    if (!o.decay_per_head) extras.decay = reshape(extras.decay, {b, t, o.num_kv_heads, -1});
  }
  if (beta_) {
    extras.beta = sigmoid((*beta_)(x));
    query = unit_rows(query);
    key = unit_rows(key);
  }
  LinearAttended result = linear_attend(query, key, value, o.attention, extras);
  result.out = (*out_)(reshape(result.out, {b, t, o.num_heads * o.value_dim}));
  return result;
}

std::vector<ParameterRows> LinearAttention::own_roles() const {
  const LinearAttentionOptions& o = options_;
  detail::Told told;
  for (const Tensor& t : {query_->weight, query_->bias}) told.heads(t, {{Role::query, o.num_heads, o.head_dim}});
  for (const Tensor& t : {key_->weight, key_->bias}) told.heads(t, {{Role::key, o.num_kv_heads, o.head_dim}});
  for (const Tensor& t : {value_->weight, value_->bias}) told.heads(t, {{Role::value, o.num_kv_heads, o.value_dim}});
  told.all(*out_, Role::output);
  for (const auto* gate : {&decay_, &beta_}) {
    if (*gate) told.all(**gate, Role::gain, true);
  }
  return told.rows;
}

}  // namespace attune::nn
