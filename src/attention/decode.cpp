// Decoding: which calls are, how their work is cut, and how the parts are joined.
//
// A task is one range of keys of one key head for all query heads that share it: keys and values are read once. Ranges
// are cut at fixed places, whatever the number of threads, and joined in the order of the keys: equal bits always.
#include "attention/decode.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/call.hpp"
#include "attune/attention/mask/both.hpp"
#include "attune/attention/mask/causal.hpp"
#include "attune/attention/mask/padding.hpp"
#include "attune/attention/mask/window.hpp"
#include "attune/base/parallel.hpp"
#include "kernels/denormals.hpp"

namespace attune::engine {
namespace {

const std::byte* bytes_of(const ConstView& v) { return static_cast<const std::byte*>(v.data); }

/// Ranges of keys of one batch entry: the first cut, how many parts its rows take, and where their last key ends.
struct Cut {
  std::int64_t first = 0, parts = 0, end = 0;
};
Cut cut_of(const Range* ranges, int queries) {
  std::int64_t begin = std::numeric_limits<std::int64_t>::max(), end = 0;
  for (int i = 0; i < queries; ++i) {
    if (ranges[i].begin >= ranges[i].end) continue;
    begin = std::min<std::int64_t>(begin, ranges[i].begin);
    end = std::max<std::int64_t>(end, ranges[i].end);
  }
  if (begin >= end) return {};
  const std::int64_t first = begin / kernels::kDecodeSplit;
  return {first, (end + kernels::kDecodeSplit - 1) / kernels::kDecodeSplit - first, end};
}

template <class T>
void run_decode_typed(const DecodeCall& call) {
  const int batch = int(call.query.shape[0]), heads = int(call.query.shape[1]), queries = int(call.query.shape[2]),
            head_dim = int(call.query.shape[3]), value_dim = int(call.out.shape[3]);
  const int kv_heads = call.num_kv_heads, group = heads / kv_heads, rows = group * queries;
  const int padded = kernels::decode_padded(value_dim);
  const T scale = T(call.scale * 1.4426950408889634074);
  std::vector<Cut> cuts(std::size_t(batch), Cut{});
  std::vector<std::int64_t> first_task(std::size_t(batch) + 1, 0);  // batch entry b has tasks first_task[b] ..
  for (int b = 0; b < batch; ++b) {
    cuts[std::size_t(b)] = cut_of(call.ranges.data() + std::ptrdiff_t(b) * queries, queries);
    first_task[std::size_t(b) + 1] = first_task[std::size_t(b)] + cuts[std::size_t(b)].parts * kv_heads;
  }
  const std::int64_t tasks = first_task.back();
  std::vector<kernels::DecodeRow<T>> found(std::size_t(tasks * rows));  // [tasks][rows]: what each part found
  std::vector<T> sums(std::size_t(tasks * rows * padded));              // [tasks][rows][padded]

  // Tasks of a head stand side by side: where the keys of task t lie, and which they are.
  const auto place = [&](std::int64_t t, std::int64_t& begin, std::int64_t& end) {
    const int b = int(std::upper_bound(first_task.begin(), first_task.end(), t) - first_task.begin()) - 1;
    const Cut& cut = cuts[std::size_t(b)];
    const std::int64_t kv = (t - first_task[std::size_t(b)]) / cut.parts,
                       part = cut.first + (t - first_task[std::size_t(b)]) % cut.parts;
    begin = part * kernels::kDecodeSplit;
    end = std::min(begin + kernels::kDecodeSplit, cut.end);
    const DecodeSource& source = call.sources[std::size_t(b)];
    kernels::DecodeRows keys = source.rows;
    keys.key_offset += kv * source.key_head, keys.value_offset += kv * source.value_head;
    keys.key_scales += kv * source.key_scale_head, keys.value_scales += kv * source.value_scale_head;
    return keys;
  };
  const int threads = num_threads();

  // Rows of a task are query by query, so that those who see the same keys meet.
  parallel_for(tasks, [&](std::int64_t t) {
    const kernels::FlushDenormals here;
    const int b = int(std::upper_bound(first_task.begin(), first_task.end(), t) - first_task.begin()) - 1;
    const int kv = int((t - first_task[std::size_t(b)]) / cuts[std::size_t(b)].parts);
    thread_local std::vector<T> memory;
    memory.resize(std::size_t(rows) * std::size_t(head_dim) + std::size_t(padded));
    kernels::Decode<T> one;
    one.rows = place(t, one.begin, one.end);
    // Tasks are handed out in rising order: with n threads at work this one's next is likely the n-th from here.
    if (t + threads < tasks) one.next = place(t + threads, one.next_begin, one.next_end);
    one.head_dim = head_dim, one.value_dim = value_dim;
    one.half_queries = size_of(call.query.dtype) == 2;
    one.row = found.data() + t * rows, one.num_rows = rows;
    one.spare = memory.data() + std::ptrdiff_t(rows) * head_dim;
    for (int r = 0; r < rows; ++r) {
      const int i = r / group, h = kv * group + r % group;
      T* query = memory.data() + std::ptrdiff_t(r) * head_dim;
      convert(
          call.query.dtype,
          bytes_of(call.query) + (b * call.query.strides[0] + h * call.query.strides[1] + i * call.query.strides[2]) *
                                     std::int64_t(size_of(call.query.dtype)),
          dtype_of<T>(), query, head_dim);
      for (int d = 0; d < head_dim; ++d) query[d] *= scale;
      const Range& range = call.ranges[std::size_t(b) * std::size_t(queries) + std::size_t(i)];
      one.row[r].query = query;
      one.row[r].out = sums.data() + (t * rows + r) * padded;
      one.row[r].begin = range.begin, one.row[r].end = range.end;
    }
    kernels::decode(one);
  });

  const auto join = [&](std::int64_t task) {
    const int b = int(task / kv_heads), kv = int(task % kv_heads), parts = int(cuts[std::size_t(b)].parts);
    thread_local std::vector<T> out;
    thread_local std::vector<const kernels::DecodeRow<T>*> of_row;
    out.resize(std::size_t(value_dim));
    of_row.resize(std::size_t(parts));
    for (int r = 0; r < rows; ++r) {
      const int i = r / group, h = kv * group + r % group;
      for (int p = 0; p < parts; ++p)
        of_row[std::size_t(p)] = found.data() + (first_task[std::size_t(b)] + std::int64_t(kv) * parts + p) * rows + r;
      const T lse = kernels::merge_decoded(of_row.data(), parts, value_dim, out.data());
      if (call.lse) static_cast<T*>(call.lse.data)[(std::int64_t(b) * heads + h) * queries + i] = lse;
      convert(dtype_of<T>(), out.data(), call.out.dtype,
              static_cast<std::byte*>(call.out.data) +
                  (b * call.out.strides[0] + h * call.out.strides[1] + i * call.out.strides[2]) *
                      std::int64_t(size_of(call.out.dtype)),
              value_dim);
    }
  };
  constexpr std::int64_t kAlone = 1 << 16;  // numbers to join up to which waking other threads costs more
  const std::int64_t joins = std::int64_t(batch) * kv_heads;
  if (tasks * rows * padded <= kAlone) {
    for (std::int64_t task = 0; task < joins; ++task) join(task);
  } else {
    parallel_for(joins, join);
  }
}

kernels::Stored stored_as(DType dtype) {
  switch (dtype) {
    case DType::float64:
      return kernels::Stored::float64;
    case DType::bfloat16:
      return kernels::Stored::bfloat16;
    case DType::float16:
      return kernels::Stored::float16;
    default:
      return kernels::Stored::float32;
  }
}

}  // namespace

void run_decode(const DecodeCall& call) {
  if (call.query.dtype == DType::float64)
    run_decode_typed<double>(call);
  else
    run_decode_typed<float>(call);
}

bool is_range(const AnyMask& mask) {
  if (mask.get() == nullptr || mask.as<Causal>() || mask.as<Window>() || mask.as<Padding>()) return true;
  const auto* both = mask.as<Both>();
  return both && is_range(both->a) && is_range(both->b);
}

Range range_of(const AnyMask& mask, const AttendShape& s, int batch, int query, int offset) {
  Range range{0, s.num_keys};
  if (mask.get() == nullptr) return range;
  Area area;
  area.shape = &s;
  area.batch = batch, area.query = query, area.queries = 1, area.offset = offset;
  area.key = 0, area.keys = s.num_keys;
  const Range seen = mask->keys(area);
  return {std::clamp(seen.begin, 0, s.num_keys), std::clamp(seen.end, 0, s.num_keys)};
}

bool decodes(const AttendShape& s, const AttendOptions& o) {
  return s.num_queries * s.group() <= kernels::kDecodeRows && s.value_dim > 0 && o.dropout_p == 0 && !o.position &&
         o.score.as<ScaledDot>() && o.bias.empty() && o.normalizer.as<Softmax>() && is_range(o.mask);
}

std::int64_t decode_bytes(const AttendShape& s, DType dtype) {
  const std::int64_t parts = (s.num_keys + kernels::kDecodeSplit - 1) / kernels::kDecodeSplit,
                     rows = std::int64_t(s.batch_size) * s.num_heads * s.num_queries;
  const auto bytes = [&](auto t) {
    using T = decltype(t);
    const std::int64_t each =
                           sizeof(kernels::DecodeRow<T>) + sizeof(T) * std::size_t(kernels::decode_padded(s.value_dim)),
                       own = std::int64_t(sizeof(T)) * (s.num_queries * s.group() * s.query_dim + s.value_dim);
    return parts * rows * each + num_threads() * own;
  };
  return dtype == DType::float64 ? bytes(double{}) : bytes(float{});
}

bool decode_forward(const AttendInputs& in, const AttendOutputs& out, const AttendOptions& o) {
  if (in.query.shape.rank() == 4 && in.query.shape[2] > kernels::kDecodeRows) return false;
  const AttendShape s = shape_of("attend_forward", in.query, in.key, in.value);
  check_options("attend_forward", s, o);
  if (!decodes(s, o) || !in.parameters.empty()) return false;
  const DType dtype = in.query.dtype, wide = dtype == DType::float64 ? DType::float64 : DType::float32;
  const Shape queries{s.batch_size, s.num_heads, s.num_queries, s.query_dim},
      keys{s.batch_size, s.num_kv_heads, s.num_keys, s.key_dim},
      values{s.batch_size, s.num_kv_heads, s.num_keys, s.value_dim},
      results{s.batch_size, s.num_heads, s.num_queries, s.value_dim}, numbers{s.batch_size, s.num_heads, s.num_queries};
  if (s.query_dim != s.key_dim || !rows_fit(in.query, queries, dtype) || !rows_fit(in.key, keys, dtype) ||
      !rows_fit(in.value, values, dtype) || !rows_fit(out.out, results, dtype) ||
      !numbers_fit(out.lse, numbers, wide)) {
    return false;
  }
  const auto bytes = std::ptrdiff_t(size_of(dtype));
  std::vector<const std::byte*> key_blocks(std::size_t(s.batch_size)), value_blocks(std::size_t(s.batch_size));
  DecodeCall call{.query = in.query,
                  .out = out.out,
                  .lse = out.lse,
                  .scale = o.score.as<ScaledDot>()->scale_of(s),
                  .num_kv_heads = s.num_kv_heads};
  call.sources.resize(std::size_t(s.batch_size));
  const std::vector<int> offset = offsets_of(s, o);
  for (int b = 0; b < s.batch_size; ++b) {
    const std::size_t i = std::size_t(b);
    key_blocks[i] = bytes_of(in.key) + b * in.key.strides[0] * bytes;
    value_blocks[i] = bytes_of(in.value) + b * in.value.strides[0] * bytes;
    DecodeSource& source = call.sources[i];
    source.rows.keys = &key_blocks[i], source.rows.values = &value_blocks[i];
    source.rows.key_stride = in.key.strides[2] * bytes, source.rows.value_stride = in.value.strides[2] * bytes;
    source.rows.block_tokens = std::max(1, s.num_keys);
    source.rows.stored = stored_as(dtype);
    source.key_head = in.key.strides[1] * bytes, source.value_head = in.value.strides[1] * bytes;
    for (int q = 0; q < s.num_queries; ++q) call.ranges.push_back(range_of(o.mask, s, b, q, offset[i]));
  }
  run_decode(call);
  return true;
}

}  // namespace attune::engine
