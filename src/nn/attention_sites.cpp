// A walk over the module tree; where the rows of a head lie is what multi_head_attention.hpp says of its parameters.
#include "attune/nn/attention_sites.hpp"

namespace attune::nn {
namespace {

TensorRows rows_of(const Tensor& tensor, std::int64_t first, std::int64_t count) {
  return tensor.defined() ? TensorRows{tensor, first, first + count} : TensorRows{};
}

AttentionSite site_of(const std::string& name, const MultiHeadAttention& attention) {
  const MultiHeadAttentionOptions& o = attention.options();
  AttentionSite site{.name = name, .proportional = o.score.as<ScaledDot>() != nullptr};
  const bool stacked = !attention.weight_memory.defined();
  const Tensor& key_weight = stacked ? attention.weight_in : attention.weight_memory;
  const std::int64_t d = o.head_dim, query_rows = o.num_heads * d, first_key = stacked ? query_rows : 0;
  // One row a head of query-key norm, else one for all heads of sigma reparametrisation, which that would hide.
  const bool normalised = attention.query_gain.defined();
  const auto gain = [&](const Tensor& of_heads, std::int64_t head, std::int64_t matrix) {
    return normalised ? rows_of(of_heads, head, 1) : rows_of(attention.sigma_gain, matrix, 1);
  };
  for (std::int64_t h = 0; h < o.num_heads; ++h) {
    site.queries.push_back({rows_of(attention.weight_in, h * d, d), rows_of(attention.bias_in, h * d, d),
                            gain(attention.query_gain, h, 0), normalised});
  }
  for (std::int64_t g = 0; g < o.num_kv_heads; ++g) {
    site.keys.push_back({rows_of(key_weight, first_key + g * d, d), rows_of(attention.bias_in, query_rows + g * d, d),
                         gain(attention.key_gain, g, 1), normalised});
  }
  return site;
}

}  // namespace

std::vector<AttentionSite> attention_sites(Module& model) {
  std::vector<AttentionSite> sites;
  model.visit([&](const std::string& name, Module& module) {
    if (const auto* attention = dynamic_cast<const MultiHeadAttention*>(&module)) {
      sites.push_back(site_of(name, *attention));
    }
  });
  return sites;
}

}  // namespace attune::nn
