// Which kernel runs for a call, how many extra bytes, and why.
#include <fmt/format.h>

#include "attention/call.hpp"
#include "attention/decode.hpp"
#include "attention/plain_half.hpp"
#include "attention/plain_mask.hpp"
#include "attune/base/cpu.hpp"
#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"
#include "kernels/bf16_attention.hpp"
#include "kernels/plain_attention.hpp"
#include "kernels/tile_plan.hpp"

namespace attune {

namespace {

/// As if no call were decoding.
Explanation explain_tiles(const AttendShape& s, DType dtype, const AttendOptions& o) {
  Explanation e;
  e.target = std::string(name_of(cpu_target()));
  const bool half = dtype == DType::bfloat16 || dtype == DType::float16;
  const std::string not_pairs = half ? engine::why_not_pairs(s, dtype, o) : "";
  if (half && engine::why_not_half(s, o).empty()) {
    const bool pairs = not_pairs.empty();
    e.path = "plain";
    if (pairs) e.target += "_bf16";
    e.tile_queries =
        pairs ? kernels::kBf16BlockQueries : kernels::forward_plan<float>(s.key_dim, s.value_dim, false).queries;
    e.tile_keys = pairs ? kernels::kBf16TileKeys : kernels::forward_plan<float>(s.key_dim, s.value_dim, false).keys;
    e.backward_tile_keys =
        pairs ? kernels::kBf16BackwardTileKeys : kernels::backward_plan<float>(s.key_dim, s.value_dim, false).keys;
    e.forward_bytes = engine::half_forward_bytes(s, pairs);
    e.backward_bytes = engine::half_backward_bytes(s, pairs);
    e.why = pairs ? "as for float32, on bfloat16 as it lies, multiplied in pairs and summed in float32"
                  : "the kernels of float32 on rows that each task converts, since " + not_pairs;
    e.why += "; statistics and entropy take a second pass, over float32 copies";
    return e;
  }
  const std::int64_t element = dtype == DType::float64 ? 8 : 4, threads = num_threads();
  const std::int64_t rows = std::int64_t(s.batch_size) * s.num_heads * s.num_queries;
  const std::int64_t key_rows = std::int64_t(s.batch_size) * s.num_kv_heads * s.num_keys;
  if (half) {
    // float32 copies of the inputs, and of the result before it is rounded.
    const std::int64_t inputs = rows * s.query_dim + key_rows * (s.key_dim + s.value_dim);
    e.forward_bytes += element * (inputs + rows * s.value_dim);
    e.backward_bytes += element * (inputs + 2 * rows * s.value_dim);
  }
  const std::string obstacle = engine::why_not_plain(o);
  if (obstacle.empty()) {
    e.path = "plain";
    const engine::PlainMask mask = engine::plain_mask(o.mask);
    e.why = "scaled dot, softmax, ";
    e.why += mask.other          ? "a mask: its visible keys in pieces, through one fused kernel without any stage call"
             : mask.dilation > 1 ? "every n-th key: n windows, through one fused kernel without any stage call"
                                 : "no mask but causal, windows and padding: one fused kernel without any stage call";
    if (half) e.why += "; float32 copies of the inputs, since " + engine::why_not_half(s, o);
    const bool causal = o.mask.name() == "causal" || o.mask.name() == "both";
    auto plan = [&](auto t) {
      using T = decltype(t);
      const kernels::TilePlan tile = kernels::forward_plan<T>(s.key_dim, s.value_dim, causal);
      e.tile_queries = tile.queries;
      e.tile_keys = tile.keys;
      e.backward_tile_keys = kernels::backward_plan<T>(s.key_dim, s.value_dim, causal).keys;
      e.forward_bytes += threads * std::int64_t(kernels::plain_forward_workspace<T>(s.key_dim, s.value_dim));
      e.backward_bytes +=
          threads * std::int64_t(kernels::plain_backward_workspace<T>(s.num_queries, s.key_dim, s.value_dim)) +
          engine::plain_backward_bytes<T>(s, causal);
    };
    if (dtype == DType::float64)
      plan(double{});
    else
      plan(float{});
    return e;
  }
  e.path = "stages";
  e.why = obstacle;
  const auto p = engine::make_problem<float>(s, o);
  e.tile_queries = p.tile_queries;
  e.tile_keys = p.tile_keys;
  e.backward_tile_keys = std::min(p.tile_keys, engine::kBackwardTileKeys);
  std::int64_t mapped = 0, saved = 0;
  int key_width = s.key_dim, query_width = s.query_dim;
  if (p.position.stage) {
    if (const int w = p.position.stage->width(Side::key, key_width)) mapped += w, key_width = w;
    if (const int w = p.position.stage->width(Side::query, query_width)) query_width = w;
  }
  if (const int w = p.score.stage->width(Side::key, key_width)) mapped += w, key_width = w;
  if (const int w = p.score.stage->width(Side::query, query_width)) query_width = w;
  for (const auto& b : p.bias) saved += b.stage->saves();
  const std::int64_t tile = std::int64_t(e.tile_keys) * kLanes,
                     backward_tile = std::int64_t(e.backward_tile_keys) * kLanes;
  const bool whole = p.normalizer.stage->walk() == Walk::whole_rows;
  const std::int64_t block = std::int64_t(kLanes) * (2 * query_width + s.value_dim + 10);
  // What blocks of queries keep from one super-block of keys to the next.
  const std::int64_t held = s.num_keys > engine::super_keys<float>(key_width, s)
                                ? std::int64_t(s.num_queries + kLanes) * (query_width + 10)
                                : 0;
  e.forward_bytes +=
      element * (mapped * key_rows + threads * (tile + block + (whole ? std::int64_t(s.num_keys) * kLanes : 0)));
  e.backward_bytes += element * (mapped * key_rows + p.slot_size() * s.batch_size * s.num_heads +
                                 threads * (backward_tile * (2 + saved) + 3 * block + held +
                                            (mapped ? std::int64_t(s.num_keys) * key_width : 0)));
  return e;
}

}  // namespace

Explanation explain(const AttendShape& s, DType dtype, const AttendOptions& o) {
  engine::check_options("explain", s, o);
  Explanation e = explain_tiles(s, dtype, o);
  if (!engine::decodes(s, o)) return e;
  e.target = std::string(name_of(cpu_target()));
  e.tile_queries = s.num_queries * s.group();
  e.tile_keys = int(kernels::kDecodeSplit);
  e.forward_bytes = engine::decode_bytes(s, dtype);
  e.why =
      "decoding: few queries against many keys, which are read once, as they are stored; statistics and entropy take "
      "a second pass";
  return e;
}

std::string Explanation::text() const {
  return fmt::format(
      "path      {}\ntarget    {}\ntile      {} queries x {} keys, {} backward\nforward   {} extra bytes\nbackward  {} "
      "extra "
      "bytes\nwhy       {}\n",
      path, target, tile_queries, tile_keys, backward_tile_keys, forward_bytes, backward_bytes, why);
}

}  // namespace attune
