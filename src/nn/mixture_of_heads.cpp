// MixtureOfHeads: the choice, and products by expert over the tokens that chose it.
#include "attune/nn/mixture_of_heads.hpp"

#include <algorithm>
#include <string>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/matmul.hpp"
#include "attune/autograd/ops/reduce.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "nn/compose.hpp"
#include "nn/told.hpp"

namespace attune::nn {
namespace {

/// Who chose whom. A choice is (token n, place s), numbered n k + s.
struct Choices {
  std::vector<std::int32_t> experts;  // [N k], of each choice
  std::vector<std::int32_t> order;    // [N k], choices by expert, then by number
  std::vector<std::int32_t> back;     // [N k], where in `order` a choice stands
  std::vector<std::int64_t> bounds;   // [E + 1], of the experts in `order`
};

/// The k largest of each row of probs [N, E], the largest first. NaN is never larger: rows of NaN take the first k.
Choices largest(const Tensor& probs, std::int64_t k) {
  const std::int64_t n = probs.shape()[0], e = probs.shape()[1];
  const std::vector<double> p = probs.to_vector();
  Choices c;
  c.experts.resize(std::size_t(n * k));
  std::vector<char> taken(static_cast<std::size_t>(e));
  for (std::int64_t row = 0; row < n; ++row) {
    const double* x = p.data() + row * e;
    taken.assign(taken.size(), 0);
    for (std::int64_t s = 0; s < k; ++s) {
      std::int64_t best = -1;
      for (std::int64_t i = 0; i < e; ++i) {
        if (taken[std::size_t(i)] == 0 && (best < 0 || x[i] > x[best])) best = i;
      }
      taken[std::size_t(best)] = 1;
      c.experts[std::size_t(row * k + s)] = std::int32_t(best);
    }
  }
  c.bounds.assign(std::size_t(e + 1), 0);
  for (std::int32_t i : c.experts) ++c.bounds[std::size_t(i) + 1];
  for (std::size_t i = 1; i < c.bounds.size(); ++i) c.bounds[i] += c.bounds[i - 1];
  std::vector<std::int64_t> next = c.bounds;
  c.order.resize(c.experts.size()), c.back.resize(c.experts.size());
  for (std::size_t i = 0; i < c.experts.size(); ++i) {
    const std::int64_t at = next[std::size_t(c.experts[i])]++;
    c.order[std::size_t(at)] = std::int32_t(i);
    c.back[i] = std::int32_t(at);
  }
  return c;
}

/// Rows in the experts' order, each times its expert's matrix: x [N k, in], weight [E out, in] -> [N k, out].
Tensor by_expert(const Tensor& x, const Tensor& weight, const Choices& c) {
  const std::int64_t experts = std::int64_t(c.bounds.size()) - 1, out = weight.shape()[0] / experts;
  std::vector<Tensor> parts;
  for (std::int64_t e = 0; e < experts; ++e) {
    const std::int64_t first = c.bounds[std::size_t(e)], end = c.bounds[std::size_t(e) + 1];
    if (first < end) parts.push_back(linear(slice(x, 0, first, end), slice(weight, 0, e * out, (e + 1) * out)));
  }
  return concat(parts, 0);
}

}  // namespace

MixtureOfHeads::MixtureOfHeads(const MixtureOfHeadsOptions& options) : options_(options) {
  MixtureOfHeadsOptions& o = options_;
  const char* name = "MixtureOfHeads";
  detail::check_positive(name,
                         {{"model_dim", o.model_dim}, {"num_experts", o.num_experts}, {"num_active", o.num_active}});
  if (o.num_active > o.num_experts) {
    fail(name, "num_active of at most num_experts",
         "got " + std::to_string(o.num_active) + " and " + std::to_string(o.num_experts));
  }
  detail::fill_head_dim(name, o.model_dim, o.num_active, o.head_dim);
  detail::check_positive(name, {{"head_dim", o.head_dim}});
  detail::check_no_parameters(name, {.position = o.position}, o.num_active, 1, o.head_dim);
  const std::int64_t c = o.model_dim, e = o.num_experts, d = o.head_dim;
  weight_router = add_parameter("weight_router", make_parameter({e, c}, o.init));
  weight_query = add_parameter("weight_query", make_parameter({e * d, c}, o.init, d));
  weight_key_value = add_parameter("weight_key_value", detail::stacked_parameter({d, d}, c, o.init));
  weight_out = add_parameter("weight_out", make_parameter({e * c, d}, o.init, c));
}

MixtureResult MixtureOfHeads::attend_to(const Tensor& x, const CallMask& call) const {
  const MixtureOfHeadsOptions& o = options_;
  detail::check_tokens("MixtureOfHeads", "x", x, o.model_dim);
  const std::int64_t b = x.shape()[0], t = x.shape()[1], c = o.model_dim, n = b * t, e = o.num_experts,
                     k = o.num_active, d = o.head_dim;
  detail::check_valid("MixtureOfHeads", call.valid_keys, b, t);
  if (n == 0) fail("MixtureOfHeads", "at least one token", "got " + x.shape().text());
  const Tensor rows = reshape(x, {n, c}), logits = linear(rows, weight_router), probs = softmax(logits);  // [N, E]
  const Choices choices = largest(probs, k);

  std::vector<std::int32_t> tokens, places;  // of the choices by expert; of each choice among the numbers of probs
  for (std::int32_t i : choices.order) tokens.push_back(i / std::int32_t(k));
  for (std::size_t i = 0; i < choices.experts.size(); ++i) {
    places.push_back(std::int32_t(std::int64_t(i) / k * e) + choices.experts[i]);
  }
  const Ids order(choices.order), back(choices.back);
  Tensor share = reshape(take_rows(reshape(probs, {n * e, 1}), Ids(places)), {n, k});
  if (o.share != HeadShare::plain) {
    const Tensor all = sum(share, 1, true);
    share = share / (o.share == HeadShare::detached ? all.detach() : all);
  }

  const Tensor query = take_rows(by_expert(take_rows(rows, Ids(tokens)), weight_query, choices), back);  // [N k, D]
  const Tensor shared = linear(x, weight_key_value);                                                     // [B, T, 2 D]
  const Tensor heads = detail::attend_seen(*this, "", {reshape(query, {b, t, k * d}), 0, k, d}, {shared, 0, 1, d},
                                           {shared, d, 1, d}, {.position = o.position, .mask = call.with(o.mask)})
                           .out;  // [B, T, k D]
  const Tensor shared_out = reshape(reshape(heads, {n, k, d}) * reshape(share, {n, k, 1}), {n * k, d});
  const Tensor back_out = take_rows(by_expert(take_rows(shared_out, order), weight_out, choices), back);  // [N k, C]

  MixtureResult result;
  result.out = reshape(sum(reshape(back_out, {n, k, c}), 1), {b, t, c});
  result.chosen.assign(std::size_t(e), 0);
  std::int64_t valid_tokens = 0;
  for (std::int64_t row = 0; row < n; ++row) {
    if (!call.valid_keys.empty() && row % t >= call.valid_keys[std::size_t(row / t)]) continue;
    ++valid_tokens;
    for (std::int64_t s = 0; s < k; ++s) ++result.chosen[std::size_t(choices.experts[std::size_t(row * k + s)])];
  }
  const double one = 1 / double(std::max<std::int64_t>(1, valid_tokens));
  std::vector<double> frequency;
  for (std::int64_t count : result.chosen) frequency.push_back(double(count) * one / double(k));
  const auto over_valid = [&](const Tensor& of_tokens) {  // [N, w] -> [w], the mean
    const Tensor kept = detail::without_padding(reshape(of_tokens, {b, t, of_tokens.shape()[1]}), call.valid_keys);
    return scale(sum(reshape(kept, of_tokens.shape()), 0), one);
  };
  result.balance_loss = scale(sum(over_valid(probs) * Tensor::from(frequency, {e}).to(x.dtype())), double(e));
  const Tensor finite =
      reshape(detail::without_padding(reshape(logits, {b, t, e}), call.valid_keys), {n, e});  // NaN of padding is gone
  const Tensor lse = slice(finite, 1, 0, 1) - slice(log_softmax(finite), 1, 0, 1);
  result.z_loss = sum(over_valid(lse * lse));
  return result;
}

std::vector<ParameterRows> MixtureOfHeads::own_roles() const {
  const MixtureOfHeadsOptions& o = options_;
  return detail::Told()
      .all(weight_router, Role::gain, true)
      .heads(weight_query, {{Role::query, o.num_experts, o.head_dim}})
      .heads(weight_key_value, {{Role::key, 1, o.head_dim}, {Role::value, 1, o.head_dim}})
      .all(weight_out, Role::output)
      .rows;
}

/// Heads are the places of a token; any expert may take any of them.
std::vector<AttentionSite> MixtureOfHeads::own_sites() const {
  AttentionSite site;
  site.queries.assign(std::size_t(options_.num_active), {.weight = detail::rows_of(weight_query)});
  site.keys = detail::heads_of(weight_key_value, {}, 0, 1, options_.head_dim);
  return {site};
}

}  // namespace attune::nn
