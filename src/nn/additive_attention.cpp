// AdditiveAttention: the engine with the additive score and one head; projections and tanh run inside of its tiles.
#include "attune/nn/additive_attention.hpp"

#include <string>

#include "attune/attention/score/additive.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "attune/nn/init.hpp"
#include "nn/told.hpp"

namespace attune::nn {

AdditiveAttention::AdditiveAttention(const AdditiveAttentionOptions& options) : options_(options) {
  if (options.query_dim < 1 || options.key_dim < 1 || options.hidden_dim < 1) {
    fail("AdditiveAttention", "query_dim, key_dim and hidden_dim of at least 1",
         "got " + std::to_string(options.query_dim) + ", " + std::to_string(options.key_dim) + ", " +
             std::to_string(options.hidden_dim));
  }
  const Initializer xavier{Init::xavier_uniform, 1};
  query_weight = add_parameter("query_weight", make_parameter({1, options.hidden_dim, options.query_dim}, xavier));
  key_weight = add_parameter("key_weight", make_parameter({1, options.hidden_dim, options.key_dim}, xavier));
  v = add_parameter("v", make_parameter({1, options.hidden_dim}, xavier));
}

Pooled AdditiveAttention::operator()(const Tensor& query, const Tensor& key, const Tensor& value,
                                     const std::vector<int>& valid_keys) const {
  if (!query.defined() || !key.defined()) fail("AdditiveAttention", "a query and keys", "one is undefined");
  const bool single = query.rank() == 2;
  if ((query.rank() != 3 && !single) || query.shape().back() != options_.query_dim) {
    fail("AdditiveAttention", "query [B, Tq, " + std::to_string(options_.query_dim) + "] or without Tq",
         "got " + query.shape().text());
  }
  if (key.rank() != 3 || key.shape()[2] != options_.key_dim) {
    fail("AdditiveAttention", "key [B, Tk, " + std::to_string(options_.key_dim) + "]", "got " + key.shape().text());
  }
  const Tensor q = single ? reshape(query, {query.shape()[0], 1, query.shape()[1]}) : query;
  const Tensor& values = value.defined() ? value : key;
  if (values.rank() != 3) fail("AdditiveAttention", "value [B, Tk, Dv]", "got " + values.shape().text());
  AttendOptions options;
  options.score = Additive{.hidden_dim = int(options_.hidden_dim)};
  if (!valid_keys.empty()) options.mask = Padding{valid_keys};
  AttendExtras extras;
  extras.parameters = {query_weight, key_weight, v};
  extras.weights = true;
  const Attended a = detail::attend_seen(*this, "", {q, 0, 1, options_.query_dim}, {key, 0, 1, options_.key_dim},
                                         {values, 0, 1, values.shape()[2]}, options, extras);
  const std::int64_t b = q.shape()[0], tq = q.shape()[1], tk = key.shape()[1];
  if (single) return {reshape(a.out, {b, values.shape()[2]}), reshape(a.weights, {b, tk})};
  return {a.out, reshape(a.weights, {b, tq, tk})};
}

std::vector<ParameterRows> AdditiveAttention::own_roles() const {
  return detail::Told().all(query_weight, Role::query).all(key_weight, Role::key).all(v, Role::gain).rows;
}
std::vector<AttentionSite> AdditiveAttention::own_sites() const {
  return {{"", {{.weight = detail::rows_of(query_weight)}}, {{.weight = detail::rows_of(key_weight)}}, false}};
}

}  // namespace attune::nn
