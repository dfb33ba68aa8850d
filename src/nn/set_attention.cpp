// The blocks of the set transformer, from MultiHeadAttention, FeedForward and LayerNorm.
#include "attune/nn/set_attention.hpp"

#include "attune/autograd/ops/elementwise.hpp"
#include "nn/compose.hpp"
#include "nn/told.hpp"

namespace attune::nn {
namespace {

MultiHeadAttentionOptions attention_of(const SetAttentionOptions& o) {
  return {.model_dim = o.model_dim, .num_heads = o.num_heads, .dropout = o.dropout, .init = o.init};
}
FeedForwardOptions feed_forward_of(const SetAttentionOptions& o) {
  return {.model_dim = o.model_dim,
          .hidden_dim = o.hidden_dim == 0 ? o.model_dim : o.hidden_dim,
          .activation = o.activation,
          .init = o.init};
}
Tensor learned_points(std::string_view function, std::string_view what, std::int64_t count,
                      const SetAttentionOptions& o) {
  detail::check_positive(function, {{what, count}});
  return make_parameter({count, o.model_dim}, o.init);
}

}  // namespace

SetBlock::SetBlock(const SetAttentionOptions& o) : attention(attention_of(o)), feed_forward(feed_forward_of(o)) {
  add_module("attention", attention);
  add_module("feed_forward", feed_forward);
  if (!o.norm) return;
  add_module("attention_norm", attention_norm_.emplace(NormOptions{.dim = o.model_dim}));
  add_module("feed_forward_norm", feed_forward_norm_.emplace(NormOptions{.dim = o.model_dim}));
}

Tensor SetBlock::operator()(const Tensor& x, const Tensor& y, const std::vector<int>& valid) const {
  Tensor h = x + attention.attend_to(x, y, {.valid_keys = valid}).out;
  if (attention_norm_) h = (*attention_norm_)(h);
  h = h + feed_forward(h);
  return feed_forward_norm_ ? (*feed_forward_norm_)(h) : h;
}

SetAttention::SetAttention(const SetAttentionOptions& o) : block(o) { add_module("block", block); }

InducedSetAttention::InducedSetAttention(const SetAttentionOptions& o, std::int64_t num_points)
    : points(add_parameter("points", learned_points("InducedSetAttention", "num_points", num_points, o))),
      to_points(o),
      from_points(o) {
  add_module("to_points", to_points);
  add_module("from_points", from_points);
}

Tensor InducedSetAttention::operator()(const Tensor& x, const std::vector<int>& valid) const {
  detail::check_tokens("InducedSetAttention", "x", x, points.shape()[1]);
  return from_points(x, to_points(detail::for_each_entry(points, x.shape()[0]), x, valid));
}

SetPooling::SetPooling(const SetAttentionOptions& o, std::int64_t num_seeds)
    : seeds(add_parameter("seeds", learned_points("SetPooling", "num_seeds", num_seeds, o))),
      feed_forward(feed_forward_of(o)),
      block(o) {
  add_module("feed_forward", feed_forward);
  add_module("block", block);
}

Tensor SetPooling::operator()(const Tensor& x, const std::vector<int>& valid) const {
  detail::check_tokens("SetPooling", "x", x, seeds.shape()[1]);
  return block(detail::for_each_entry(seeds, x.shape()[0]), feed_forward(x), valid);
}

std::vector<ParameterRows> InducedSetAttention::own_roles() const {
  return detail::Told().all(points, Role::gain).rows;
}
std::vector<ParameterRows> SetPooling::own_roles() const { return detail::Told().all(seeds, Role::gain).rows; }

}  // namespace attune::nn
