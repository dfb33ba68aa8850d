// MultiScaleAttention: means of keys and values, a mask that knows when a mean is past, and one attention a scale.
#include "attune/nn/multi_scale_attention.hpp"

#include <algorithm>
#include <string>

#include "attune/attention/mask/all.hpp"
#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/matmul.hpp"
#include "attune/autograd/ops/reduce.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "nn/compose.hpp"
#include "nn/told.hpp"

namespace attune::nn {
namespace {

/// Query at position p sees stretch j of `scale` tokens iff (j + 1) scale - 1 <= p.
struct PastStretches {
  int scale = 1;
  /// Stretches that a query at position p sees.
  int seen(int p) const { return p < 0 ? 0 : (p + 1) / scale; }
  Range keys(const Area& a) const { return {0, seen(a.query + a.offset + a.queries - 1)}; }
  Cover cover(const Area& a) const {
    const int p = a.query + a.offset;
    if (a.key >= seen(p + a.queries - 1)) return Cover::none;
    return a.key + a.keys <= seen(p) ? Cover::full : Cover::partial;
  }
  void visible(const Area& a, std::uint64_t* rows) const {
    const int p = a.query + a.offset;
    for (int j = 0; j < a.keys; ++j) {
      rows[j] = attune::detail::lane_bits((a.key + j + 1) * scale - 1 - p, attune::kLanes);
    }
  }
};

/// [B, ceil(T / scale), C]: means over the valid tokens of each stretch, 0 where there is none; x [B, T, C] has zeros
/// where tokens are not valid.
Tensor stretch_means_of(const Tensor& x, std::int64_t scale, const std::vector<int>& valid) {
  const std::int64_t b = x.shape()[0], t = x.shape()[1], c = x.shape()[2], n = (t + scale - 1) / scale;
  std::vector<double> shares(std::size_t(b * n), 0);
  for (std::int64_t e = 0; e < b; ++e) {
    const std::int64_t length = valid.empty() ? t : valid[std::size_t(e)];
    for (std::int64_t j = 0; j < n; ++j) {
      const std::int64_t count = std::min(scale, length - j * scale);
      if (count > 0) shares[std::size_t(e * n + j)] = 1 / double(count);
    }
  }
  const Tensor whole = n * scale == t ? x : concat({x, Tensor::zeros({b, n * scale - t, c}, x.dtype())}, 1);
  return sum(reshape(whole, {b, n, scale, c}), 2) * Tensor::from(shares, {b, n, 1}).to(x.dtype());
}

/// The site of the heads of one scale.
std::string group_name(std::size_t i) { return "group" + std::to_string(i); }

}  // namespace

MultiScaleAttention::MultiScaleAttention(const MultiScaleOptions& options) : options_(options) {
  MultiScaleOptions& o = options_;
  const char* name = "MultiScaleAttention";
  detail::check_positive(name, {{"model_dim", o.model_dim},
                                {"heads_per_scale", o.heads_per_scale},
                                {"the number of scales", std::int64_t(o.scales.size())}});
  for (std::int64_t s : o.scales) detail::check_positive(name, {{"scales", s}});
  const std::int64_t heads = o.heads_per_scale * std::int64_t(o.scales.size());
  detail::fill_head_dim(name, o.model_dim, heads, o.head_dim);
  detail::check_positive(name, {{"head_dim", o.head_dim}});
  const std::int64_t width = heads * o.head_dim;
  weight_in = add_parameter("weight_in", detail::stacked_parameter({width, width, width}, o.model_dim, o.init));
  if (o.bias_terms) bias_in = add_parameter("bias_in", Tensor::zeros({3 * width}));
  weight_out = add_parameter("weight_out", make_parameter({o.model_dim, width}, o.init));
  if (o.bias_terms) bias_out = add_parameter("bias_out", Tensor::zeros({o.model_dim}));
}

Tensor MultiScaleAttention::operator()(const Tensor& x, const std::vector<int>& valid) const {
  const MultiScaleOptions& o = options_;
  detail::check_tokens("MultiScaleAttention", "x", x, o.model_dim);
  detail::check_valid("MultiScaleAttention", valid, x.shape()[0], x.shape()[1]);
  const std::int64_t n = o.heads_per_scale, d = o.head_dim, part = n * d;
  const std::int64_t width = part * std::int64_t(o.scales.size());
  const Tensor projected = linear(x, weight_in, bias_in);  // [B, T, 3 H D]
  std::vector<Tensor> heads;
  for (std::size_t i = 0; i < o.scales.size(); ++i) {
    const std::int64_t scale = o.scales[i], column = std::int64_t(i) * part;
    AttendOptions options;
    if (o.causal) options.mask = PastStretches{int(scale)};
    if (!valid.empty()) {
      std::vector<int> stretches = valid;
      for (int& length : stretches) length = int((length + scale - 1) / scale);
      options.mask = options.mask & AnyMask(Padding{stretches});
    }
    PackedHeads key{projected, width + column, n, d}, value{projected, 2 * width + column, n, d};
    if (scale > 1) {
      const auto means = [&](const PackedHeads& h) {
        const Tensor own = detail::without_padding(slice(h.tensor, 2, h.column, h.column + part), valid);
        return PackedHeads{stretch_means_of(own, scale, valid), 0, n, d};
      };
      key = means(key), value = means(value);
    }
    heads.push_back(detail::attend_seen(*this, group_name(i), {projected, column, n, d}, key, value, options).out);
  }
  return linear(heads.size() == 1 ? heads[0] : concat(heads, 2), weight_out, bias_out);
}

std::vector<ParameterRows> MultiScaleAttention::own_roles() const {
  const MultiScaleOptions& o = options_;
  const std::int64_t num_heads = o.heads_per_scale * std::int64_t(o.scales.size());
  const detail::HeadRows queries{Role::query, num_heads, o.head_dim}, keys{Role::key, num_heads, o.head_dim},
      values{Role::value, num_heads, o.head_dim};
  detail::Told told;
  for (const Tensor& t : {weight_in, bias_in}) told.heads(t, {queries, keys, values});
  for (const Tensor& t : {weight_out, bias_out}) told.all(t, Role::output);
  return told.rows;
}

std::vector<AttentionSite> MultiScaleAttention::own_sites() const {
  const MultiScaleOptions& o = options_;
  const std::int64_t n = o.heads_per_scale, d = o.head_dim, width = n * d * std::int64_t(o.scales.size());
  std::vector<AttentionSite> groups;
  for (std::size_t i = 0; i < o.scales.size(); ++i) {
    const std::int64_t first = std::int64_t(i) * n * d;
    groups.push_back({group_name(i), detail::heads_of(weight_in, bias_in, first, n, d),
                      detail::heads_of(weight_in, bias_in, width + first, n, d)});
  }
  return groups;
}

}  // namespace attune::nn
