// LandmarkAttention: what passes through the landmarks, as an operator on the engine, and the attention with it.
#include "attune/nn/landmark_attention.hpp"

#include <cmath>
#include <utility>
#include <vector>

#include "attune/attention/mask/all.hpp"
#include "attune/autograd/ops/attend.hpp"
#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/matmul.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/autograd/tape.hpp"
#include "nn/compose.hpp"
#include "nn/told.hpp"

namespace attune::nn {
namespace {

/// Hides the last key of every block.
struct NoLandmarks {
  int block = 2;
  void visible(const Area& a, std::uint64_t* rows) const {
    for (int j = 0; j < a.keys; ++j) rows[j] = (a.key + j) % block == block - 1 ? 0 : ~std::uint64_t(0);
  }
};

/// The fused projection [B, T, (H + 2 Hkv) D] cut in blocks.
struct Cut {
  std::int64_t heads, kv_heads, head_dim, block, past;  // past: blocks that some token lies behind
  AttendOptions options;                                // of the score
};

/// One of the engine's calls: the tokens behind block b attend to keys first .. first + count - 1 of it. Only its lse
/// is wanted, so the values are one column of zeros.
struct BlockCall {
  BlockCall(const Tensor& x, const Cut& cut, std::int64_t b, bool landmark) : options(cut.options) {
    const std::int64_t behind = (b + 1) * cut.block, first = landmark ? behind - 1 : b * cut.block;
    const std::int64_t count = landmark ? 1 : cut.block - 1, batch = x.shape()[0];
    rows = x.shape()[1] - behind;
    query = piece(x, cut, 0, cut.heads, behind, rows);
    key = piece(x, cut, cut.heads, cut.kv_heads, first, count);
    value = Tensor::zeros({batch, cut.kv_heads, count, 1}, x.dtype());
    out = Tensor::zeros({batch, cut.heads, rows, 1}, x.dtype());
    options.offset = {int(behind - first)};
  }
  /// Heads head .. head + heads - 1 and tokens first .. first + tokens - 1 of x or its gradient.
  static View piece(const Tensor& x, const Cut& cut, std::int64_t head, std::int64_t heads, std::int64_t first,
                    std::int64_t tokens) {
    const std::int64_t width = x.shape()[2], at = first * width + head * cut.head_dim;
    return View(static_cast<char*>(x.raw()) + at * std::int64_t(size_of(x.dtype())), x.dtype(),
                Shape{x.shape()[0], heads, tokens, cut.head_dim},
                Strides{x.shape()[1] * width, cut.head_dim, width, 1});
  }
  AttendInputs inputs() const { return {query, key, std::as_const(value).view(), {}}; }

  std::int64_t rows = 0;
  View query, key;
  Tensor value, out;
  AttendOptions options;
};

/// Calls f(number of [B, H, T, past], number of [B, H, rows]) for all tokens behind block b.
template <class F>
void each_behind(const Cut& cut, const Shape& shape, std::int64_t b, std::int64_t rows, F f) {
  const std::int64_t t = shape[2];
  for (std::int64_t head = 0; head < shape[0] * shape[1]; ++head) {
    for (std::int64_t i = 0; i < rows; ++i) f(((head + 1) * t - rows + i) * cut.past + b, head * rows + i);
  }
}

/// [B, H, T, past]: s_i,landmark(b) - lse_ib where block b is behind token i, else 0.
template <class T>
Tensor through_landmarks(const Tensor& x, const Cut& cut) {
  const Shape shape{x.shape()[0], cut.heads, x.shape()[1], cut.past};
  Tensor y = Tensor::zeros(shape, x.dtype());
  std::vector<Tensor> kept;  // of each block the landmark's lse, which is its logit, and that of its tokens
  for (std::int64_t b = 0; b < cut.past; ++b) {
    for (bool landmark : {true, false}) {
      BlockCall call(x, cut, b, landmark);
      Tensor lse = Tensor::empty({shape[0], shape[1], call.rows}, x.dtype());
      attend_forward(call.inputs(), {.out = call.out.view(), .lse = lse.view()}, call.options);
      const T sign = landmark ? T(1) : T(-1);
      each_behind(cut, shape, b, call.rows,
                  [&, from = lse.data<T>(), to = y.data<T>()](auto at, auto row) { to[at] += sign * from[row]; });
      kept.push_back(lse);
    }
  }
  // y = lse of the landmark - lse of the tokens: dlse = dy and -dy; the engine turns them into gradients of the rows.
  record("through_landmarks", y, {x}, [x = x.detach(), cut, shape, kept](Backward& back) {
    const Tensor dy = back.dout();
    const Tensor dx = back.zeroed_slot(0);
    for (std::int64_t b = 0; b < cut.past; ++b) {
      for (bool landmark : {true, false}) {
        const BlockCall call(x, cut, b, landmark);
        const Tensor& lse = kept[std::size_t(2 * b + (landmark ? 0 : 1))];
        Tensor dlse = Tensor::empty(lse.shape(), lse.dtype());
        const T sign = landmark ? T(1) : T(-1);
        each_behind(cut, shape, b, call.rows,
                    [&, from = dy.data<T>(), to = dlse.data<T>()](auto at, auto row) { to[row] = sign * from[at]; });
        const std::int64_t behind = (b + 1) * cut.block, first = landmark ? behind - 1 : b * cut.block;
        AttendUpstream up;
        up.out = up.dout = call.out.view();  // zeros
        up.lse = lse.view();
        up.dlse = std::as_const(dlse).view();
        AttendGradients gradients;
        gradients.query = BlockCall::piece(dx, cut, 0, cut.heads, behind, call.rows);
        gradients.key = BlockCall::piece(dx, cut, cut.heads, cut.kv_heads, first, landmark ? 1 : cut.block - 1);
        attend_backward(call.inputs(), up, gradients, call.options);
      }
    }
  });
  return y;
}

/// [B, Hkv, T, past]: 1 where a key's block is b.
Tensor block_names(std::int64_t batch, std::int64_t tokens, const Cut& cut, DType dtype) {
  std::vector<double> ones(std::size_t(batch * cut.kv_heads * tokens * cut.past), 0);
  for (std::int64_t row = 0; row < batch * cut.kv_heads * tokens; ++row) {
    const std::int64_t b = row % tokens / cut.block;
    if (b < cut.past) ones[std::size_t(row * cut.past + b)] = 1;
  }
  return Tensor::from(ones, {batch, cut.kv_heads, tokens, cut.past}).to(dtype);
}

}  // namespace

LandmarkAttention::LandmarkAttention(const LandmarkAttentionOptions& options) : options_(options) {
  LandmarkAttentionOptions& o = options_;
  const char* name = "LandmarkAttention";
  detail::check_positive(name, {{"model_dim", o.model_dim}, {"num_heads", o.num_heads}, {"block - 1", o.block - 1}});
  detail::fill_kv_heads(name, o.num_heads, o.num_kv_heads);
  detail::fill_head_dim(name, o.model_dim, o.num_heads, o.head_dim);
  detail::check_positive(name, {{"head_dim", o.head_dim}});
  if (o.rotary) o.rotary->rotary_dim = int(o.head_dim);
  const std::int64_t queries = o.num_heads * o.head_dim, keys = o.num_kv_heads * o.head_dim;
  weight_in = add_parameter("weight_in", detail::stacked_parameter({queries, keys, keys}, o.model_dim, o.init));
  if (o.bias_terms) bias_in = add_parameter("bias_in", Tensor::zeros({queries + 2 * keys}));
  weight_out = add_parameter("weight_out", make_parameter({o.model_dim, queries}, o.init));
  if (o.bias_terms) bias_out = add_parameter("bias_out", Tensor::zeros({o.model_dim}));
}

Tensor LandmarkAttention::operator()(const Tensor& x) const {
  const LandmarkAttentionOptions& o = options_;
  detail::check_tokens("LandmarkAttention", "x", x, o.model_dim);
  const std::int64_t b = x.shape()[0], t = x.shape()[1], queries = o.num_heads * o.head_dim,
                     keys = o.num_kv_heads * o.head_dim;
  const Tensor projected = linear(x, weight_in, bias_in);
  const double scaled = 1 / std::sqrt(double(o.head_dim));
  Cut cut{o.num_heads, o.num_kv_heads, o.head_dim, o.block, t > 0 ? (t - 1) / o.block : 0, {}};
  cut.options.score = ScaledDot{.scale = scaled};
  if (o.rotary) cut.options.position = *o.rotary;

  Tensor query = split_heads(slice(projected, 2, 0, queries), o.num_heads);
  Tensor key = split_heads(slice(projected, 2, queries, queries + keys), o.num_kv_heads);
  const Tensor value = split_heads(slice(projected, 2, queries + keys, queries + 2 * keys), o.num_kv_heads);
  if (cut.past > 0) {  // scaled (c / scaled) . name = c
    const Tensor c = x.dtype() == DType::float64 ? through_landmarks<double>(projected, cut)
                                                 : through_landmarks<float>(projected, cut);
    query = concat({query, scale(c, 1 / scaled)}, 3);
    key = concat({key, block_names(b, t, cut, x.dtype())}, 3);
  }
  AttendOptions options = cut.options;
  options.mask = Causal{} & NoLandmarks{int(o.block)};
  return linear(merge_heads(detail::attend_seen(*this, "", query, key, value, options).out), weight_out, bias_out);
}

std::vector<ParameterRows> LandmarkAttention::own_roles() const {
  const LandmarkAttentionOptions& o = options_;
  const detail::HeadRows queries{Role::query, o.num_heads, o.head_dim}, keys{Role::key, o.num_kv_heads, o.head_dim},
      values{Role::value, o.num_kv_heads, o.head_dim};
  detail::Told told;
  for (const Tensor& t : {weight_in, bias_in}) told.heads(t, {queries, keys, values});
  for (const Tensor& t : {weight_out, bias_out}) told.all(t, Role::output);
  return told.rows;
}

/// The scores of earlier blocks hold a log of a sum over their block, which grows with the others up to ln(block).
std::vector<AttentionSite> LandmarkAttention::own_sites() const {
  const LandmarkAttentionOptions& o = options_;
  AttentionSite site;
  site.queries = detail::heads_of(weight_in, bias_in, 0, o.num_heads, o.head_dim);
  site.keys = detail::heads_of(weight_in, bias_in, o.num_heads * o.head_dim, o.num_kv_heads, o.head_dim);
  return {site};
}

}  // namespace attune::nn
