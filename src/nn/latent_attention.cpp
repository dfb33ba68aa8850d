// LatentAttention: the short rows, and the two forms of attending to them.
#include "attune/nn/latent_attention.hpp"

#include <cmath>
#include <string>
#include <type_traits>
#include <utility>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"
#include "nn/compose.hpp"
#include "nn/told.hpp"

namespace attune::nn {

LatentAttention::LatentAttention(const LatentAttentionOptions& options) : options_(options) {
  LatentAttentionOptions& o = options_;
  const char* name = "LatentAttention";
  detail::check_positive(name, {{"model_dim", o.model_dim}, {"num_heads", o.num_heads}, {"latent_dim", o.latent_dim}});
  detail::fill_head_dim(name, o.model_dim, o.num_heads, o.head_dim);
  if (o.value_dim == 0) o.value_dim = o.head_dim;
  detail::check_positive(name, {{"head_dim", o.head_dim}, {"value_dim", o.value_dim}});
  if (o.rotary_dim < 0 || o.rotary_dim % 2 != 0 || o.query_latent_dim < 0) {
    fail(name, "an even rotary_dim and a query_latent_dim of 0 or more",
         "got " + std::to_string(o.rotary_dim) + " and " + std::to_string(o.query_latent_dim));
  }
  o.rotary.rotary_dim = int(o.rotary_dim);

  const auto add = [&](const char* member, std::optional<Linear>& to, std::int64_t in, std::int64_t out, bool bias) {
    to.emplace(LinearOptions{.in = in, .out = out, .bias = bias, .init = o.init});
    add_module(member, *to);
  };
  const auto add_norm = [&](const char* member, std::optional<RMSNorm>& to, std::int64_t dim) {
    to.emplace(NormOptions{.dim = dim, .epsilon = o.epsilon});
    add_module(member, *to);
  };
  const std::int64_t width = o.num_heads * (o.rotary_dim + o.head_dim);
  if (o.query_latent_dim == 0) {
    add("query", query_, o.model_dim, width, o.bias_terms);
  } else {
    add("query_down", query_down_, o.model_dim, o.query_latent_dim, o.bias_terms);
    add_norm("query_norm", query_norm_, o.query_latent_dim);
    add("query_up", query_up_, o.query_latent_dim, width, false);
  }
  add("latent", latent_, o.model_dim, o.latent_dim + o.rotary_dim, o.bias_terms);
  add_norm("latent_norm", latent_norm_, o.latent_dim);
  add("expand", expand_, o.latent_dim, o.num_heads * (o.head_dim + o.value_dim), false);
  add("out", out_, o.num_heads * o.value_dim, o.model_dim, o.bias_terms);
}

namespace {

/// Every head's rows of x [B, T, n, W] through f(rows, rows of the same head in `to`, area), positions from first on.
template <class T, class F>
void each_head(const Tensor& x, Tensor& to, std::int64_t first, F f) {
  const std::int64_t tokens = x.shape()[1], heads = x.shape()[2], width = x.shape()[3];
  AttendShape shape;
  shape.num_queries = shape.num_keys = int(first + tokens);
  Area area;
  area.shape = &shape;
  area.queries = int(tokens);
  area.offset = int(first);
  parallel_for(x.shape()[0] * heads, [&](std::int64_t task) {
    const std::int64_t at = (task / heads * tokens * heads + task % heads) * width;
    const auto rows = [&](auto* data) {
      return Matrix<std::remove_pointer_t<decltype(data)>>{data + at, int(tokens), int(width), heads * width};
    };
    f(rows(x.data<T>()), rows(to.data<T>()), area);
  });
}

/// x [B, T, n, W] with the first rotary_dim numbers of each row turned by its position, from `first` on. Done here and
/// not by the engine, so that a cache holds turned rows and attention runs without stages.
template <class T>
Tensor turned_rows(const Tensor& x, const Rotary& rotary, std::int64_t first) {
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  attune::Call<T> call;
  each_head<T>(x, y, first, [&](Matrix<const T> from, Matrix<T> to, const Area& area) {
    rotary.map(Side::query, from, to, area, call);
  });
  // The transpose of a rotation turns back.
  record("turned_rows", y, {x}, [rotary, first](Backward& b) {
    Tensor dx = b.zeroed_slot(0);
    attune::Call<T> none;
    each_head<T>(b.dout(), dx, first, [&](Matrix<const T> dout, Matrix<T> to, const Area& area) {
      rotary.map_backward(Side::query, dout, dout, to, area, none);
    });
  });
  return y;
}
Tensor turn_rows(const Tensor& x, const Rotary& rotary, std::int64_t first) {
  if (rotary.rotary_dim == 0 || x.size() == 0) return x;
  return x.dtype() == DType::float64 ? turned_rows<double>(x, rotary, first) : turned_rows<float>(x, rotary, first);
}

}  // namespace

/// [B, T, H, Dr + D], turned.
Tensor LatentAttention::queries(const Tensor& x, std::int64_t first) const {
  const Tensor flat = query_ ? (*query_)(x) : (*query_up_)((*query_norm_)((*query_down_)(x)));
  const Shape heads{x.shape()[0], x.shape()[1], options_.num_heads, options_.rotary_dim + options_.head_dim};
  return turn_rows(reshape(flat, heads), options_.rotary, first);
}

/// [B, T, Dr + R]: what is kept of a token.
Tensor LatentAttention::rows(const Tensor& x, std::int64_t first) const {
  const std::int64_t r = options_.latent_dim, dr = options_.rotary_dim, b = x.shape()[0], t = x.shape()[1];
  const Tensor both = (*latent_)(x);
  if (dr == 0) return (*latent_norm_)(both);
  const Tensor turned = turn_rows(reshape(slice(both, 2, r, r + dr), {b, t, 1, dr}), options_.rotary, first);
  return concat({reshape(turned, {b, t, dr}), (*latent_norm_)(slice(both, 2, 0, r))}, 2);
}

AttendOptions LatentAttention::attend_options(AnyMask mask) const {
  const LatentAttentionOptions& o = options_;
  AttendOptions a;
  a.score = ScaledDot{.scale = 1 / std::sqrt(double(o.rotary_dim + o.head_dim))};
  a.mask = std::move(mask);
  return a;
}

/// query [B, T, H, Dr + D] attends to the first `tokens` of rows [B, *, Dr + R]: [B, T, C].
Tensor LatentAttention::absorbed(const Tensor& query, const Tensor& rows, std::int64_t tokens,
                                 const AttendOptions& options) const {
  const LatentAttentionOptions& o = options_;
  const std::int64_t b = query.shape()[0], t = query.shape()[1], h = o.num_heads, d = o.head_dim, dr = o.rotary_dim,
                     r = o.latent_dim;
  const Tensor up = reshape(expand_->weight, {h, d + o.value_dim, r});
  const auto heads_first = [&](const Tensor& x, std::int64_t width) {  // [B T, H, width] <-> [H, B T, width]
    return transpose(reshape(x, {b * t, h, width}), 0, 1);
  };
  // (Uk_h^T query_h) . c
  const Tensor plain = slice(query, 3, dr, dr + d);
  Tensor q = transpose(matmul(heads_first(plain, d), slice(up, 1, 0, d)), 0, 1);  // [B T, H, R]
  if (dr > 0) q = concat({reshape(slice(query, 3, 0, dr), {b * t, h, dr}), q}, 2);
  const Attended fetched =
      detail::attend_seen(*this, "", {reshape(q, {b, t, h * (dr + r)}), 0, h, dr + r}, {rows, 0, 1, dr + r, tokens},
                          {rows, dr, 1, r, tokens}, options);  // [B, T, H R]
  // Uv_h (sum of weights c)
  const Tensor heads =
      matmul(heads_first(fetched.out, r), slice(up, 1, d, d + o.value_dim), {.transpose_b = true});  // [H, B T, Dv]
  return (*out_)(reshape(transpose(heads, 0, 1), {b, t, h * o.value_dim}));
}

Tensor LatentAttention::operator()(const Tensor& x, const CallMask& call, LatentForm form) const {
  const LatentAttentionOptions& o = options_;
  detail::check_tokens("LatentAttention", "x", x, o.model_dim);
  const std::int64_t b = x.shape()[0], t = x.shape()[1], h = o.num_heads, dr = o.rotary_dim;
  const AttendOptions options = attend_options(call.with(o.mask));
  const Tensor query = queries(x, 0), kept = rows(x, 0);
  if (form == LatentForm::absorbed) return absorbed(query, kept, -1, options);
  const Tensor both = reshape((*expand_)(slice(kept, 2, dr, dr + o.latent_dim)), {b, t, h, o.head_dim + o.value_dim});
  Tensor key = slice(both, 3, 0, o.head_dim);
  if (dr > 0) {  // every head's key begins with the same turned numbers
    const Tensor turned = reshape(slice(kept, 2, 0, dr), {b, t, 1, dr}) + Tensor::zeros({1, 1, h, dr}, x.dtype());
    key = concat({turned, key}, 3);
  }
  const Tensor value = slice(both, 3, o.head_dim, o.head_dim + o.value_dim);
  const Tensor heads =
      detail::attend_seen(*this, "", query, key, value, options, {.layout = HeadLayout::tokens_first}).out;
  return (*out_)(reshape(heads, {b, t, h * o.value_dim}));
}

Tensor LatentAttention::step(const Tensor& x, KvCache& cache) const {
  detail::check_tokens("LatentAttention", "x", x, options_.model_dim);
  if (will_record({x, latent_->weight})) {
    fail("LatentAttention", "NoGrad around decoding with a cache", "gradients are on");
  }
  AttendOptions options = attend_options(options_.mask);
  const std::int64_t first = cache.length;
  options.offset = {int(first)};
  cache.append(rows(x, first), 0, options_.rotary_dim + options_.latent_dim);
  return absorbed(queries(x, first), cache.rows, cache.length, options);
}

std::vector<ParameterRows> LatentAttention::own_roles() const {
  const LatentAttentionOptions& o = options_;
  const detail::HeadRows queries{Role::query, o.num_heads, o.rotary_dim + o.head_dim};
  detail::Told told;
  if (query_) {
    for (const Tensor& t : {query_->weight, query_->bias}) told.heads(t, {queries});
  } else {
    told.all(*query_down_, Role::query).heads(query_up_->weight, {queries});
  }
  told.all(*latent_, Role::key).all(*out_, Role::output);
  for (std::int64_t h = 0, row = 0; h < o.num_heads; ++h) {  // of a head keys, then values
    told.rows.push_back({{}, expand_->weight, row, row + o.head_dim, Role::key, 0, h});
    row += o.head_dim;
    told.rows.push_back({{}, expand_->weight, row, row + o.value_dim, Role::value, 0, h});
    row += o.value_dim;
  }
  return told.rows;
}

/// Short rows are normalised before they are expanded, and a key's turned numbers are every head's: both move heads
/// without being their size.
std::vector<AttentionSite> LatentAttention::own_sites() const {
  const LatentAttentionOptions& o = options_;
  const auto before = [](std::vector<HeadProjection>& heads, const Linear& down, const RMSNorm& norm) {
    for (HeadProjection& h : heads) {
      h.also = {detail::rows_of(down.weight), detail::rows_of(norm.weight)};
      if (down.bias.defined()) h.also.push_back(detail::rows_of(down.bias));
    }
  };
  const Linear& query = query_ ? *query_ : *query_up_;
  AttentionSite site;
  site.queries = detail::heads_of(query.weight, query.bias, 0, o.num_heads, o.rotary_dim + o.head_dim);
  if (query_down_) before(site.queries, *query_down_, *query_norm_);
  site.keys = detail::heads_of(expand_->weight, {}, 0, o.num_heads, o.head_dim + o.value_dim, o.head_dim);
  before(site.keys, *latent_, *latent_norm_);
  return {site};
}

}  // namespace attune::nn
