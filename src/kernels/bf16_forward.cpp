// The forward of the plain path on bfloat16 pairs: one block of queries against all its keys, tile by tile, with the
// online softmax (arXiv:1805.02867). Queries lie in the lanes of S [keys][queries], so that K is read where it lies by
// broadcast and the softmax needs no horizontal sums; then P changes sides: its pairs are broadcast and V's packed rows
// are the vectors, so that out [queries][value_dim] needs no transpose and a causal tile can be cut at any row.
//
// The ladder, share of the peak of pairs at 8 heads of 1024 tokens and a width of 64 (Zen 4):
//   tiles of 128 keys, V packed for every block of queries                          76 %
//   four steps a turn of the product, whose addresses keep registers of their own   80 %
//   tiles of 256 keys: out is loaded and rescaled half as often                     81 %
//   V packed once for eight blocks; 2^x of degree 3                                 82 %
//   the next block's rows fetched meanwhile: 1 % more here, 2 % with short heads
//   after a first tile of 64 keys rows keep their maximum until a sum passes 2^60: weights are made while
//   logits are in registers, and out is not rescaled                                 +3 % (width 128: +2 %)
#include "kernels/bf16_attention.hpp"

#include <limits>

#include "attune/base/cpu.hpp"
#include "attune/base/error.hpp"
#include "kernels/dropout.hpp"

#if defined(__x86_64__)
#include "kernels/bf16-inl.h"

ATTUNE_X86_BEGIN(ATTUNE_BF16_TARGET)
namespace attune::kernels::bf16 {
namespace {

constexpr int kTileKeys = kBf16TileKeys;
/// Keys of the first tile: enough for a maximum that the rows may keep.
constexpr int kFirstKeys = 64;

constexpr int kBlock = kBf16BlockQueries;

/// The block's memory; `width` is the number of its queries, rounded up to whole vectors.
struct ForwardBlock {
  const Bf16Forward& in;
  int first, count, width;               // queries of the call
  int position;                          // of the first one
  Pair* queries;                         // [head_dim / 2][width]
  float* weights;                        // [tile keys][width]: logits in powers of two
  Pair* probs;                           // [tile keys / 2][width]: pairs along the keys
  float* out;                            // [queries][value_dim], not yet divided by the sums
  float *maximum, *next, *factor, *sum;  // [width], as in plain_forward.cpp
  Pair* values;                          // [num_keys / 2][value_dim]: pairs along the keys, of all blocks of the call
};
ForwardBlock lay_out(const Bf16Forward& in, Pieces& memory) {
  return {.in = in,
          .first = 0,
          .count = 0,
          .width = 0,
          .position = 0,
          .queries = memory.take<Pair>(in.head_dim / 2 * kBlock),
          .weights = memory.take<float>(kTileKeys * kBlock),
          .probs = memory.take<Pair>(kTileKeys / 2 * kBlock),
          .out = memory.take<float>(kBlock * in.value_dim),
          .maximum = memory.take<float>(kBlock),
          .next = memory.take<float>(kBlock),
          .factor = memory.take<float>(kBlock),
          .sum = memory.take<float>(kBlock),
          .values = memory.take<Pair>(std::ptrdiff_t((in.num_keys + 1) / 2) * in.value_dim)};
}

/// Weights 2^(logit - maximum) of kVectors columns of vectors as pairs; sum = sum * factor + their sum, before
/// rounding. kWide: they stay in float32 where the logits were, for dropout.
template <int kVectors, bool kWide>
ATTUNE_X86_NOINLINE void exponentiate(float* x, int keys, int width, float* maximum, const float* next, float* factor,
                                      float* sum, Pair* pairs) {
  __m512 top[kVectors], total[kVectors];
  ATTUNE_X86_UNROLL for (int v = 0; v < kVectors; ++v) {
    top[v] = _mm512_loadu_ps(next + v * kLanes);
    const __m512 f = exp2(_mm512_sub_ps(_mm512_loadu_ps(maximum + v * kLanes), top[v]));
    _mm512_storeu_ps(factor + v * kLanes, f);
    _mm512_storeu_ps(maximum + v * kLanes, top[v]);
    total[v] = _mm512_mul_ps(_mm512_loadu_ps(sum + v * kLanes), f);
  }
  for (int j = 0; j < keys; j += 2, x += 2 * width, pairs += width) {
    const bool second = j + 1 < keys;
    ATTUNE_X86_UNROLL for (int v = 0; v < kVectors; ++v) {
      const __m512 a = exp2(_mm512_sub_ps(_mm512_loadu_ps(x + v * kLanes), top[v]));
      const __m512 b =
          second ? exp2(_mm512_sub_ps(_mm512_loadu_ps(x + width + v * kLanes), top[v])) : _mm512_setzero_ps();
      total[v] = _mm512_add_ps(total[v], _mm512_add_ps(a, b));
      if constexpr (kWide) {
        _mm512_storeu_ps(x + v * kLanes, a);
        if (second) _mm512_storeu_ps(x + width + v * kLanes, b);
      } else {
        _mm512_storeu_si512(pairs + v * kLanes, interleave(round_both(a, b)));
      }
    }
  }
  ATTUNE_X86_UNROLL for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(sum + v * kLanes, total[v]);
}
/// Drops weights of one column of vectors and rounds what stays to pairs.
ATTUNE_X86_NOINLINE void drop_and_round(const ForwardBlock& b, int key, int keys, int lane) {
  const PlainDropout& d = b.in.dropout;
  float* x = b.weights + lane;
  drop(x, b.width, d.seed, d.batch, d.head, d.query + b.first + lane, kLanes, key, keys, d.threshold);
  for (int j = 0; j < keys; j += 2, x += 2 * b.width) {
    const __m512 second = j + 1 < keys ? _mm512_loadu_ps(x + b.width) : _mm512_setzero_ps();
    _mm512_storeu_si512(b.probs + std::ptrdiff_t(j / 2) * b.width + lane,
                        interleave(round_both(_mm512_loadu_ps(x), second)));
  }
}
/// From logits to pairs of weights, lanes first .. last-1.
ATTUNE_X86_INLINE void weigh(const ForwardBlock& b, int key, int keys, int first, int last) {
  const bool drops = b.in.dropout.threshold < 65536;
  int c = first;
  for (; !drops && c + 4 * kLanes <= last; c += 4 * kLanes)
    exponentiate<4, false>(b.weights + c, keys, b.width, b.maximum + c, b.next + c, b.factor + c, b.sum + c,
                           b.probs + c);
  for (; !drops && c < last; c += kLanes)
    exponentiate<1, false>(b.weights + c, keys, b.width, b.maximum + c, b.next + c, b.factor + c, b.sum + c,
                           b.probs + c);
  for (; c < last; c += kLanes) {
    exponentiate<1, true>(b.weights + c, keys, b.width, b.maximum + c, b.next + c, b.factor + c, b.sum + c, nullptr);
    drop_and_round(b, key, keys, c);
  }
}

/// Packed rows of the values from the even `key` on.
ATTUNE_X86_INLINE const Pair* values_at(const ForwardBlock& b, int key) {
  return b.values + std::ptrdiff_t(key / 2) * b.in.value_dim;
}

/// Weights against the maximum that the rows have, whatever the tile holds, made while the logits are in registers.
/// False, and the sums as they were, if that lets a sum grow past 2^60 or is no number.
ATTUNE_X86_INLINE bool weigh_at_once(const ForwardBlock& b, int key, int keys) {
  const Bf16Forward& in = b.in;
  std::copy(b.sum, b.sum + b.width, b.next);
  product<Pairs::along_rows, Into::weights>(keys, b.width, in.head_dim / 2, bits(in.key) + key * in.key_stride,
                                            in.key_stride, b.queries, b.width, reinterpret_cast<float*>(b.probs),
                                            b.width, in.scale * kLog2E, b.sum, b.maximum);
  __mmask16 fits = 0xffff;
  for (int c = 0; c < b.width; c += kLanes)
    fits = __mmask16(fits & _mm512_cmp_ps_mask(_mm512_loadu_ps(b.sum + c), _mm512_set1_ps(0x1p60f), _CMP_LT_OQ));
  if (fits == 0xffff) return true;
  std::copy(b.next, b.next + b.width, b.sum);
  return false;
}

/// Keys that every query of the block sees.
ATTUNE_X86_INLINE void full_tile(const ForwardBlock& b, int key, int keys, bool first) {
  const Bf16Forward& in = b.in;
  const Bits* probs = reinterpret_cast<const Bits*>(b.probs);
  if (!first && in.dropout.threshold >= 65536 && weigh_at_once(b, key, keys)) {
    product<Pairs::along_columns, Into::add>(b.count, in.value_dim, (keys + 1) / 2, probs, 2 * b.width,
                                             values_at(b, key), in.value_dim, b.out, in.value_dim);
    return;
  }
  std::copy(b.maximum, b.maximum + b.width, b.next);
  product<Pairs::along_rows, Into::maximum>(keys, b.width, in.head_dim / 2, bits(in.key) + key * in.key_stride,
                                            in.key_stride, b.queries, b.width, b.weights, b.width, in.scale * kLog2E,
                                            b.next);
  weigh(b, key, keys, 0, b.width);
  if (first) {
    product<Pairs::along_columns, Into::overwrite>(b.count, in.value_dim, (keys + 1) / 2, probs, 2 * b.width,
                                                   values_at(b, key), in.value_dim, b.out, in.value_dim);
  } else {
    product<Pairs::along_columns, Into::rescale>(b.count, in.value_dim, (keys + 1) / 2, probs, 2 * b.width,
                                                 values_at(b, key), in.value_dim, b.out, in.value_dim, 1, b.factor);
  }
}

/// out of queries first .. last-1, pair by pair over what they see: a value that is not finite meets no weight of 0.
ATTUNE_X86_NOINLINE void add_visible_values(const ForwardBlock& b, int key, int keys, int from, int first, int last) {
  const Bf16Forward& in = b.in;
  const Bits* probs = reinterpret_cast<const Bits*>(b.probs);
  for (int i = first; i < last; ++i) {
    float* to = b.out + std::ptrdiff_t(i) * in.value_dim;
    const int seen = std::min(keys, i - from + 1);
    for (int d = 0; d < in.value_dim; ++d) {
      float sum = to[d] * b.factor[i];
      for (int j = 0; j < seen; ++j)
        sum += number(probs[(std::ptrdiff_t(j / 2) * b.width + i) * 2 + j % 2]) *
               number(bits(in.value)[(key + j) * in.value_stride + d]);
      to[d] = sum;
    }
  }
}

/// Keys of the diagonal, key j seen by the queries from j - position on. Hidden logits become -inf before the maximum
/// is taken.
ATTUNE_X86_INLINE void partial_tile(const ForwardBlock& b, int key, int keys) {
  const Bf16Forward& in = b.in;
  const int from = key - b.position;  // the first query that sees the first key; negative if all do
  const int first = strip_lane(from);
  const __m512 hidden = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  std::copy(b.maximum + first, b.maximum + b.width, b.next + first);
  for (int j0 = 0; j0 < keys; j0 += kLanes) {
    const int j1 = std::min(keys, j0 + kLanes), lane = strip_lane(from + j0);
    float* x = b.weights + std::ptrdiff_t(j0) * b.width + lane;
    product<Pairs::along_rows, Into::scaled>(j1 - j0, b.width - lane, in.head_dim / 2,
                                             bits(in.key) + (key + j0) * in.key_stride, in.key_stride, b.queries + lane,
                                             b.width, x, b.width, in.scale * kLog2E);
    for (int c = lane; c < b.width; c += kLanes) {
      __m512 top = _mm512_loadu_ps(b.next + c);
      for (int j = j0; j < j1; ++j) {
        float* at = b.weights + std::ptrdiff_t(j) * b.width + c;
        const __m512 logit = _mm512_mask_mov_ps(hidden, lanes_from(c, from + j), _mm512_loadu_ps(at));
        _mm512_storeu_ps(at, logit);
        top = _mm512_max_ps(top, logit);
      }
      _mm512_storeu_ps(b.next + c, top);
    }
  }
  const bool finite = rows_finite(bits(in.value) + key * in.value_stride, in.value_stride, keys, in.value_dim);
  for (int i = first; i < b.width; i += kLanes) {
    const int seen = std::min(keys, i + kLanes - from), last = std::min(b.count, i + kLanes);
    weigh(b, key, seen, i, i + kLanes);
    if (!finite) {
      add_visible_values(b, key, keys, from, i, last);
    } else {
      product<Pairs::along_columns, Into::rescale>(
          last - i, in.value_dim, (seen + 1) / 2, reinterpret_cast<const Bits*>(b.probs + i), 2 * b.width,
          values_at(b, key), in.value_dim, b.out + std::ptrdiff_t(i) * in.value_dim, in.value_dim, 1, b.factor + i);
    }
  }
}

/// Queries first .. first + count - 1 of the call; `b` has the packed values.
ATTUNE_X86_NOINLINE void forward_block(ForwardBlock& b, int first, int count) {
  const Bf16Forward& in = b.in;
  b.first = first;
  b.count = count;
  b.width = (count + kLanes - 1) / kLanes * kLanes;
  b.position = in.position + first;
  pack_lanes(bits(in.query) + first * in.query_stride, in.query_stride, count, in.head_dim, b.width, b.queries);
  // The lowest finite number, not -infinity: a row that has seen no key yet then has a factor of 2^0 and weights of
  // 2^(-infinity - lowest) = 0, without a NaN.
  std::fill(b.maximum, b.maximum + b.width, std::numeric_limits<float>::lowest());
  std::fill(b.sum, b.sum + b.width, 0.f);
  // The next block's queries, and rows of the next call's head, arrive while this block is computed.
  if (first + kBlock < in.queries) {
    fetch_rows(bits(in.query) + (first + kBlock) * in.query_stride, in.query_stride,
               std::min(kBlock, in.queries - first - kBlock), in.head_dim);
  } else if (in.next_query) {
    fetch_rows(bits(in.next_query), in.query_stride, std::min(kBlock, in.queries), in.head_dim);
    const int keys = std::min(128, in.num_keys);
    if (in.next_key) fetch_rows(bits(in.next_key), in.key_stride, keys, in.head_dim);
    if (in.next_value) fetch_rows(bits(in.next_value), in.value_stride, keys, in.value_dim);
  }
  const Visible visible = visible_keys(in.causal, b.position, count, in.num_keys);
  if (visible.full == 0) std::fill(b.out, b.out + std::ptrdiff_t(count) * in.value_dim, 0.f);
  for (int key = 0, keys = kFirstKeys; key < visible.full; key += keys, keys = kTileKeys)
    full_tile(b, key, std::min(keys, visible.full - key), key == 0);
  for (int key = visible.full; key < visible.end; key += kTileKeys)
    partial_tile(b, key, std::min(kTileKeys, visible.end - key));

  // A row that sees no key has sum 0: out 0 and lse -inf are chosen by its position, not computed.
  const int empty = visible.end == 0 ? count : in.causal ? std::clamp(-b.position, 0, count) : 0;
  for (int i = 0; i < b.width; i += kLanes) {
    const __m512 sum = _mm512_loadu_ps(b.sum + i);
    if (in.lse) {
      const __m512 lse = _mm512_mul_ps(_mm512_add_ps(_mm512_loadu_ps(b.maximum + i), log2(sum)), _mm512_set1_ps(kLn2));
      _mm512_mask_storeu_ps(in.lse + first + i, __mmask16(0xffffu >> std::max(0, i + kLanes - count)), lse);
    }
    _mm512_storeu_ps(b.factor + i, _mm512_div_ps(_mm512_set1_ps(1.0f), sum));
  }
  if (in.lse) std::fill(in.lse + first, in.lse + first + empty, -std::numeric_limits<float>::infinity());
  std::fill(b.factor, b.factor + empty, 0.f);
  for (int i = 0; i < count; ++i) {
    const __m512 inverse = _mm512_set1_ps(b.factor[i]);
    const float* from = b.out + std::ptrdiff_t(i) * in.value_dim;
    Bits* to = reinterpret_cast<Bits*>(in.out) + (first + i) * in.out_stride;
    for (int d = 0; d < in.value_dim; d += kLanes)
      store_half((__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(inverse, _mm512_loadu_ps(from + d))), to + d);
  }
}

ATTUNE_X86_NOINLINE void forward(const Bf16Forward& in, std::byte* workspace) {
  Pieces memory(workspace);
  ForwardBlock b = lay_out(in, memory);
  const int keys = visible_keys(in.causal, in.position, in.queries, in.num_keys).end;
  pack_pairs(bits(in.value), in.value_stride, keys, in.value_dim, (keys + 1) / 2, b.values);
  for (int i = 0; i < in.queries; i += kBlock) forward_block(b, i, std::min(kBlock, in.queries - i));
}

}  // namespace
}  // namespace attune::kernels::bf16
ATTUNE_X86_END
#endif

namespace attune::kernels {

bool bf16_attention_fits(int head_dim, int value_dim, float scale) {
  return cpu_uses_bf16() && head_dim % 16 == 0 && value_dim % 16 == 0 && scale > 0;
}

#if defined(__x86_64__)
std::size_t bf16_forward_workspace(int num_keys, int head_dim, int value_dim) {
  const Bf16Forward most{.num_keys = num_keys, .head_dim = head_dim, .value_dim = value_dim};
  bf16::Pieces memory(nullptr);
  bf16::lay_out(most, memory);
  return memory.bytes();
}
void bf16_forward(const Bf16Forward& in, std::byte* workspace) { bf16::forward(in, workspace); }
#else
std::size_t bf16_forward_workspace(int, int, int) { return 0; }
void bf16_forward(const Bf16Forward&, std::byte*) {
  fail("bf16_forward", "a processor with AVX-512 BF16", "got another architecture");
}
#endif

}  // namespace attune::kernels
