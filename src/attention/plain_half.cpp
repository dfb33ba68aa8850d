// The plain path on pairs of bfloat16: full or causal, with or without padding, grouped heads, dropout. Tasks are cut
// by the problem; a task of the forward is several blocks of queries of one head, which share its packed values.
#include "attention/plain_half.hpp"

#include <algorithm>

#include "attention/call.hpp"
#include "attention/workspace.hpp"
#include "attune/attention/mask/both.hpp"
#include "attune/attention/mask/causal.hpp"
#include "attune/attention/mask/padding.hpp"
#include "attune/base/dropout.hpp"
#include "attune/base/parallel.hpp"
#include "kernels/bf16_attention.hpp"
#include "kernels/denormals.hpp"

namespace attune::engine {
namespace {

/// What the kernels know of masks: causal or not, and how many keys from the front are visible.
struct PairsMask {
  bool causal = false;
  const Padding* padding = nullptr;
  int visible_keys(const AttendShape& s, int batch) const {
    return padding ? padding->valid_keys[std::size_t(batch)] : s.num_keys;
  }
};
/// False if the mask is another.
bool read_mask(const AnyMask& mask, PairsMask& to) {
  if (!mask) return true;
  if (mask.as<Causal>()) return to.causal = true;
  if (const auto* both = mask.as<Both>()) return read_mask(both->a, to) && read_mask(both->b, to);
  const auto* padding = mask.as<Padding>();
  if (!padding || to.padding) return false;
  to.padding = padding;
  return true;
}

/// [batch, heads, rows, width] of the type T with a contiguous last axis, or no memory where that is allowed.
template <class T>
bool fits(const ConstView& v, std::int64_t heads, std::int64_t rows, std::int64_t width, const AttendShape& s,
          bool required = true) {
  if (v.empty() && !required) return true;
  return v.dtype == dtype_of<T>() && v.shape == Shape{s.batch_size, heads, rows, width} && !v.empty() &&
         v.strides[3] == 1;
}
/// [B, H, Tq] contiguous float32, or no memory.
bool numbers_fit(const ConstView& v, const AttendShape& s, bool required) {
  if (v.empty()) return !required;
  const Shape shape{s.batch_size, s.num_heads, s.num_queries};
  if (v.dtype != DType::float32 || !(v.shape == shape)) return false;
  const Strides want = contiguous_strides(shape);
  for (int i = 0; i < 3; ++i) {
    if (shape[i] > 1 && v.strides[std::size_t(i)] != want[std::size_t(i)]) return false;
  }
  return true;
}
/// Row `row` of head (b, h).
template <class T>
T* at(const ConstView& v, int b, int h, int row = 0) {
  auto* data = static_cast<T*>(const_cast<void*>(v.data));
  return data ? data + b * v.strides[0] + h * v.strides[1] + row * v.strides[2] : nullptr;
}

bool inputs_fit(const AttendInputs& in, const AttendShape& s) {
  return in.parameters.empty() && fits<BFloat16>(in.query, s.num_heads, s.num_queries, s.query_dim, s) &&
         fits<BFloat16>(in.key, s.num_kv_heads, s.num_keys, s.key_dim, s) &&
         fits<BFloat16>(in.value, s.num_kv_heads, s.num_keys, s.value_dim, s);
}

kernels::PlainDropout dropout_of(const AttendOptions& o, int batch, int head, int query) {
  kernels::PlainDropout d;
  if (o.dropout_p > 0) d.threshold = dropout_threshold(o.dropout_p);
  d.seed = o.seed, d.batch = o.first_batch + batch, d.head = head, d.query = query;
  return d;
}

}  // namespace

std::string why_not_pairs(const AttendShape& s, DType dtype, const AttendOptions& o) {
  if (dtype != DType::bfloat16) return "only bfloat16 is multiplied in pairs";
  if (!cpu_uses_bf16()) return "this target does not multiply bfloat16 in pairs";
  const std::string stage = why_not_plain(o);
  if (!stage.empty()) return stage;
  PairsMask mask;
  if (!read_mask(o.mask, mask)) return "mask " + std::string(o.mask.name()) + " is more than causal and padding";
  if (s.query_dim != s.key_dim || s.num_queries < 1 || s.num_keys < 1) return "the extents are unusual";
  if (!kernels::bf16_attention_fits(s.key_dim, s.value_dim, float(o.score.as<ScaledDot>()->scale_of(s))))
    return "pairs need widths that are multiples of 16 and a scale above 0";
  return "";
}

std::int64_t pairs_forward_bytes(const AttendShape& s) {
  return num_threads() * std::int64_t(kernels::bf16_forward_workspace(s.num_keys, s.key_dim, s.value_dim));
}
std::int64_t pairs_backward_bytes(const AttendShape& s) {
  return num_threads() *
         std::int64_t(kernels::bf16_backward_workspace(s.group(), s.num_queries, s.key_dim, s.value_dim));
}

bool pairs_forward(const AttendInputs& in, const AttendOutputs& out, const AttendOptions& o) {
  if (in.query.dtype != DType::bfloat16 || !cpu_uses_bf16()) return false;
  const AttendShape s = shape_of("attend_forward", in.query, in.key, in.value);
  check_options("attend_forward", s, o);
  if (!why_not_pairs(s, in.query.dtype, o).empty() || !inputs_fit(in, s) ||
      !fits<BFloat16>(out.out, s.num_heads, s.num_queries, s.value_dim, s) || !numbers_fit(out.lse, s, false)) {
    return false;
  }
  PairsMask mask;
  read_mask(o.mask, mask);
  const std::vector<int> offset = offsets_of(s, o);
  const float scale = float(o.score.as<ScaledDot>()->scale_of(s));
  const std::size_t bytes = kernels::bf16_forward_workspace(s.num_keys, s.key_dim, s.value_dim);
  // Up to eight blocks a task, but no fewer than 32 tasks if there are as many blocks.
  constexpr int kBlock = kernels::kBf16BlockQueries;
  const std::int64_t blocks = (std::int64_t(s.num_queries) + kBlock - 1) / kBlock;
  const int rows = int(std::clamp<std::int64_t>(blocks * s.batch_size * s.num_heads / 32, 1, 8)) * kBlock;
  const int parts = (s.num_queries + rows - 1) / rows;
  // One head's parts side by side: threads share its keys in cache. The longest part of a causal head first.
  parallel_for(std::int64_t(s.batch_size) * s.num_heads * parts, [&](std::int64_t t) {
    const kernels::FlushDenormals here;
    const int q = (parts - 1 - int(t % parts)) * rows, h = int(t / parts % s.num_heads),
              b = int(t / parts / s.num_heads), kv = h / s.group();
    kernels::Bf16Forward call;
    call.query = at<const BFloat16>(in.query, b, h, q), call.query_stride = in.query.strides[2];
    call.key = at<const BFloat16>(in.key, b, kv), call.key_stride = in.key.strides[2];
    call.value = at<const BFloat16>(in.value, b, kv), call.value_stride = in.value.strides[2];
    call.out = at<BFloat16>(out.out, b, h, q), call.out_stride = out.out.strides[2];
    if (out.lse)
      call.lse = static_cast<float*>(out.lse.data) + (std::ptrdiff_t(b) * s.num_heads + h) * s.num_queries + q;
    call.queries = std::min(rows, s.num_queries - q), call.num_keys = mask.visible_keys(s, b);
    call.head_dim = s.key_dim, call.value_dim = s.value_dim, call.scale = scale;
    call.causal = mask.causal, call.position = q + offset[std::size_t(b)];
    call.dropout = dropout_of(o, b, h, q);
    kernels::bf16_forward(call, thread_workspace(bytes));
  });
  return true;
}

bool pairs_backward(const AttendInputs& in, const AttendUpstream& up, const AttendGradients& g,
                    const AttendOptions& o) {
  if (in.query.dtype != DType::bfloat16 || up.dout.dtype != DType::bfloat16 || up.dentropy || !cpu_uses_bf16())
    return false;
  const AttendShape s = shape_of("attend_backward", in.query, in.key, in.value);
  check_options("attend_backward", s, o);
  if (!why_not_pairs(s, in.query.dtype, o).empty() || !inputs_fit(in, s) || !g.parameters.empty() ||
      !fits<BFloat16>(up.out, s.num_heads, s.num_queries, s.value_dim, s) ||
      !fits<BFloat16>(up.dout, s.num_heads, s.num_queries, s.value_dim, s) || !numbers_fit(up.lse, s, true) ||
      !numbers_fit(up.dlse, s, false) || !fits<float>(g.query, s.num_heads, s.num_queries, s.query_dim, s, false) ||
      !fits<float>(g.key, s.num_kv_heads, s.num_keys, s.key_dim, s, false) ||
      !fits<float>(g.value, s.num_kv_heads, s.num_keys, s.value_dim, s, false)) {
    return false;
  }
  PairsMask mask;
  read_mask(o.mask, mask);
  const std::vector<int> offset = offsets_of(s, o);
  const float scale = float(o.score.as<ScaledDot>()->scale_of(s));
  const std::size_t bytes = kernels::bf16_backward_workspace(s.group(), s.num_queries, s.key_dim, s.value_dim);
  parallel_for(std::int64_t(s.batch_size) * s.num_kv_heads, [&](std::int64_t t) {
    const kernels::FlushDenormals here;
    const int kv = int(t % s.num_kv_heads), b = int(t / s.num_kv_heads), h = kv * s.group();
    const std::ptrdiff_t row = (std::ptrdiff_t(b) * s.num_heads + h) * s.num_queries;
    kernels::Bf16Backward call;
    call.query = at<const BFloat16>(in.query, b, h);
    call.query_stride = in.query.strides[2], call.query_head = in.query.strides[1];
    call.key = at<const BFloat16>(in.key, b, kv), call.key_stride = in.key.strides[2];
    call.value = at<const BFloat16>(in.value, b, kv), call.value_stride = in.value.strides[2];
    call.out = at<const BFloat16>(up.out, b, h), call.out_stride = up.out.strides[2], call.out_head = up.out.strides[1];
    call.dout = at<const BFloat16>(up.dout, b, h);
    call.dout_stride = up.dout.strides[2], call.dout_head = up.dout.strides[1];
    call.lse = static_cast<const float*>(up.lse.data) + row, call.lse_head = s.num_queries;
    if (up.dlse) call.dlse = static_cast<const float*>(up.dlse.data) + row;
    call.dquery = at<float>(g.query, b, h);
    call.dquery_stride = g.query.strides[2], call.dquery_head = g.query.strides[1];
    call.dkey = at<float>(g.key, b, kv), call.dkey_stride = g.key.strides[2];
    call.dvalue = at<float>(g.value, b, kv), call.dvalue_stride = g.value.strides[2];
    call.group = s.group(), call.num_queries = s.num_queries, call.num_keys = mask.visible_keys(s, b);
    call.head_dim = s.key_dim, call.value_dim = s.value_dim, call.scale = scale;
    call.causal = mask.causal, call.position = offset[std::size_t(b)];
    call.dropout = dropout_of(o, b, h, 0);
    kernels::bf16_backward(call, thread_workspace(bytes));
  });
  return true;
}

}  // namespace attune::engine
