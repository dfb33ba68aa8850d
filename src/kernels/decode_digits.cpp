// Decoding over int8 in products of integers: VPDPBUSD multiplies 64 pairs of 8-bit integers and adds four neighbours
// each, four times the work of a float32 multiply-add, and nothing has to be widened.
//
// What is not int8 is cut into digits of 8 bits: a query row into q = step * (d0 2^16 + d1 2^8 + d2), the step a bit
// over 2^-23 of its largest number, and the weights of a tile, times the scale of each value, into digits from 0 on of
// a power of two below the largest. Sums of digits are exact; what is lost is 2^-24 of the largest number, as much as
// float32 loses of each. Queries of half types, whose own rounding is 2^-9 or 2^-12, take the first two digits.
//
//   logits   16 keys in the lanes: squares of 16 keys x 64 bytes are transposed, so that a lane holds four numbers of
//            one key, and the query's digits are spread; VPDPBUSD wants one side unsigned: keys + 128, less
//            128 * sum(digits), with which the sums begin
//   values   rows of four keys are interleaved, so that a lane holds four keys of one column
//
// The ladder, cycles of one core of a Zen 4 server a key of width 128 for four query rows, in cache:
//   decode.cpp: bytes widened to float32, 64 multiply-adds                        90
//   three digits, accumulators that g++ kept in memory                           101
//   the same in registers (the instruction in inline assembly)                    83
//   masks only at the end of a row, digits of queries and places of keys by runs  75
//   two digits, for half types                                                    56
#include "kernels/decode_walk.hpp"

#if defined(__x86_64__)
#include <cmath>
#include <cstring>
#include <limits>

#include "attune/base/cpu.hpp"
#include "kernels/x86-inl.h"

#define ATTUNE_DIGITS_TARGET target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")

ATTUNE_X86_BEGIN(ATTUNE_DIGITS_TARGET)
namespace attune::kernels::digits {
namespace {

using Number = std::int8_t;
constexpr int kLanes = 16, kKeys = kTileKeys<Number>, kBytes = 64;
constexpr int kMostWidth = 256;  // numbers of a row: sums of two digits stay below 2^31
constexpr int kMostRows = 4;

/// What a range needs beside its arrays.
template <int kRows, int kDigits>
struct Range {
  alignas(64) std::uint32_t keys[kMostWidth / 4][kKeys];  // four numbers + 128 of a key a lane
  std::uint32_t query[kMostWidth / 4][kRows][kDigits];    // four digits each, the highest first
  int begin[kRows][kDigits];                              // -128 * sum of the digits
  float step[kRows];
  alignas(64) float weights[kRows][kKeys];
  std::uint8_t weight_digits[kRows][kDigits][kKeys];
  float weight_step[kRows];
  alignas(64) float sum[kRows][kLanes];
  alignas(64) float out[kRows][kMostWidth];  // columns in the order of interleaved rows
};

/// sum += four products a lane, u unsigned and v signed. Assembly, since g++ 12 keeps two dozen accumulators of the
/// intrinsic in memory.
ATTUNE_X86_INLINE void add_products(__m512i& sum, __m512i u, __m512i v) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "v"(v));
}
using x86::spread;
using x86::transpose;
/// `some` of 64 bytes, 0 behind them; reads nothing past them. kWhole: all, a cheaper load.
template <bool kWhole>
ATTUNE_X86_INLINE __m512i load_bytes(const Number* p, __mmask64 some) {
  return kWhole ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8(some, p);
}
ATTUNE_X86_INLINE __mmask64 first_bytes(int count) { return (__mmask64(1) << count) - 1; }

/// 2^x as in vector-inl.h.
ATTUNE_X86_INLINE __m512 exp2(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __mmask16 large = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-200.0f), _CMP_NLT_UQ);
  const __m512 r = _mm512_sub_ps(x, n);
  __m512 p = _mm512_set1_ps(0.0013264727140072014f);
  for (float c : {0.009671512639956454f, 0.055507337434700856f, 0.2402224208537671f, 0.693146977598992f, 1.0f})
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
  return _mm512_maskz_scalef_ps(large, p, n);
}

/// Digits of the query rows; a row with a NaN or infinity gets a step of NaN, and all it finds will be NaN. False if
/// the numbers of a row are so small that there is no step.
template <int kRows, int kDigits>
bool cut_queries(const Decode<float>& in, DecodeRow<float>* const* row, Range<kRows, kDigits>& at) {
  constexpr float kMost = kDigits == 3 ? 8355711.f : 32639.f;  // 127 in every digit
  for (int r = 0; r < kRows; ++r) {
    const auto load = [&](int d) __attribute__((always_inline, ATTUNE_DIGITS_TARGET)) {
      return _mm512_maskz_loadu_ps(__mmask16(0xffffu >> std::max(0, d + kLanes - in.head_dim)), row[r]->query + d);
    };
    __m512 top = _mm512_setzero_ps();
    __mmask16 strange = 0;
    for (int d = 0; d < in.head_dim; d += kLanes) {
      const __m512 q = load(d);
      top = _mm512_max_ps(top, _mm512_abs_ps(q));
      strange = __mmask16(strange | _mm512_fpclass_ps_mask(q, 0x99));  // NaN and infinities
    }
    const float largest = _mm512_reduce_max_ps(top);
    if (!strange && largest > 0 && largest < 1e-30f) return false;
    const __m512 inverse = _mm512_set1_ps(!strange && largest > 0 ? kMost / largest : 0);
    at.step[r] = strange ? std::numeric_limits<float>::quiet_NaN() : largest / kMost;
    __m512i sum[kDigits] = {};
    for (int d = 0; d < in.head_dim; d += kLanes) {
      const __m512 x = _mm512_mul_ps(load(d), inverse);  // at most kMost but for a rounding
      __m512i rest = _mm512_cvtps_epi32(_mm512_max_ps(_mm512_set1_ps(-kMost), _mm512_min_ps(_mm512_set1_ps(kMost), x)));
      for (int k = kDigits - 1; k >= 0; --k) {  // from the lowest, each from -128 to 127
        const __m512i digit = _mm512_srai_epi32(_mm512_slli_epi32(rest, 24), 24);
        rest = _mm512_srai_epi32(_mm512_sub_epi32(rest, digit), 8);
        sum[k] = _mm512_add_epi32(sum[k], digit);
        std::uint32_t quads[4];
        _mm_storeu_si128(reinterpret_cast<__m128i*>(quads), _mm512_cvtepi32_epi8(digit));
        for (int i = 0; i < 4; ++i) at.query[d / 4 + i][r][k] = quads[i];
      }
    }
    for (int k = 0; k < kDigits; ++k) at.begin[r][k] = -128 * _mm512_reduce_add_epi32(sum[k]);
  }
  return true;
}

/// Sixteen keys x 64 bytes: a lane gets the same four bytes of each key.
template <bool kWhole>
ATTUNE_X86_INLINE void transpose_square(const DecodeTile<Number>& tile, int g, int column, __mmask64 some,
                                        std::uint32_t (*to)[kKeys]) {
  __m512i v[16];
  ATTUNE_X86_UNROLL for (int i = 0; i < 16; ++i) v[i] = load_bytes<kWhole>(tile.key[g + i] + column, some);
  transpose(v);
  ATTUNE_X86_UNROLL for (int i = 0; i < 16; ++i) {
    _mm512_store_si512(to[column / 4 + i] + g, _mm512_xor_si512(v[i], _mm512_set1_epi8(-128)));
  }
}
ATTUNE_X86_NOINLINE void transpose_keys(const DecodeTile<Number>& tile, int dim, std::uint32_t (*to)[kKeys]) {
  for (int g = 0; g < kKeys; g += kLanes) {  // row by row: the processor fetches along rows what is not there yet
    int c = 0;
    for (; c + kBytes <= dim; c += kBytes) transpose_square<true>(tile, g, c, 0, to);
    if (c < dim) transpose_square<false>(tile, g, c, first_bytes(dim - c), to);
  }
}

/// weights = query . key of a tile, times scales, asking for the next tile's keys meanwhile.
template <int kRows, int kDigits>
ATTUNE_X86_NOINLINE void dot_tile(Range<kRows, kDigits>& at, const DecodeTile<Number>& tile,
                                  const DecodeTile<Number>& next, int dim) {
  constexpr int kGroups = kRows == 1 ? 4 : 2;  // vectors of keys at a time
  const int quads = (dim + 3) / 4, lines = (dim + kBytes - 1) / kBytes;
  int asked = 0, line = 0;  // row by row, as memory likes it
  for (int g = 0; g < kKeys; g += kGroups * kLanes) {
    __m512i sum[kRows][kDigits][kGroups];
    ATTUNE_X86_UNROLL for (int r = 0; r < kRows; ++r) {
      ATTUNE_X86_UNROLL for (int k = 0; k < kDigits; ++k) {
        ATTUNE_X86_UNROLL for (int j = 0; j < kGroups; ++j) sum[r][k][j] = _mm512_set1_epi32(at.begin[r][k]);
      }
    }
    for (int quad = 0; quad < quads; ++quad) {
      ATTUNE_X86_UNROLL for (int j = 0; j < kGroups; ++j) {
        __builtin_prefetch(next.key[asked] + line * kBytes, 0, 2);
        if (++line == lines) line = 0, asked = std::min(asked + 1, kKeys - 1);
      }
      __m512i keys[kGroups];
      ATTUNE_X86_UNROLL for (int j = 0; j < kGroups; ++j) keys[j] = _mm512_load_si512(&at.keys[quad][g + j * kLanes]);
      ATTUNE_X86_UNROLL for (int r = 0; r < kRows; ++r) {
        ATTUNE_X86_UNROLL for (int k = 0; k < kDigits; ++k) {
          const __m512i q = spread(&at.query[quad][r][k]);
          ATTUNE_X86_UNROLL for (int j = 0; j < kGroups; ++j) add_products(sum[r][k][j], keys[j], q);
        }
      }
    }
    ATTUNE_X86_UNROLL for (int r = 0; r < kRows; ++r) {
      ATTUNE_X86_UNROLL for (int j = 0; j < kGroups; ++j) {
        const __m512i low = _mm512_add_epi32(_mm512_slli_epi32(sum[r][kDigits - 2][j], 8), sum[r][kDigits - 1][j]);
        __m512 x = _mm512_cvtepi32_ps(low);
        if constexpr (kDigits == 3) x = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][0][j]), _mm512_set1_ps(65536.f), x);
        const __m512 scale =
            _mm512_mul_ps(_mm512_set1_ps(at.step[r]), _mm512_loadu_ps(tile.key_scale + g + j * kLanes));
        _mm512_store_ps(at.weights[r] + g + j * kLanes, _mm512_mul_ps(x, scale));
      }
    }
  }
}

/// Logits become weights, and weights times scales of values digits; a row whose maximum grows is rescaled.
template <int kRows, int kDigits>
ATTUNE_X86_INLINE void weigh(Range<kRows, kDigits>& at, const DecodeTile<Number>& tile, DecodeRow<float>& row, int r,
                             int value_dim) {
  constexpr int kVectors = kKeys / kLanes;
  float* x = at.weights[r];
  for (int i = tile.keys; i < kKeys; ++i) x[i] = -std::numeric_limits<float>::infinity();  // no key: a weight of 0
  __m512 v[kVectors], top = _mm512_set1_ps(row.maximum);
  ATTUNE_X86_UNROLL for (int i = 0; i < kVectors; ++i) {
    v[i] = _mm512_load_ps(x + i * kLanes);
    top = _mm512_max_ps(top, v[i]);
  }
  __m512 sum = _mm512_load_ps(at.sum[r]);
  const float largest = _mm512_reduce_max_ps(top);
  if (largest > row.maximum) {  // rare after the first tiles
    const __m512 factor = exp2(_mm512_set1_ps(row.maximum - largest));
    row.maximum = largest;
    row.sum *= _mm512_cvtss_f32(factor);
    sum = _mm512_mul_ps(sum, factor);
    for (int d = 0; d < decode_padded(value_dim); d += kLanes)
      _mm512_storeu_ps(row.out + d, _mm512_mul_ps(factor, _mm512_loadu_ps(row.out + d)));
    for (int d = 0; d < value_dim; d += kBytes) {
      ATTUNE_X86_UNROLL for (int i = 0; i < kBytes; i += kLanes)
          _mm512_store_ps(at.out[r] + d + i, _mm512_mul_ps(factor, _mm512_load_ps(at.out[r] + d + i)));
    }
  }
  __m512 most = _mm512_setzero_ps();
  __mmask16 strange = 0;
  ATTUNE_X86_UNROLL for (int i = 0; i < kVectors; ++i) {
    const __m512 e = exp2(_mm512_sub_ps(v[i], _mm512_set1_ps(row.maximum)));
    sum = _mm512_add_ps(sum, e);
    v[i] = _mm512_mul_ps(e, _mm512_loadu_ps(tile.value_scale + i * kLanes));
    most = _mm512_max_ps(most, v[i]);
    strange = __mmask16(strange | _mm512_fpclass_ps_mask(v[i], 0x99));  // NaN and infinities
  }
  _mm512_store_ps(at.sum[r], sum);
  // 2^shift * most lies from 2^(bits - 1) to 2^bits; below the normal numbers nothing is left to cut.
  const __m512 exponent = _mm512_getexp_ps(_mm512_set1_ps(_mm512_reduce_max_ps(most)));
  const __m512 shift = _mm512_sub_ps(_mm512_set1_ps(8 * kDigits - 1), _mm512_max_ps(_mm512_set1_ps(-126.f), exponent));
  ATTUNE_X86_UNROLL for (int i = 0; i < kVectors; ++i) {
    const __m512i n = _mm512_cvtps_epi32(_mm512_scalef_ps(v[i], shift));
    ATTUNE_X86_UNROLL for (int k = 0; k < kDigits; ++k) {
      const __m128i digit = _mm512_cvtepi32_epi8(_mm512_srli_epi32(n, unsigned(8 * (kDigits - 1 - k))));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(at.weight_digits[r][k] + i * kLanes), digit);
    }
  }
  const __m512 step = _mm512_scalef_ps(_mm512_set1_ps(1.f), _mm512_sub_ps(_mm512_setzero_ps(), shift));
  at.weight_step[r] = strange ? std::numeric_limits<float>::quiet_NaN() : _mm512_cvtss_f32(step);
}

/// out += weights times values of a tile, asking for the next tile's values meanwhile. Columns of 64 at a time, of
/// which a turn takes the low or the high half of every 16 and gets two vectors of four keys a lane.
template <int kRows, int kDigits, bool kHigh, bool kWhole>
ATTUNE_X86_INLINE void add_half(Range<kRows, kDigits>& at, const DecodeTile<Number>& tile,
                                const DecodeTile<Number>& next, int column, __mmask64 some) {
  __m512i sum[kRows][kDigits][2];
  ATTUNE_X86_UNROLL for (int r = 0; r < kRows; ++r) {
    ATTUNE_X86_UNROLL for (int k = 0; k < kDigits; ++k) {
      ATTUNE_X86_UNROLL for (int j = 0; j < 2; ++j) sum[r][k][j] = _mm512_setzero_si512();
    }
  }
  for (int i = 0; i < kKeys; i += 4) {
    ATTUNE_X86_UNROLL for (int j = 0; j < 2; ++j) {
      __builtin_prefetch(next.value[i + 2 * int(kHigh) + j] + column, 0, 2);
    }
    __m512i v[4];
    ATTUNE_X86_UNROLL for (int j = 0; j < 4; ++j) v[j] = load_bytes<kWhole>(tile.value[i + j] + column, some);
    const __m512i a = kHigh ? _mm512_unpackhi_epi8(v[0], v[1]) : _mm512_unpacklo_epi8(v[0], v[1]);
    const __m512i b = kHigh ? _mm512_unpackhi_epi8(v[2], v[3]) : _mm512_unpacklo_epi8(v[2], v[3]);
    const __m512i values[2] = {_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b)};
    ATTUNE_X86_UNROLL for (int r = 0; r < kRows; ++r) {
      ATTUNE_X86_UNROLL for (int k = 0; k < kDigits; ++k) {
        const __m512i w = spread(at.weight_digits[r][k] + i);
        ATTUNE_X86_UNROLL for (int j = 0; j < 2; ++j) add_products(sum[r][k][j], w, values[j]);
      }
    }
  }
  ATTUNE_X86_UNROLL for (int r = 0; r < kRows; ++r) {
    ATTUNE_X86_UNROLL for (int j = 0; j < 2; ++j) {
      float* out = at.out[r] + column + (2 * int(kHigh) + j) * kLanes;
      const __m512i low = _mm512_add_epi32(_mm512_slli_epi32(sum[r][kDigits - 2][j], 8), sum[r][kDigits - 1][j]);
      __m512 x = _mm512_cvtepi32_ps(low);
      if constexpr (kDigits == 3) x = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][0][j]), _mm512_set1_ps(65536.f), x);
      _mm512_store_ps(out, _mm512_fmadd_ps(x, _mm512_set1_ps(at.weight_step[r]), _mm512_load_ps(out)));
    }
  }
}
template <int kRows, int kDigits>
ATTUNE_X86_NOINLINE void add_tile(Range<kRows, kDigits>& at, const DecodeTile<Number>& tile,
                                  const DecodeTile<Number>& next, int dim) {
  int c = 0;
  for (; c + kBytes <= dim; c += kBytes) {
    add_half<kRows, kDigits, false, true>(at, tile, next, c, 0);
    add_half<kRows, kDigits, true, true>(at, tile, next, c, 0);
  }
  if (c < dim) {
    add_half<kRows, kDigits, false, false>(at, tile, next, c, first_bytes(dim - c));
    add_half<kRows, kDigits, true, false>(at, tile, next, c, first_bytes(dim - c));
  }
}

template <int kRows, int kDigits>
ATTUNE_X86_NOINLINE bool decode(const Decode<float>& in, DecodeRow<float>* const* row, std::int64_t begin,
                                std::int64_t end) {
  Range<kRows, kDigits> at;
  if (!cut_queries(in, row, at)) return false;
  const int padded = (in.value_dim + kBytes - 1) / kBytes * kBytes;
  for (int r = 0; r < kRows; ++r) {
    std::fill(at.sum[r], at.sum[r] + kLanes, 0.f);
    std::fill(at.out[r], at.out[r] + padded, 0.f);
  }
  DecodeWalk<Number> walk(in.rows, begin, end);
  DecodeWalk<Number> after =
      end < in.end ? DecodeWalk<Number>(in.rows, end, in.end) : DecodeWalk<Number>(in.next, in.next_begin, in.next_end);
  DecodeTile<Number> tiles[2];
  int now = 0;
  for (bool more = walk.next(tiles[0]); more; now = 1 - now) {
    more = walk.next(tiles[1 - now]);
    const DecodeTile<Number>& tile = tiles[now];
    const DecodeTile<Number>& next = more || after.next(tiles[1 - now]) ? tiles[1 - now] : tile;
    transpose_keys(tile, in.head_dim, at.keys);
    dot_tile(at, tile, next, in.head_dim);
    for (int r = 0; r < kRows; ++r) weigh(at, tile, *row[r], r, in.value_dim);
    add_tile(at, tile, next, in.value_dim);
  }
  // Vector z of 64 columns holds, in block b of four lanes, columns 16 b + 4 z and on.
  for (int r = 0; r < kRows; ++r) {
    for (int d = 0; d < in.value_dim; ++d)
      row[r]->out[d] += at.out[r][d / 64 * 64 + d % 16 / 4 * 16 + d % 64 / 16 * 4 + d % 4];
    row[r]->sum += _mm512_reduce_add_ps(_mm512_load_ps(at.sum[r]));
  }
  return true;
}

}  // namespace
}  // namespace attune::kernels::digits
ATTUNE_X86_END
#endif

namespace attune::kernels {

bool decode_digits([[maybe_unused]] const Decode<float>& in, [[maybe_unused]] DecodeRow<float>* const* row,
                   [[maybe_unused]] int rows, [[maybe_unused]] std::int64_t begin, [[maybe_unused]] std::int64_t end) {
#if defined(__x86_64__)
  if (!cpu_uses_vnni() || in.head_dim > digits::kMostWidth || in.value_dim > digits::kMostWidth) return false;
  if (rows == 1)
    return in.half_queries ? digits::decode<1, 2>(in, row, begin, end) : digits::decode<1, 3>(in, row, begin, end);
  if (rows == digits::kMostRows)
    return in.half_queries ? digits::decode<4, 2>(in, row, begin, end) : digits::decode<4, 3>(in, row, begin, end);
#endif
  return false;
}

}  // namespace attune::kernels
