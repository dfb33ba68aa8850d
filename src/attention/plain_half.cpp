// The plain path on half types: full or causal, with or without padding, grouped heads, dropout. Tasks are cut by the
// problem; a task of the forward is several blocks of queries of one head, which share its packed or converted rows.
#include "attention/plain_half.hpp"

#include <algorithm>

#include "attention/call.hpp"
#include "attention/plain_mask.hpp"
#include "attention/workspace.hpp"
#include "attune/base/dropout.hpp"
#include "attune/base/parallel.hpp"
#include "kernels/bf16_attention.hpp"
#include "kernels/denormals.hpp"

namespace attune::engine {
namespace {

/// [batch, heads, rows, width], or no memory where that is allowed.
bool fits(const ConstView& v, DType dtype, std::int64_t heads, std::int64_t rows, std::int64_t width,
          const AttendShape& s, bool required = true) {
  return v.empty() ? !required : rows_fit(v, {s.batch_size, heads, rows, width}, dtype);
}
/// [B, H, Tq] float32, or no memory where that is allowed.
bool row_numbers_fit(const ConstView& v, const AttendShape& s, bool required) {
  return v.empty() ? !required : numbers_fit(v, {s.batch_size, s.num_heads, s.num_queries}, DType::float32);
}
bool inputs_fit(const AttendInputs& in, const AttendShape& s) {
  const DType dtype = in.query.dtype;
  return in.parameters.empty() && fits(in.query, dtype, s.num_heads, s.num_queries, s.query_dim, s) &&
         fits(in.key, dtype, s.num_kv_heads, s.num_keys, s.key_dim, s) &&
         fits(in.value, dtype, s.num_kv_heads, s.num_keys, s.value_dim, s);
}
bool upstream_fits(const AttendUpstream& up, const AttendGradients& g, DType dtype, const AttendShape& s) {
  const bool wide = up.dout.dtype == DType::float32;
  return g.parameters.empty() && fits(up.out, dtype, s.num_heads, s.num_queries, s.value_dim, s) &&
         fits(up.dout, wide ? DType::float32 : dtype, s.num_heads, s.num_queries, s.value_dim, s) &&
         row_numbers_fit(up.lse, s, true) && row_numbers_fit(up.dlse, s, false) &&
         fits(g.query, DType::float32, s.num_heads, s.num_queries, s.query_dim, s, false) &&
         fits(g.key, DType::float32, s.num_kv_heads, s.num_keys, s.key_dim, s, false) &&
         fits(g.value, DType::float32, s.num_kv_heads, s.num_keys, s.value_dim, s, false);
}

/// Row `row` of head (b, h).
template <class T>
T* at(const ConstView& v, int b, int h, int row = 0) {
  auto* data = static_cast<std::byte*>(const_cast<void*>(v.data));
  const std::int64_t from = b * v.strides[0] + h * v.strides[1] + row * v.strides[2];
  return data ? reinterpret_cast<T*>(data + from * std::int64_t(size_of(v.dtype))) : nullptr;
}
/// Rows first .. first + n - 1 of head (b, h) as float32, side by side.
void widen(const ConstView& v, int b, int h, int first, int n, float* to) {
  const std::int64_t width = v.shape[3];
  const bool whole = v.strides[2] == width;
  for (int i = 0; i < (whole ? std::min(n, 1) : n); ++i)
    convert(v.dtype, at<void>(v, b, h, first + i), DType::float32, to + i * width, whole ? n * width : width);
}
void narrow(const float* from, int n, const View& v, int b, int h, int first) {
  const std::int64_t width = v.shape[3];
  for (int i = 0; i < n; ++i) convert(DType::float32, from + i * width, v.dtype, at<void>(v, b, h, first + i), width);
}

kernels::PlainDropout dropout_of(const AttendOptions& o, int batch, int head, int query) {
  kernels::PlainDropout d;
  if (o.dropout_p > 0) d.threshold = dropout_threshold(o.dropout_p);
  d.seed = o.seed, d.batch = o.first_batch + batch, d.head = head, d.query = query;
  return d;
}

/// What every task of a call shares.
struct HalfCall {
  const AttendShape& s;
  const AttendInputs& in;
  const AttendOptions& o;
  PlainMask mask;
  bool causal;
  std::vector<int> offset;  // [B]
  float scale;
  HalfCall(const AttendShape& shape, const AttendInputs& inputs, const AttendOptions& options)
      : s(shape), in(inputs), o(options), offset(offsets_of(shape, options)) {
    mask = plain_mask(o.mask);
    causal = mask.is_causal();
    scale = float(o.score.as<ScaledDot>()->scale_of(s));
  }
  std::ptrdiff_t row(int b, int h, int q) const { return (std::ptrdiff_t(b) * s.num_heads + h) * s.num_queries + q; }
};

/// One task of the forward: rows q .. q + n - 1 of head (b, h), and where the likely next one of this thread begins;
/// next_b is -1 if there is none.
struct QueryRows {
  int b, h, q, n;
  int next_b = -1, next_h = 0, next_q = 0;
};
/// Calls f(rows) for all rows of all heads, up to eight blocks of queries at a time, but in no fewer than 32 tasks if
/// there are as many blocks.
template <class F>
void each_rows(const AttendShape& s, int block, F f) {
  const std::int64_t blocks = (std::int64_t(s.num_queries) + block - 1) / block;
  const int rows = int(std::clamp<std::int64_t>(blocks * s.batch_size * s.num_heads / 32, 1, 8)) * block;
  const int parts = (s.num_queries + rows - 1) / rows;
  // One head's parts side by side: threads share its keys in cache. The longest part of a causal head first.
  const std::int64_t tasks = std::int64_t(s.batch_size) * s.num_heads * parts, threads = num_threads();
  const auto place = [&](std::int64_t t) {
    const int q = (parts - 1 - int(t % parts)) * rows;
    return QueryRows{int(t / parts / s.num_heads), int(t / parts % s.num_heads), q, std::min(rows, s.num_queries - q)};
  };
  parallel_for(tasks, [&](std::int64_t t) {
    const kernels::FlushDenormals here;
    QueryRows rows_here = place(t);
    if (const std::int64_t likely = t + threads; likely < tasks) {
      const QueryRows next = place(likely);
      rows_here.next_b = next.b, rows_here.next_h = next.h, rows_here.next_q = next.q;
    }
    f(rows_here);
  });
}
/// Calls f(b, kv) for every key head.
template <class F>
void each_key_head(const AttendShape& s, F f) {
  parallel_for(std::int64_t(s.batch_size) * s.num_kv_heads, [&](std::int64_t t) {
    const kernels::FlushDenormals here;
    f(int(t / s.num_kv_heads), int(t % s.num_kv_heads));
  });
}

void pairs_forward(const HalfCall& c, const AttendOutputs& out) {
  const AttendShape& s = c.s;
  const std::size_t bytes = kernels::bf16_forward_workspace(s.num_keys, s.key_dim, s.value_dim);
  each_rows(s, kernels::kBf16BlockQueries, [&](const QueryRows& r) {
    const int kv = r.h / s.group();
    kernels::Bf16Forward call;
    call.query = at<const BFloat16>(c.in.query, r.b, r.h, r.q), call.query_stride = c.in.query.strides[2];
    call.key = at<const BFloat16>(c.in.key, r.b, kv), call.key_stride = c.in.key.strides[2];
    call.value = at<const BFloat16>(c.in.value, r.b, kv), call.value_stride = c.in.value.strides[2];
    call.out = at<BFloat16>(out.out, r.b, r.h, r.q), call.out_stride = out.out.strides[2];
    if (out.lse) call.lse = static_cast<float*>(out.lse.data) + c.row(r.b, r.h, r.q);
    call.queries = r.n, call.num_keys = c.mask.visible_keys(s, r.b);
    call.head_dim = s.key_dim, call.value_dim = s.value_dim, call.scale = c.scale;
    call.causal = c.causal, call.position = r.q + c.offset[std::size_t(r.b)];
    call.dropout = dropout_of(c.o, r.b, r.h, r.q);
    // Rows that are fetched in advance must exist: a shorter last part has as many rows as the next or fewer.
    if (r.next_b >= 0 && r.n <= s.num_queries - r.next_q) {
      call.next_query = at<const BFloat16>(c.in.query, r.next_b, r.next_h, r.next_q);
      if (const int next_kv = r.next_h / s.group(); r.next_b != r.b || next_kv != kv) {
        call.next_key = at<const BFloat16>(c.in.key, r.next_b, next_kv);
        call.next_value = at<const BFloat16>(c.in.value, r.next_b, next_kv);
      }
    }
    kernels::bf16_forward(call, Workspace(bytes).begin());
  });
}

void pairs_backward(const HalfCall& c, const AttendUpstream& up, const AttendGradients& g) {
  const AttendShape& s = c.s;
  const std::size_t bytes = kernels::bf16_backward_workspace(s.group(), s.num_queries, s.key_dim, s.value_dim);
  each_key_head(s, [&](int b, int kv) {
    const int h = kv * s.group();
    kernels::Bf16Backward call;
    call.query = at<const BFloat16>(c.in.query, b, h);
    call.query_stride = c.in.query.strides[2], call.query_head = c.in.query.strides[1];
    call.key = at<const BFloat16>(c.in.key, b, kv), call.key_stride = c.in.key.strides[2];
    call.value = at<const BFloat16>(c.in.value, b, kv), call.value_stride = c.in.value.strides[2];
    call.out = at<const BFloat16>(up.out, b, h), call.out_stride = up.out.strides[2], call.out_head = up.out.strides[1];
    call.dout = at<const BFloat16>(up.dout, b, h);
    call.dout_stride = up.dout.strides[2], call.dout_head = up.dout.strides[1];
    call.lse = static_cast<const float*>(up.lse.data) + c.row(b, h, 0), call.lse_head = s.num_queries;
    if (up.dlse) call.dlse = static_cast<const float*>(up.dlse.data) + c.row(b, h, 0);
    call.dquery = at<float>(g.query, b, h);
    call.dquery_stride = g.query.strides[2], call.dquery_head = g.query.strides[1];
    call.dkey = at<float>(g.key, b, kv), call.dkey_stride = g.key.strides[2];
    call.dvalue = at<float>(g.value, b, kv), call.dvalue_stride = g.value.strides[2];
    call.group = s.group(), call.num_queries = s.num_queries, call.num_keys = c.mask.visible_keys(s, b);
    call.head_dim = s.key_dim, call.value_dim = s.value_dim, call.scale = c.scale;
    call.causal = c.causal, call.position = c.offset[std::size_t(b)];
    call.dropout = dropout_of(c.o, b, h, 0);
    kernels::bf16_backward(call, Workspace(bytes).begin());
  });
}

/// Bytes of n floats, in whole lines of the cache.
std::size_t floats(std::size_t n) { return (n * sizeof(float) + 63) / 64 * 64; }

/// Memory of a task that converts rows: the kernel's own, then the rows.
struct ConvertedRows {
  std::size_t kernel, key, value, query, out, dout;
  std::size_t bytes() const { return kernel + key + value + query + out + dout; }
};
ConvertedRows forward_rows(const AttendShape& s, int block) {
  const auto n = [](int rows, int width) { return floats(std::size_t(rows) * std::size_t(width)); };
  return {(kernels::plain_forward_workspace<float>(s.key_dim, s.value_dim) + 63) / 64 * 64,
          n(s.num_keys, s.key_dim),
          n(s.num_keys, s.value_dim),
          n(block, s.key_dim),
          n(block, s.value_dim),
          0};
}
ConvertedRows backward_rows(const AttendShape& s) {
  const auto n = [](std::size_t rows, int width) { return floats(rows * std::size_t(width)); };
  const std::size_t keys = std::size_t(s.num_keys), queries = std::size_t(s.group()) * std::size_t(s.num_queries);
  return {(kernels::plain_backward_workspace<float>(s.num_queries, s.key_dim, s.value_dim) + 63) / 64 * 64,
          n(keys, s.key_dim),
          n(keys, s.value_dim),
          n(queries, s.key_dim),
          n(queries, s.value_dim),
          n(queries, s.value_dim)};
}

void converted_forward(const HalfCall& c, const AttendOutputs& out) {
  const AttendShape& s = c.s;
  const int block = kernels::plain_block_queries<float>(s.key_dim, s.value_dim, c.causal);
  const ConvertedRows part = forward_rows(s, block);
  each_rows(s, block, [&](const QueryRows& r) {
    const Workspace workspace(part.bytes());
    auto* key = reinterpret_cast<float*>(workspace.begin() + part.kernel);
    auto* value = reinterpret_cast<float*>(workspace.begin() + part.kernel + part.key);
    auto* query = reinterpret_cast<float*>(workspace.begin() + part.kernel + part.key + part.value);
    auto* result = reinterpret_cast<float*>(workspace.begin() + part.kernel + part.key + part.value + part.query);
    const int kv = r.h / s.group(), keys = c.mask.visible_keys(s, r.b), position = r.q + c.offset[std::size_t(r.b)];
    const int needed = c.causal ? int(std::clamp<std::int64_t>(std::int64_t(position) + r.n, 0, keys)) : keys;
    widen(c.in.key, r.b, kv, 0, needed, key);
    widen(c.in.value, r.b, kv, 0, needed, value);
    for (int i = 0; i < r.n; i += block) {
      const int n = std::min(block, r.n - i);
      widen(c.in.query, r.b, r.h, r.q + i, n, query);
      kernels::PlainForward<float> call;
      call.query = query, call.query_stride = s.key_dim;
      call.key = key, call.key_stride = s.key_dim;
      call.value = value, call.value_stride = s.value_dim;
      call.out = result, call.out_stride = s.value_dim;
      if (out.lse) call.lse = static_cast<float*>(out.lse.data) + c.row(r.b, r.h, r.q + i);
      call.queries = n, call.num_keys = keys, call.head_dim = s.key_dim, call.value_dim = s.value_dim;
      call.scale = c.scale, call.causal = c.causal, call.position = position + i;
      call.dropout = dropout_of(c.o, r.b, r.h, r.q + i);
      kernels::plain_forward(call, workspace.begin());
      narrow(result, n, out.out, r.b, r.h, r.q + i);
    }
  });
}

void converted_backward(const HalfCall& c, const AttendUpstream& up, const AttendGradients& g) {
  const AttendShape& s = c.s;
  const ConvertedRows part = backward_rows(s);
  each_key_head(s, [&](int b, int kv) {
    const Workspace workspace(part.bytes());
    std::byte* memory = workspace.begin() + part.kernel;
    const auto take = [&](std::size_t bytes) {
      auto* piece = reinterpret_cast<float*>(memory);
      memory += bytes;
      return piece;
    };
    float *key = take(part.key), *value = take(part.value), *query = take(part.query), *out = take(part.out),
          *dout = take(part.dout);
    const int h = kv * s.group(), keys = c.mask.visible_keys(s, b);
    widen(c.in.key, b, kv, 0, keys, key);
    widen(c.in.value, b, kv, 0, keys, value);
    const std::ptrdiff_t query_head = std::ptrdiff_t(s.num_queries) * s.key_dim,
                         value_head = std::ptrdiff_t(s.num_queries) * s.value_dim;
    for (int i = 0; i < s.group(); ++i) {
      widen(c.in.query, b, h + i, 0, s.num_queries, query + i * query_head);
      widen(up.out, b, h + i, 0, s.num_queries, out + i * value_head);
      widen(up.dout, b, h + i, 0, s.num_queries, dout + i * value_head);
    }
    kernels::PlainBackward<float> call;
    call.query = query, call.query_stride = s.key_dim, call.query_head = query_head;
    call.key = key, call.key_stride = s.key_dim;
    call.value = value, call.value_stride = s.value_dim;
    call.out = out, call.out_stride = s.value_dim, call.out_head = value_head;
    call.dout = dout, call.dout_stride = s.value_dim, call.dout_head = value_head;
    call.lse = static_cast<const float*>(up.lse.data) + c.row(b, h, 0), call.lse_head = s.num_queries;
    if (up.dlse) call.dlse = static_cast<const float*>(up.dlse.data) + c.row(b, h, 0);
    call.dquery = at<float>(g.query, b, h);
    call.dquery_stride = g.query.strides[2], call.dquery_head = g.query.strides[1];
    call.dkey = at<float>(g.key, b, kv), call.dkey_stride = g.key.strides[2];
    call.dvalue = at<float>(g.value, b, kv), call.dvalue_stride = g.value.strides[2];
    call.group = s.group(), call.num_queries = s.num_queries, call.num_keys = keys;
    call.head_dim = s.key_dim, call.value_dim = s.value_dim, call.scale = c.scale;
    call.causal = c.causal, call.position = c.offset[std::size_t(b)];
    call.dropout = dropout_of(c.o, b, h, 0);
    kernels::plain_backward(call, workspace.begin());
  });
}

bool is_half(DType dtype) { return dtype == DType::bfloat16 || dtype == DType::float16; }

}  // namespace

std::string why_not_half(const AttendShape& s, const AttendOptions& o) {
  const std::string stage = why_not_plain(o);
  if (!stage.empty()) return stage;
  if (const PlainMask mask = plain_mask(o.mask); !mask.is_range() || mask.has_window())
    return "mask " + std::string(o.mask.name()) + " is more than causal and padding";
  return s.query_dim != s.key_dim || s.num_queries < 1 || s.num_keys < 1 ? "there is nothing to multiply" : "";
}
std::string why_not_pairs(const AttendShape& s, DType dtype, const AttendOptions& o) {
  if (dtype != DType::bfloat16) return "only bfloat16 is multiplied in pairs";
  if (!cpu_uses_bf16()) return "this target does not multiply bfloat16 in pairs";
  const std::string half = why_not_half(s, o);
  if (!half.empty()) return half;
  if (!kernels::bf16_attention_fits(s.key_dim, s.value_dim, float(o.score.as<ScaledDot>()->scale_of(s))))
    return "pairs need widths that are multiples of 16 and a scale above 0";
  return "";
}

std::int64_t half_forward_bytes(const AttendShape& s, bool pairs) {
  const std::size_t one =
      pairs ? kernels::bf16_forward_workspace(s.num_keys, s.key_dim, s.value_dim)
            : forward_rows(s, kernels::plain_block_queries<float>(s.key_dim, s.value_dim, false)).bytes();
  return num_threads() * std::int64_t(one);
}
std::int64_t half_backward_bytes(const AttendShape& s, bool pairs) {
  const std::size_t one = pairs ? kernels::bf16_backward_workspace(s.group(), s.num_queries, s.key_dim, s.value_dim)
                                : backward_rows(s).bytes();
  return num_threads() * std::int64_t(one);
}

bool half_forward(const AttendInputs& in, const AttendOutputs& out, const AttendOptions& o) {
  const DType dtype = in.query.dtype;
  if (!is_half(dtype)) return false;
  const AttendShape s = shape_of("attend_forward", in.query, in.key, in.value);
  check_options("attend_forward", s, o);
  if (!why_not_half(s, o).empty() || !inputs_fit(in, s) ||
      !fits(out.out, dtype, s.num_heads, s.num_queries, s.value_dim, s) || !row_numbers_fit(out.lse, s, false)) {
    return false;
  }
  const HalfCall call(s, in, o);
  why_not_pairs(s, dtype, o).empty() ? pairs_forward(call, out) : converted_forward(call, out);
  return true;
}

bool half_backward(const AttendInputs& in, const AttendUpstream& up, const AttendGradients& g, const AttendOptions& o) {
  const DType dtype = in.query.dtype;
  if (!is_half(dtype) || up.dentropy) return false;
  const AttendShape s = shape_of("attend_backward", in.query, in.key, in.value);
  check_options("attend_backward", s, o);
  if (!why_not_half(s, o).empty() || !inputs_fit(in, s) || !upstream_fits(up, g, dtype, s)) return false;
  const HalfCall call(s, in, o);
  // A dout in float32 keeps its digits.
  const bool pairs = why_not_pairs(s, dtype, o).empty() && up.dout.dtype == dtype;
  pairs ? pairs_backward(call, up, g) : converted_backward(call, up, g);
  return true;
}

}  // namespace attune::engine
