// The backward of the plain path on bfloat16 pairs, for all query heads of one key head; the five products of
// plain_backward.cpp, each on pairs along the axis that it sums over:
//
//   S  [keys][queries] = K Q^T             K as it lies, Q^T packed in pairs along the width
//   dP [keys][queries] = V dout^T          V as it lies, dout^T likewise
//   dV [keys][value_dim]  += P dout        P rounded, pairs along the queries; dout packed so
//   dK [keys][head_dim]   += scale dS Q    dS = P (dP - delta), rounded the same; Q packed so
//   dQ [queries][head_dim] += scale dS^T K dS once more, pairs along the keys; K packed so once per super-block
//
// S and dP are made and used up 16 keys at a time, so only their rounded results fill a tile. That allows blocks of 128
// queries, and so long sums in dV and dK, whose accumulators are loaded and stored half as often: 86 % of the peak of
// pairs at 8 heads of 1024 tokens and a width of 64, 84 % at 128 (Zen 4).
#include "kernels/bf16_attention.hpp"

#include "attune/base/cpu.hpp"
#include "attune/base/error.hpp"
#include "kernels/dropout.hpp"

#if defined(__x86_64__)
#include "kernels/bf16-inl.h"

ATTUNE_X86_BEGIN(ATTUNE_BF16_TARGET)
namespace attune::kernels::bf16 {
namespace {

constexpr int kBlock = 128;                       // queries
constexpr int kTileKeys = kBf16BackwardTileKeys;  // a multiple of kLanes, as kSuperKeys
constexpr int kSuperKeys = 512;  // whose rows and gradients stay in the second-level cache while all queries pass

/// One block of queries of one head; `width` is their number, rounded up to whole vectors.
struct BackwardBlock {
  const Bf16Backward& in;
  Pair* queries_t;  // [head_dim / 2][width]
  Pair* dout_t;     // [value_dim / 2][width]
  Pair* queries_p;  // [width / 2][head_dim]: pairs along the queries
  Pair* dout_p;     // [width / 2][value_dim]: the same
  Pair* keys_p;     // [super keys / 2][head_dim]: pairs along the keys
  float* logits;    // [kLanes][width]: a strip
  float* dprobs;    // [kLanes][width]
  Bits* probs;      // [tile keys][width]
  Bits* dlogits;    // [tile keys][width], without the scale
  Pair* dlogits_p;  // [tile keys / 2][width]: pairs along the keys
  float* lse;       // [width], in powers of two
  float* delta;     // [width]
  float* deltas;    // [group][num_queries]
  int queries = 0, width = 0;
  int position = 0;      // row i sees key j iff j <= position + i, where causal
  int super = 0;         // first key of the super-block
  PlainDropout dropout;  // of the block's first row
  const Bits *query = nullptr, *dout = nullptr;
  float* dquery = nullptr;
};
BackwardBlock lay_out(const Bf16Backward& in, Pieces& memory) {
  return {.in = in,
          .queries_t = memory.take<Pair>(in.head_dim / 2 * kBlock),
          .dout_t = memory.take<Pair>(in.value_dim / 2 * kBlock),
          .queries_p = memory.take<Pair>(kBlock / 2 * in.head_dim),
          .dout_p = memory.take<Pair>(kBlock / 2 * in.value_dim),
          .keys_p = memory.take<Pair>(kSuperKeys / 2 * in.head_dim),
          .logits = memory.take<float>(kLanes * kBlock),
          .dprobs = memory.take<float>(kLanes * kBlock),
          .probs = memory.take<Bits>(kTileKeys * kBlock),
          .dlogits = memory.take<Bits>(kTileKeys * kBlock),
          .dlogits_p = memory.take<Pair>(kTileKeys / 2 * kBlock),
          .lse = memory.take<float>(kBlock),
          .delta = memory.take<float>(kBlock),
          .deltas = memory.take<float>(std::ptrdiff_t(in.group) * in.num_queries)};
}

/// The strip of `keys` keys from the tile's key j0 on, queries from `lane` on: S and dP, then P and dS as pairs.
/// kMasked: key j of the tile is hidden from queries before from + j; hidden pairs become 0 by selection.
template <bool kMasked>
ATTUNE_X86_NOINLINE void strip(const BackwardBlock& b, int key, int j0, int keys, int from, int lane) {
  const Bf16Backward& in = b.in;
  const int width = b.width, n = width - lane;
  float* s = b.logits + lane;
  float* dp = b.dprobs + lane;
  product<Pairs::along_rows, Into::overwrite>(keys, n, in.head_dim / 2, bits(in.key) + (key + j0) * in.key_stride,
                                              in.key_stride, b.queries_t + lane, width, s, width);
  product<Pairs::along_rows, Into::overwrite>(keys, n, in.value_dim / 2, bits(in.value) + (key + j0) * in.value_stride,
                                              in.value_stride, b.dout_t + lane, width, dp, width);
  const PlainDropout& d = b.dropout;
  const bool drops = d.threshold < 65536;
  if (drops) drop(dp, width, d.seed, d.batch, d.head, d.query + lane, n, key + j0, keys, d.threshold);
  const __m512 factor = _mm512_set1_ps(in.scale * kLog2E), zero = _mm512_setzero_ps();
  // No weight is above 1, whatever rounding makes of large logits. NaN stays: minps returns its second operand.
  const auto weight = [&](const float* logits, __m512 lse) __attribute__((always_inline, ATTUNE_BF16_TARGET)) {
    return exp2(_mm512_min_ps(zero, _mm512_fmsub_ps(_mm512_loadu_ps(logits), factor, lse)));
  };
  for (int c = lane; c < width; c += kLanes) {
    const __m512 lse = _mm512_loadu_ps(b.lse + c), delta = _mm512_loadu_ps(b.delta + c);
    for (int j = 0; j < keys; j += 2) {
      const std::ptrdiff_t row = std::ptrdiff_t(j) * width + c;
      const bool second = j + 1 < keys;
      __m512 p0 = weight(b.logits + row, lse), p1 = zero, s1 = zero;
      __m512 s0 = _mm512_mul_ps(p0, _mm512_sub_ps(_mm512_loadu_ps(b.dprobs + row), delta));
      if (second) {
        p1 = weight(b.logits + row + width, lse);
        s1 = _mm512_mul_ps(p1, _mm512_sub_ps(_mm512_loadu_ps(b.dprobs + row + width), delta));
      }
      if constexpr (kMasked) {
        const __mmask16 m0 = lanes_from(c, from + j0 + j), m1 = lanes_from(c, from + j0 + j + 1);
        p0 = _mm512_maskz_mov_ps(m0, p0), s0 = _mm512_maskz_mov_ps(m0, s0);
        p1 = _mm512_maskz_mov_ps(m1, p1), s1 = _mm512_maskz_mov_ps(m1, s1);
      }
      const std::ptrdiff_t to = std::ptrdiff_t(j0 + j) * width + c;
      const __m512i p = round_both(p0, p1), ds = round_both(s0, s1);
      if (drops) {  // P once more in float32: what stays of it is rounded below
        _mm512_storeu_ps(b.logits + row, p0);
        if (second) _mm512_storeu_ps(b.logits + row + width, p1);
      }
      store_half(_mm512_castsi512_si256(p), b.probs + to);
      store_half(_mm512_castsi512_si256(ds), b.dlogits + to);
      if (second) {
        store_half(_mm512_extracti64x4_epi64(p, 1), b.probs + to + width);
        store_half(_mm512_extracti64x4_epi64(ds, 1), b.dlogits + to + width);
      }
      _mm512_storeu_si512(b.dlogits_p + std::ptrdiff_t((j0 + j) / 2) * width + c, interleave(ds));
    }
  }
  if (!drops) return;
  drop(s, width, d.seed, d.batch, d.head, d.query + lane, n, key + j0, keys, d.threshold);
  for (int j = 0; j < keys; ++j) {
    for (int c = lane; c < width; c += kLanes)
      store_half((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(b.logits + std::ptrdiff_t(j) * width + c)),
                 b.probs + std::ptrdiff_t(j0 + j) * width + c);
  }
}

/// dV += P dout and dK += scale dS Q for `keys` keys from the tile's key j0 on, from the queries from `lane` on.
ATTUNE_X86_NOINLINE void add_key_gradients(const BackwardBlock& b, int key, int j0, int keys, int lane) {
  const Bf16Backward& in = b.in;
  const std::ptrdiff_t row = std::ptrdiff_t(j0) * b.width + lane;
  const int pairs = (b.width - lane) / 2;
  if (in.dvalue) {
    product<Pairs::along_rows, Into::add>(keys, in.value_dim, pairs, b.probs + row, b.width,
                                          b.dout_p + std::ptrdiff_t(lane / 2) * in.value_dim, in.value_dim,
                                          in.dvalue + (key + j0) * in.dvalue_stride, in.dvalue_stride);
  }
  if (in.dkey) {
    product<Pairs::along_rows, Into::add>(keys, in.head_dim, pairs, b.dlogits + row, b.width,
                                          b.queries_p + std::ptrdiff_t(lane / 2) * in.head_dim, in.head_dim,
                                          in.dkey + (key + j0) * in.dkey_stride, in.dkey_stride, in.scale);
  }
}

/// dQ += scale dS^T K for queries first .. last-1, from the tile's first `keys` keys.
ATTUNE_X86_NOINLINE void add_query_gradients(const BackwardBlock& b, int key, int keys, int first, int last) {
  const Bf16Backward& in = b.in;
  if (!in.dquery) return;
  product<Pairs::along_columns, Into::add>(last - first, in.head_dim, (keys + 1) / 2,
                                           reinterpret_cast<const Bits*>(b.dlogits_p + first), 2 * b.width,
                                           b.keys_p + std::ptrdiff_t((key - b.super) / 2) * in.head_dim, in.head_dim,
                                           b.dquery + first * in.dquery_stride, in.dquery_stride, in.scale);
}

/// All three pair by pair, for a tile of the diagonal with a NaN or infinity that some pair does not see.
ATTUNE_X86_NOINLINE void add_visible_gradients(const BackwardBlock& b, int key, int keys, int from) {
  const Bf16Backward& in = b.in;
  for (int j = 0; j < keys; ++j) {
    const Bits* k = bits(in.key) + (key + j) * in.key_stride;
    for (int i = std::max(0, from + j); i < b.queries; ++i) {
      const float p = number(b.probs[std::ptrdiff_t(j) * b.width + i]),
                  s = in.scale * number(b.dlogits[std::ptrdiff_t(j) * b.width + i]);
      for (int d = 0; in.dvalue && d < in.value_dim; ++d)
        in.dvalue[(key + j) * in.dvalue_stride + d] += p * number(b.dout[i * in.dout_stride + d]);
      for (int d = 0; in.dkey && d < in.head_dim; ++d)
        in.dkey[(key + j) * in.dkey_stride + d] += s * number(b.query[i * in.query_stride + d]);
      for (int d = 0; in.dquery && d < in.head_dim; ++d) b.dquery[i * in.dquery_stride + d] += s * number(k[d]);
    }
  }
}

/// Keys that every query of the block sees.
ATTUNE_X86_INLINE void full_tile(const BackwardBlock& b, int key, int keys) {
  for (int j0 = 0; j0 < keys; j0 += kLanes) strip<false>(b, key, j0, std::min(kLanes, keys - j0), 0, 0);
  add_key_gradients(b, key, 0, keys, 0);
  add_query_gradients(b, key, keys, 0, b.queries);
}

/// Keys of the diagonal: key j is seen by the queries from j - position on.
ATTUNE_X86_INLINE void partial_tile(const BackwardBlock& b, int key, int keys) {
  const Bf16Backward& in = b.in;
  const int from = key - b.position, first = strip_lane(from);
  // Query rows above the first strip take no part; any other may be hidden from some of these keys.
  const bool finite = rows_finite(bits(in.key) + key * in.key_stride, in.key_stride, keys, in.head_dim) &&
                      rows_finite(b.query + first * in.query_stride, in.query_stride, b.queries - first, in.head_dim) &&
                      rows_finite(b.dout + first * in.dout_stride, in.dout_stride, b.queries - first, in.value_dim);
  for (int j0 = 0; j0 < keys; j0 += kLanes) {
    const int count = std::min(kLanes, keys - j0), lane = strip_lane(from + j0);
    strip<true>(b, key, j0, count, from, lane);
    if (finite) add_key_gradients(b, key, j0, count, lane);
  }
  if (!finite) return add_visible_gradients(b, key, keys, from);
  for (int i = first; i < b.queries; i += kLanes)
    add_query_gradients(b, key, std::min(keys, i + kLanes - from), i, std::min(b.queries, i + kLanes));
}

/// x . y over n numbers, a multiple of 16.
ATTUNE_X86_INLINE float dot(const Bits* x, const Bits* y, int n) {
  __m512 sum = _mm512_setzero_ps();
  for (int c = 0; c < n; c += 2 * kLanes) {
    const __mmask32 some = n - c < 2 * kLanes ? 0xffffu : 0xffffffffu;
    sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_maskz_loadu_epi16(some, x + c),
                           (__m512bh)_mm512_maskz_loadu_epi16(some, y + c));
  }
  return _mm512_reduce_add_ps(sum);
}

/// What a block of queries needs in every tile of the super-block.
ATTUNE_X86_NOINLINE void begin_block(BackwardBlock& b, int head, int q) {
  const Bf16Backward& in = b.in;
  b.queries = std::min(kBlock, in.num_queries - q);
  b.width = (b.queries + kLanes - 1) / kLanes * kLanes;
  b.dropout = in.dropout;
  b.dropout.head += head;
  b.dropout.query += q;
  b.query = bits(in.query) + head * in.query_head + q * in.query_stride;
  b.dout = bits(in.dout) + head * in.dout_head + q * in.dout_stride;
  b.dquery = in.dquery ? in.dquery + head * in.dquery_head + q * in.dquery_stride : nullptr;
  pack_lanes(b.query, in.query_stride, b.queries, in.head_dim, b.width, b.queries_t);
  pack_lanes(b.dout, in.dout_stride, b.queries, in.value_dim, b.width, b.dout_t);
  if (in.dkey) pack_pairs(b.query, in.query_stride, b.queries, in.head_dim, b.width / 2, b.queries_p);
  if (in.dvalue) pack_pairs(b.dout, in.dout_stride, b.queries, in.value_dim, b.width / 2, b.dout_p);
  const float* lse = in.lse + head * in.lse_head + q;
  const float* deltas = b.deltas + std::ptrdiff_t(head) * in.num_queries + q;
  for (int i = 0; i < b.width; ++i) {
    // Lanes past the last query hold nothing that is read; zeros keep them finite, and their dS is 0.
    b.lse[i] = i < b.queries ? lse[i] * kLog2E : 0.f;
    b.delta[i] = i < b.queries ? deltas[i] : 0.f;
  }
}

ATTUNE_X86_NOINLINE void backward(const Bf16Backward& in, std::byte* workspace) {
  Pieces memory(workspace);
  BackwardBlock b = lay_out(in, memory);
  for (int head = 0; head < in.group; ++head) {
    const Bits* out = bits(in.out) + head * in.out_head;
    const Bits* dout = bits(in.dout) + head * in.dout_head;
    const float* dlse = in.dlse ? in.dlse + head * in.lse_head : nullptr;
    for (int i = 0; i < in.num_queries; ++i) {
      const float delta = dot(out + i * in.out_stride, dout + i * in.dout_stride, in.value_dim);
      b.deltas[std::ptrdiff_t(head) * in.num_queries + i] = dlse ? delta - dlse[i] : delta;
    }
  }
  for (b.super = 0; b.super < in.num_keys; b.super += kSuperKeys) {
    const int end = std::min(in.num_keys, b.super + kSuperKeys), keys = end - b.super;
    if (in.dquery)
      pack_pairs(bits(in.key) + b.super * in.key_stride, in.key_stride, keys, in.head_dim, (keys + 1) / 2, b.keys_p);
    // Where causal, the first query that sees the super-block's first key.
    const std::int64_t first = in.causal ? std::max<std::int64_t>(0, std::int64_t(b.super) - in.position) : 0;
    for (int head = 0; head < in.group; ++head) {
      for (std::int64_t q = first / kBlock * kBlock; q < in.num_queries; q += kBlock) {
        b.position = in.position + int(q);
        const int queries = int(std::min<std::int64_t>(kBlock, in.num_queries - q));
        const Visible visible = visible_keys(in.causal, b.position, queries, end);
        if (visible.end <= b.super) continue;
        begin_block(b, head, int(q));
        int key = b.super;
        for (; key < visible.full; key += kTileKeys) full_tile(b, key, std::min(kTileKeys, visible.full - key));
        for (key = std::max(b.super, visible.full); key < visible.end; key += kTileKeys)
          partial_tile(b, key, std::min(kTileKeys, visible.end - key));
      }
    }
  }
}

}  // namespace
}  // namespace attune::kernels::bf16
ATTUNE_X86_END
#endif

namespace attune::kernels {

#if defined(__x86_64__)
std::size_t bf16_backward_workspace(int group, int num_queries, int head_dim, int value_dim) {
  const Bf16Backward most{.group = group, .num_queries = num_queries, .head_dim = head_dim, .value_dim = value_dim};
  bf16::Pieces memory(nullptr);
  bf16::lay_out(most, memory);
  return memory.bytes();
}
void bf16_backward(const Bf16Backward& in, std::byte* workspace) { bf16::backward(in, workspace); }
#else
std::size_t bf16_backward_workspace(int, int, int, int) { return 0; }
void bf16_backward(const Bf16Backward&, std::byte*) {
  fail("bf16_backward", "a processor with AVX-512 BF16", "got another architecture");
}
#endif

}  // namespace attune::kernels
