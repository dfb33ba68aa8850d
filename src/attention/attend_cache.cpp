// Attention over a cache: decoding walks over the blocks where they lie; all else goes over a copy in float32.
#include <fmt/format.h>

#include <algorithm>

#include "attention/call.hpp"
#include "attention/decode.hpp"
#include "attention/kv_store.hpp"
#include "attune/attention/apply_position.hpp"
#include "attune/attention/mask/both.hpp"
#include "attune/attention/mask/causal.hpp"
#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"

namespace attune {
namespace {

constexpr const char* kFunction = "attend_forward over a cache";

kernels::Stored stored_as(CacheType type) {
  switch (type) {
    case CacheType::bfloat16:
      return kernels::Stored::bfloat16;
    case CacheType::float16:
      return kernels::Stored::float16;
    case CacheType::int8:
      return kernels::Stored::int8;
    default:
      return kernels::Stored::float32;
  }
}

bool is_contiguous(const ConstView& v) {
  const Strides want = contiguous_strides(v.shape);
  for (int i = 0; i < v.shape.rank(); ++i) {
    if (v.shape[i] > 1 && v.strides[std::size_t(i)] != want[std::size_t(i)]) return false;
  }
  return true;
}

void check(const ConstView& query, const KvCache& cache, const AttendShape& s, const AttendOutputs& out,
           const AttendOptions& o) {
  const KvCacheOptions& c = cache.options();
  if (query.dtype == DType::float64) fail(kFunction, "a query in float32 or a half type", "got float64");
  if (query.empty() && query.shape.size() > 0) fail(kFunction, "memory for query", "got none");
  if (s.query_dim > 1 && query.strides[3] != 1)
    fail(kFunction, "query with a contiguous last dimension", fmt::format("got stride {}", query.strides[3]));
  if (s.query_dim != c.head_dim && o.score.as<ScaledDot>())
    fail(kFunction, fmt::format("queries of width {}", c.head_dim), fmt::format("got {}", s.query_dim));
  const Shape rows{s.batch_size, s.num_heads, s.num_queries, s.value_dim};
  if (!(out.out.shape == rows) || out.out.dtype != query.dtype || (s.value_dim > 1 && out.out.strides[3] != 1)) {
    fail(kFunction, fmt::format("out {} in {} with a contiguous last dimension", rows.text(), name_of(query.dtype)),
         fmt::format("got {} in {}", out.out.shape.text(), name_of(out.out.dtype)));
  }
  if (out.out.empty() && rows.size() > 0) fail(kFunction, "memory for out", "got none");
  const Shape numbers{s.batch_size, s.num_heads, s.num_queries};
  if (out.lse && (!(out.lse.shape == numbers) || out.lse.dtype != DType::float32 || !is_contiguous(out.lse))) {
    fail(kFunction, fmt::format("lse {} in float32 and contiguous memory", numbers.text()),
         fmt::format("got {} in {}", out.lse.shape.text(), name_of(out.lse.dtype)));
  }
  if (o.dropout_p != 0) fail(kFunction, "no dropout", fmt::format("got {}", o.dropout_p));
  if (o.sequences) fail(kFunction, "sequences of the cache", "got options with packed sequences");
  if (!o.offset.empty() || o.alignment != Alignment::top_left) {
    fail(kFunction, "positions that follow from the lengths of the sequences", "got an offset or an alignment");
  }
  if (c.position && o.position) {
    fail(kFunction, fmt::format("no position beside the cache's own, {}", c.position.name()),
         fmt::format("got {}", o.position.name()));
  }
}

/// [B, H, T, D] in one type and order to another.
void copy_rows(const ConstView& from, const View& to) {
  const auto place = [](const auto& v, std::int64_t b, std::int64_t h, std::int64_t t) {
    return (b * v.strides[0] + h * v.strides[1] + t * v.strides[2]) * std::int64_t(size_of(v.dtype));
  };
  for (std::int64_t b = 0; b < from.shape[0]; ++b) {
    for (std::int64_t h = 0; h < from.shape[1]; ++h) {
      for (std::int64_t t = 0; t < from.shape[2]; ++t) {
        convert(from.dtype, static_cast<const std::byte*>(from.data) + place(from, b, h, t), to.dtype,
                static_cast<std::byte*>(to.data) + place(to, b, h, t), from.shape[3]);
      }
    }
  }
}

/// Over the blocks as they are.
void decode_blocks(const ConstView& query, const KvCache::Store& store, std::span<const int> sequences,
                   const AttendShape& s, const AttendOutputs& out, const AttendOptions& o) {
  const KvCacheOptions& c = store.options;
  engine::DecodeCall call{.query = query,
                          .out = out.out,
                          .lse = out.lse,
                          .scale = o.score.as<ScaledDot>()->scale_of(s),
                          .num_kv_heads = c.num_kv_heads};
  std::vector<std::vector<const std::byte*>> keys(sequences.size()), values(sequences.size());
  for (std::size_t b = 0; b < sequences.size(); ++b) {
    const KvCache::Store::Sequence& one = store.sequences[std::size_t(sequences[b])];
    for (int block : one.blocks) {
      keys[b].push_back(store.blocks[std::size_t(block)]);
      values[b].push_back(store.blocks[std::size_t(block)]);
    }
    engine::DecodeSource source;
    source.rows.keys = keys[b].data(), source.rows.values = values[b].data();
    source.rows.key_stride = c.head_dim * store.number, source.rows.value_stride = c.value_dim * store.number;
    source.rows.value_offset = store.values;
    source.rows.key_scales = store.key_scales, source.rows.value_scales = store.value_scales;
    source.rows.block_tokens = c.block_tokens;
    source.rows.stored = stored_as(c.type);
    source.key_head = source.rows.key_stride * c.block_tokens;
    source.value_head = source.rows.value_stride * c.block_tokens;
    source.key_scale_head = source.value_scale_head = std::ptrdiff_t(sizeof(float)) * c.block_tokens;
    call.sources.push_back(source);
    AttendShape own = s;
    own.num_keys = int(one.length);
    const AnyMask mask = Causal{} & o.mask;
    for (int q = 0; q < s.num_queries; ++q)
      call.ranges.push_back(engine::range_of(mask, own, int(b), q, own.num_keys - s.num_queries));
  }
  engine::run_decode(call);
}

/// Over a copy, padded with zeros to the longest sequence; the causal mask hides the padding.
void attend_copy(const ConstView& query, const KvCache& cache, std::span<const int> sequences, const AttendShape& s,
                 const AttendOutputs& out, AttendOptions o, const std::vector<ConstView>& parameters) {
  const std::int64_t key_rows = std::int64_t(s.num_kv_heads) * s.num_keys;
  std::vector<float> keys(std::size_t(s.batch_size * key_rows * s.key_dim)),
      values(std::size_t(s.batch_size * key_rows * s.value_dim));
  o.offset.clear();
  for (std::size_t b = 0; b < sequences.size(); ++b) {
    const std::int64_t length = cache.length(sequences[b]);
    const Shape k{s.num_kv_heads, length, s.key_dim}, v{s.num_kv_heads, length, s.value_dim};
    cache.read(sequences[b], 0,
               View(keys.data() + std::int64_t(b) * key_rows * s.key_dim, DType::float32, k,
                    {std::int64_t(s.num_keys) * s.key_dim, s.key_dim, 1}),
               View(values.data() + std::int64_t(b) * key_rows * s.value_dim, DType::float32, v,
                    {std::int64_t(s.num_keys) * s.value_dim, s.value_dim, 1}));
    o.offset.push_back(int(length) - s.num_queries);
  }
  o.mask = Causal{} & o.mask;
  const bool half = query.dtype != DType::float32;
  std::vector<float> rows(half ? std::size_t(query.shape.size()) : 0),
      wide(half ? std::size_t(out.out.shape.size()) : 0);
  if (half) copy_rows(query, View(rows.data(), query.shape));
  AttendOutputs result = out;
  if (half) result.out = View(wide.data(), out.out.shape);
  attend_forward({half ? ConstView(View(rows.data(), query.shape)) : query,
                  View(keys.data(), {s.batch_size, s.num_kv_heads, s.num_keys, s.key_dim}),
                  View(values.data(), {s.batch_size, s.num_kv_heads, s.num_keys, s.value_dim}), parameters},
                 result, o);
  if (half) copy_rows(result.out, out.out);
}

}  // namespace

void attend_forward(const ConstView& query, const KvCache& cache, std::span<const int> sequences,
                    const AttendOutputs& out, const AttendOptions& o, const std::vector<ConstView>& parameters) {
  const KvCacheOptions& c = cache.options();
  if (query.shape.rank() != 4 || query.shape[0] != std::int64_t(sequences.size()) || query.shape[1] < 1 ||
      query.shape[1] % c.num_kv_heads != 0) {
    fail(kFunction,
         fmt::format("query [{}, a multiple of {}, tokens, {}]", sequences.size(), c.num_kv_heads, c.head_dim),
         "got " + query.shape.text());
  }
  AttendShape s{.batch_size = int(query.shape[0]),
                .num_heads = int(query.shape[1]),
                .num_kv_heads = c.num_kv_heads,
                .num_queries = int(query.shape[2]),
                .query_dim = int(query.shape[3]),
                .key_dim = c.head_dim,
                .value_dim = c.value_dim};
  for (int id : sequences) s.num_keys = std::max(s.num_keys, int(cache.length(id)));
  check(query, cache, s, out, o);
  ConstView rows = query;
  AttendOutputs result = out;
  std::vector<float> placed, wide;
  if (c.position) {  // keys have theirs
    std::vector<int> first;
    for (int id : sequences) first.push_back(int(cache.length(id)) - s.num_queries);
    placed.resize(std::size_t(query.shape.size()));
    rows = ConstView(placed.data(), query.shape);
    apply_position(c.position, Side::query, query, first, View(placed.data(), query.shape));
    if (query.dtype != DType::float32) {
      wide.resize(std::size_t(out.out.shape.size()));
      result.out = View(wide.data(), out.out.shape);
    }
  }
  if (parameters.empty() && !out.entropy && !out.statistics && engine::decodes(s, o)) {
    engine::check_options(kFunction, s, o);
    decode_blocks(rows, cache.store(), sequences, s, result, o);
  } else {
    attend_copy(rows, cache, sequences, s, result, o, parameters);
  }
  if (!wide.empty()) copy_rows(result.out, out.out);
}

}  // namespace attune
