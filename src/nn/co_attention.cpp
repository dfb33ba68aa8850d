// Cross-modal layers, pairs of them, and the affinity that pools two streams at once.
#include "attune/nn/co_attention.hpp"

#include <string>
#include <utility>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/matmul.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "nn/compose.hpp"
#include "nn/told.hpp"

namespace attune::nn {
namespace {

MultiHeadAttentionOptions reading(const CrossModalOptions& o) {
  return {.model_dim = o.model_dim,
          .num_heads = o.num_heads,
          .head_dim = o.head_dim,
          .memory_dim = o.memory_dim,
          .dropout = o.attention_dropout,
          .init = o.init};
}

}  // namespace

CrossModalAttention::CrossModalAttention(const CrossModalOptions& o)
    : attention(reading(o)),
      feed_forward({.model_dim = o.model_dim,
                    .hidden_dim = o.hidden_dim == 0 ? 4 * o.model_dim : o.hidden_dim,
                    .activation = o.activation,
                    .dropout = o.dropout,
                    .init = o.init}),
      place_(o.norm),
      dropout_(o.dropout) {
  if (o.norm == NormPlace::none) fail("CrossModalAttention", "norm pre or post", "got none");
  add_module("attention", attention);
  add_module("feed_forward", feed_forward);
  add_module("attention_norm", attention_norm_.emplace(NormOptions{.dim = o.model_dim}));
  add_module("feed_forward_norm", feed_forward_norm_.emplace(NormOptions{.dim = o.model_dim}));
  if (o.norm == NormPlace::pre) {
    add_module("memory_norm", memory_norm_.emplace(NormOptions{.dim = attention.options().memory_dim}));
  }
  add_module("dropout", dropout_);
}

Tensor CrossModalAttention::operator()(const Tensor& x, const Tensor& memory, const std::vector<int>& valid) const {
  detail::check_tokens("CrossModalAttention", "x", x, attention.options().model_dim);
  detail::check_tokens("CrossModalAttention", "memory", memory, attention.options().memory_dim);
  const AttentionCall call{.valid_keys = valid};
  if (place_ == NormPlace::pre) {
    const Tensor h =
        dropout_.residual(x, attention.attend_to((*attention_norm_)(x), (*memory_norm_)(memory), call).out);
    return dropout_.residual(h, feed_forward((*feed_forward_norm_)(h)));
  }
  const Tensor h = (*attention_norm_)(dropout_.residual(x, attention.attend_to(x, memory, call).out));
  return (*feed_forward_norm_)(dropout_.residual(h, feed_forward(h)));
}

CoAttention::CoAttention(const CrossModalOptions& options) {
  CrossModalOptions o = options;
  if (o.memory_dim == 0) o.memory_dim = o.model_dim;
  detail::check_positive("CoAttention", {{"model_dim", o.model_dim}, {"num_heads", o.num_heads}});
  detail::fill_head_dim("CoAttention", o.model_dim, o.num_heads, o.head_dim);
  add_module("first", first_.emplace(o));
  std::swap(o.model_dim, o.memory_dim);
  add_module("second", second_.emplace(o));
}

Streams CoAttention::operator()(const Tensor& first, const Tensor& second, const std::vector<int>& valid_first,
                                const std::vector<int>& valid_second) const {
  return {(*first_)(first, second, valid_second), (*second_)(second, first, valid_first)};
}

ParallelCoAttention::ParallelCoAttention(const ParallelCoAttentionOptions& o) {
  detail::check_positive("ParallelCoAttention",
                         {{"first_dim", o.first_dim}, {"second_dim", o.second_dim}, {"hidden_dim", o.hidden_dim}});
  affinity = add_parameter("affinity", make_parameter({o.first_dim, o.second_dim}, o.init));
  first_weight = add_parameter("first_weight", make_parameter({o.hidden_dim, o.first_dim}, o.init));
  second_weight = add_parameter("second_weight", make_parameter({o.hidden_dim, o.second_dim}, o.init));
  first_query = add_parameter("first_query", make_parameter({1, o.hidden_dim}, o.init));
  second_query = add_parameter("second_query", make_parameter({1, o.hidden_dim}, o.init));
}

CoPooled ParallelCoAttention::operator()(const Tensor& first, const Tensor& second, const std::vector<int>& valid_first,
                                         const std::vector<int>& valid_second) const {
  const std::int64_t d1 = affinity.shape()[0], d2 = affinity.shape()[1], k = first_weight.shape()[0];
  detail::check_tokens("ParallelCoAttention", "first", first, d1);
  detail::check_tokens("ParallelCoAttention", "second", second, d2);
  // Rows of 0 have affinities of 0: what is no member adds nothing to the other stream.
  const Tensor x = detail::without_padding(first, valid_first), y = detail::without_padding(second, valid_second);
  const bool narrow = d1 < d2;  // Wb goes to the side that makes the product of pairs narrow
  const Tensor c = tanh(narrow ? matmul(x, matmul(y, affinity, {.transpose_b = true}), {.transpose_b = true})
                               : matmul(matmul(x, affinity), y, {.transpose_b = true}));  // [B, T, M]
  const Tensor px = linear(x, first_weight), py = linear(y, second_weight);               // [B, T, K], [B, M, K]
  const Tensor hx = tanh(px + matmul(c, py)), hy = tanh(py + matmul(c, px, {.transpose_a = true}));
  const auto pooled = [&](const char* site, const Tensor& query, const Tensor& key, const Tensor& value,
                          const std::vector<int>& valid) {
    AttendOptions options{.score = ScaledDot{.scale = 1}};
    if (!valid.empty()) options.mask = Padding{valid};
    const Tensor asked = detail::for_each_entry(query, key.shape()[0]);  // [B, 1, K]
    return detail::attend_seen(*this, site, {asked, 0, 1, k}, {key, 0, 1, k}, {value, 0, 1, value.shape()[2]}, options,
                               {.weights = true});
  };
  const Attended a = pooled("first", first_query, hx, x, valid_first),
                 b = pooled("second", second_query, hy, y, valid_second);
  const auto flat = [](const Tensor& t) { return reshape(t, {t.shape()[0], t.shape().back()}); };
  return {flat(a.out), flat(b.out), flat(a.weights), flat(b.weights)};
}

std::vector<ParameterRows> ParallelCoAttention::own_roles() const {
  detail::Told told;
  for (const Tensor& t : {affinity, first_weight, second_weight}) told.all(t, Role::key);
  for (const Tensor& t : {first_query, second_query}) told.all(t, Role::gain);
  return told.rows;
}

/// Keys are tanh of what both streams say: they cannot grow, and are no product with a parameter.
std::vector<AttentionSite> ParallelCoAttention::own_sites() const {
  const auto stream = [](const char* name, const Tensor& query) {
    return AttentionSite{name, {{.weight = detail::rows_of(query)}}, {{}}};
  };
  return {stream("first", first_query), stream("second", second_query)};
}

}  // namespace attune::nn
