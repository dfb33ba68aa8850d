// AgentAttention: the agents, and the two attentions through them.
#include "attune/nn/agent_attention.hpp"

#include <string>

#include "attune/attention/mask/padding.hpp"
#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/matmul.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "nn/compose.hpp"
#include "nn/told.hpp"

namespace attune::nn {
namespace {

/// [B, n, T]: row a of entry b is 1 / length over stretch a of its valid tokens; zeros if it has none.
Tensor stretch_means(std::int64_t batch, std::int64_t n, std::int64_t tokens, const std::vector<int>& valid,
                     DType dtype) {
  std::vector<double> weights(std::size_t(batch * n * tokens), 0);
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t length = valid.empty() ? tokens : valid[std::size_t(b)];
    for (std::int64_t a = 0; a < n; ++a) {
      const std::int64_t begin = a * length / n, end = ((a + 1) * length + n - 1) / n;
      for (std::int64_t i = begin; i < end; ++i) {
        weights[std::size_t((b * n + a) * tokens + i)] = 1 / double(end - begin);
      }
    }
  }
  return Tensor::from(weights, {batch, n, tokens}).to(dtype);
}

/// y[t] = sum_j kernel[j] x[t + j - width / 2]; x [B, T, C], kernel [width, C], 0 beyond the ends.
Tensor column_convolution(const Tensor& x, const Tensor& kernel) {
  const std::int64_t b = x.shape()[0], t = x.shape()[1], c = x.shape()[2], width = kernel.shape()[0];
  const Tensor edge = Tensor::zeros({b, width / 2, c}, x.dtype());
  const Tensor wide = width > 1 ? concat({edge, x, edge}, 1) : x;
  Tensor y;
  for (std::int64_t j = 0; j < width; ++j) {
    const Tensor term = slice(wide, 1, j, j + t) * slice(kernel, 0, j, j + 1);
    y = y.defined() ? y + term : term;
  }
  return y;
}

}  // namespace

AgentAttention::AgentAttention(const AgentAttentionOptions& options) : options_(options) {
  AgentAttentionOptions& o = options_;
  const char* name = "AgentAttention";
  detail::check_positive(name, {{"model_dim", o.model_dim}, {"num_heads", o.num_heads}, {"num_agents", o.num_agents}});
  detail::fill_head_dim(name, o.model_dim, o.num_heads, o.head_dim);
  detail::check_positive(name, {{"head_dim", o.head_dim}});
  if (o.conv_width < 0 || (o.conv_width > 0 && o.conv_width % 2 == 0)) {
    fail(name, "a conv_width that is 0 or odd", "got " + std::to_string(o.conv_width));
  }
  const std::int64_t width = o.num_heads * o.head_dim;
  weight_in = add_parameter("weight_in", detail::stacked_parameter({width, width, width}, o.model_dim, o.init));
  if (o.bias_terms) bias_in = add_parameter("bias_in", Tensor::zeros({3 * width}));
  if (o.source == AgentSource::learned) {
    agents = add_parameter("agents", make_parameter({o.num_agents, width}, {Init::normal, 1}));
  }
  if (o.conv_width > 0) conv = add_parameter("conv", Tensor::zeros({o.conv_width, width}));
  weight_out = add_parameter("weight_out", make_parameter({o.model_dim, width}, o.init));
  if (o.bias_terms) bias_out = add_parameter("bias_out", Tensor::zeros({o.model_dim}));
}

Tensor AgentAttention::operator()(const Tensor& x, const std::vector<int>& valid) const {
  const AgentAttentionOptions& o = options_;
  detail::check_tokens("AgentAttention", "x", x, o.model_dim);
  const std::int64_t b = x.shape()[0], t = x.shape()[1], h = o.num_heads, d = o.head_dim, width = h * d;
  detail::check_valid("AgentAttention", valid, b, t);
  const Tensor projected = linear(x, weight_in, bias_in);  // [B, T, 3 H D]
  Tensor asking;                                           // [B, n, H D]
  if (o.source == AgentSource::learned) {
    asking = detail::for_each_entry(agents, b);
  } else {
    const Tensor query = detail::without_padding(slice(projected, 2, 0, width), valid);
    asking = matmul(stretch_means(b, o.num_agents, t, valid, x.dtype()), query);
  }
  AttendOptions gather;
  if (!valid.empty()) gather.mask = Padding{valid};
  const Tensor gathered =
      detail::attend_seen(*this, "gather", {asking, 0, h, d}, {projected, width, h, d}, {projected, 2 * width, h, d},
                          gather)
          .out;  // [B, n, H D]
  Tensor heads = detail::attend_seen(*this, "read", {projected, 0, h, d}, {asking, 0, h, d}, {gathered, 0, h, d}).out;
  if (conv.defined()) {
    const Tensor value = detail::without_padding(slice(projected, 2, 2 * width, 3 * width), valid);
    heads = heads + column_convolution(value, conv);
  }
  return linear(heads, weight_out, bias_out);
}

std::vector<ParameterRows> AgentAttention::own_roles() const {
  const AgentAttentionOptions& o = options_;
  const detail::HeadRows queries{Role::query, o.num_heads, o.head_dim}, keys{Role::key, o.num_heads, o.head_dim},
      values{Role::value, o.num_heads, o.head_dim};
  detail::Told told;
  for (const Tensor& t : {weight_in, bias_in}) told.heads(t, {queries, keys, values});
  for (const Tensor& t : {weight_out, bias_out}) told.all(t, Role::output);
  for (const Tensor& t : {agents, conv}) told.all(t, Role::gain);
  return told.rows;
}

/// Agents are learned rows, of which each head has some columns, or means of queries.
std::vector<AttentionSite> AgentAttention::own_sites() const {
  const AgentAttentionOptions& o = options_;
  const std::int64_t h = o.num_heads, d = o.head_dim;
  const std::vector<HeadProjection> queries = detail::heads_of(weight_in, bias_in, 0, h, d);
  const std::vector<HeadProjection> asking =
      agents.defined() ? std::vector<HeadProjection>(std::size_t(h), {.weight = detail::rows_of(agents)}) : queries;
  return {{"gather", asking, detail::heads_of(weight_in, bias_in, h * d, h, d)}, {"read", queries, asking}};
}

}  // namespace attune::nn
