// What the forward and the backward on bfloat16 pairs share: the product of pairs, the three ways to pack pairs, powers
// of two and which keys a block sees. Intrinsics, because Debian 12's Highway has no product of bfloat16 pairs;
// included only where the compiler targets x86-64, in sources that check the processor at run time.
//
// A pair is 32 bits, two neighbours along the axis that a product sums over, the first in the low half. One instruction
// adds both products to 16 sums of float32. K and V lie in pairs along their width as they are (S = K Q^T, dP = V
// dout^T); for sums over keys or queries rows 2j and 2j + 1 are interleaved first (pack_pairs), and what stands in the
// lanes is transposed in pairs (pack_lanes).
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "attune/base/dtype.hpp"
#include "kernels/x86-inl.h"

// What functions of this file and of the sources that include it are compiled for.
#define ATTUNE_BF16_TARGET target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")

ATTUNE_X86_BEGIN(ATTUNE_BF16_TARGET)
namespace attune::kernels::bf16 {

using Bits = std::uint16_t;  // one bfloat16
using Pair = std::uint32_t;

constexpr int kLanes = 16;
constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

ATTUNE_X86_INLINE const Bits* bits(const BFloat16* x) { return reinterpret_cast<const Bits*>(x); }
ATTUNE_X86_INLINE float number(Bits b) {
  const std::uint32_t u = std::uint32_t(b) << 16;
  float f;
  std::memcpy(&f, &u, sizeof(f));
  return f;
}
using x86::spread;  // of a pair

/// 2^x, relative error at most 9e-5, a twentieth of the rounding of what it becomes, and of either sign, so that sums
/// of many are better; exactly 1 at 0 and 0 at -infinity, NaN stays NaN. 2^x = 2^floor(x) p(r), r = x - floor(x), p the
/// minimax polynomial with p(0) = 1: `reduce` is x - floor(x) (0 for infinities), `scalef` takes the floor itself.
ATTUNE_X86_INLINE __m512 exp2(__m512 x) {
  const __m512 r = _mm512_reduce_ps(x, 0x09);
  __m512 p = _mm512_set1_ps(0.07706704207f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.2276449911f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.6951167864f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, x);
}

/// log2 of positive normal numbers: x = 2^e (1 + t), t in [-1/4, 1/2], log2(1 + t) = t q(t) to 2e-7 of itself.
ATTUNE_X86_INLINE __m512 log2(__m512 x) {
  const __m512 e = _mm512_getexp_ps(_mm512_mul_ps(x, _mm512_set1_ps(4.0f / 3.0f)));
  const __m512 t = _mm512_sub_ps(_mm512_scalef_ps(x, _mm512_sub_ps(_mm512_setzero_ps(), e)), _mm512_set1_ps(1.0f));
  constexpr float kC[] = {1.442695253f,  -0.721350626f,  0.4808468614f, -0.3603389254f,
                          0.2900976029f, -0.2506281780f, 0.2038797113f, -0.09588237834f};
  __m512 q = _mm512_set1_ps(kC[7]);
  ATTUNE_X86_UNROLL for (int i = 6; i >= 0; --i) q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(kC[i]));
  return _mm512_fmadd_ps(t, q, e);
}

/// The two vectors rounded to bfloat16: a in the low half, b in the high half.
ATTUNE_X86_INLINE __m512i round_both(__m512 a, __m512 b) { return (__m512i)_mm512_cvtne2ps_pbh(b, a); }
/// From round_both(a, b) to pairs (a[i], b[i]).
ATTUNE_X86_INLINE __m512i interleave(__m512i both) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, both);
}

/// What happens to c.
enum class Into {
  overwrite,  // c = ab
  scaled,     // c = factor * ab
  maximum,    // c = factor * ab, and extra[n] = max(extra[n], c[m][n]) over all m
  rescale,    // c = c * extra[m] + ab
  add,        // c = c + factor * ab
  weights     // c = 2^(factor * ab - reference[n]) as pairs of two rows, and extra[n] += their sum; a missing row is 0
};

/// How the pairs of a lie: those of one row side by side (K of S = K Q^T), or those of one column (P of out = P V).
enum class Pairs { along_rows, along_columns };

/// Keeps the compiler from deriving an address from others: g++ makes a dozen of these two and spills them.
template <class T>
ATTUNE_X86_INLINE void own_register(T*& p) {
  asm("" : "+r"(p));
}

/// kRows x kVectors registers of c. Every third row of `along_rows` has a pointer; the address of the other two is
/// that pointer and once or twice the stride.
template <int kRows, int kVectors, Pairs kPairs, Into kInto>
ATTUNE_X86_INLINE void product_block(int k, const Bits* a, std::ptrdiff_t stride, const Pair* b, std::ptrdiff_t bk,
                                     float* c, std::ptrdiff_t cm, float factor, float* extra,
                                     [[maybe_unused]] const float* reference) {
  constexpr bool kAlong = kPairs == Pairs::along_rows;
  constexpr int kPointers = kAlong ? (kRows + 2) / 3 : 1;
  __m512 sum[kRows][kVectors];
  ATTUNE_X86_UNROLL for (int i = 0; i < kRows; ++i) {
    ATTUNE_X86_UNROLL for (int j = 0; j < kVectors; ++j) {
      if constexpr (kInto == Into::rescale) {
        sum[i][j] = _mm512_mul_ps(_mm512_set1_ps(extra[i]), _mm512_loadu_ps(c + i * cm + j * kLanes));
      } else {
        sum[i][j] = _mm512_setzero_ps();
      }
    }
  }
  const Bits* from[kPointers];
  ATTUNE_X86_UNROLL for (int g = 0; g < kPointers; ++g) from[g] = a + 3 * g * stride;
  const auto step = [&](int u) __attribute__((always_inline, ATTUNE_BF16_TARGET)) {
    __m512i row[kVectors];
    own_register(b);
    ATTUNE_X86_UNROLL for (int j = 0; j < kVectors; ++j) row[j] = _mm512_loadu_si512(b + j * kLanes);
    b += bk;
    ATTUNE_X86_UNROLL for (int i = 0; i < kRows; ++i) {
      const __m512i x = spread(kAlong ? from[i / 3] + i % 3 * stride + 2 * u : from[0] + 2 * i);
      ATTUNE_X86_UNROLL for (int j = 0; j < kVectors; ++j) {
        sum[i][j] = _mm512_dpbf16_ps(sum[i][j], (__m512bh)x, (__m512bh)row[j]);
      }
    }
    if constexpr (!kAlong) from[0] += stride;
  };
  // Four steps a turn: a loop of 32 turns or more ends in a wrong guess of the branch, once per block.
  int e = 0;
  for (; e + 4 <= k; e += 4) {
    ATTUNE_X86_UNROLL for (int g = 0; g < kPointers; ++g) own_register(from[g]);
    ATTUNE_X86_UNROLL for (int u = 0; u < 4; ++u) step(u);
    if constexpr (kAlong) {
      ATTUNE_X86_UNROLL for (int g = 0; g < kPointers; ++g) from[g] += 8;
    }
  }
  for (; e < k; ++e) {
    step(0);
    if constexpr (kAlong) {
      ATTUNE_X86_UNROLL for (int g = 0; g < kPointers; ++g) from[g] += 2;
    }
  }
  const __m512 times = _mm512_set1_ps(factor);
  ATTUNE_X86_UNROLL for (int j = 0; j < kVectors; ++j) {
    if constexpr (kInto == Into::weights) {
      const __m512 from_reference = _mm512_loadu_ps(reference + j * kLanes);
      __m512 total = _mm512_loadu_ps(extra + j * kLanes);
      ATTUNE_X86_UNROLL for (int i = 0; i < kRows; i += 2) {
        const __m512 low = exp2(_mm512_fmsub_ps(times, sum[i][j], from_reference));
        const __m512 high = i + 1 < kRows
                                ? exp2(_mm512_fmsub_ps(times, sum[i + 1 < kRows ? i + 1 : i][j], from_reference))
                                : _mm512_setzero_ps();
        total = _mm512_add_ps(total, _mm512_add_ps(low, high));
        _mm512_storeu_si512(c + i / 2 * cm + j * kLanes, interleave(round_both(low, high)));
      }
      _mm512_storeu_ps(extra + j * kLanes, total);
      continue;
    }
    __m512 top;
    if constexpr (kInto == Into::maximum) top = _mm512_loadu_ps(extra + j * kLanes);
    ATTUNE_X86_UNROLL for (int i = 0; i < kRows; ++i) {
      float* to = c + i * cm + j * kLanes;
      if constexpr (kInto == Into::maximum || kInto == Into::scaled) sum[i][j] = _mm512_mul_ps(times, sum[i][j]);
      if constexpr (kInto == Into::maximum) top = _mm512_max_ps(top, sum[i][j]);
      if constexpr (kInto == Into::add) sum[i][j] = _mm512_fmadd_ps(times, sum[i][j], _mm512_loadu_ps(to));
      _mm512_storeu_ps(to, sum[i][j]);
    }
    if constexpr (kInto == Into::maximum) _mm512_storeu_ps(extra + j * kLanes, top);
  }
}

/// All m rows of kVectors columns of vectors: full blocks, then 4, 2 and 1 rows. Each sum is taken in the order of k,
/// so that no cut along m or n changes a bit.
template <int kVectors, Pairs kPairs, Into kInto>
ATTUNE_X86_NOINLINE void product_columns(int m, int k, const Bits* a, std::ptrdiff_t stride, const Pair* b,
                                         std::ptrdiff_t bk, float* c, std::ptrdiff_t cm, float factor, float* extra,
                                         const float* reference) {
  constexpr int kRows = kVectors == 4 ? 6 : kVectors == 1 ? 12 : 8;
  int i = 0;
#define ATTUNE_BF16_ROWS(rows)                                                                                       \
  product_block<rows, kVectors, kPairs, kInto>(k, a + i * (kPairs == Pairs::along_rows ? stride : 2), stride, b, bk, \
                                               c + (kInto == Into::weights ? i / 2 : i) * cm, cm, factor,            \
                                               kInto == Into::rescale ? extra + i : extra, reference)
  for (; i + kRows <= m; i += kRows) ATTUNE_BF16_ROWS(kRows);
  for (; i + 4 <= m; i += 4) ATTUNE_BF16_ROWS(4);
  for (; i + 2 <= m; i += 2) ATTUNE_BF16_ROWS(2);
  if (i < m) ATTUNE_BF16_ROWS(1);
#undef ATTUNE_BF16_ROWS
}

/// c[m][n] (+)= a b over k pairs: pair e of row i of a is at a[i * stride + 2 e] (along_rows) or a[2 i + e * stride]
/// (along_columns), in bfloat16 numbers; row e of b is at b[e * bk], in pairs; n is a multiple of 16. extra: maximum
/// [n] or scale of rows [m].
template <Pairs kPairs, Into kInto>
ATTUNE_X86_INLINE void product(int m, int n, int k, const Bits* a, std::ptrdiff_t stride, const Pair* b,
                               std::ptrdiff_t bk, float* c, std::ptrdiff_t cm, float factor = 1, float* extra = nullptr,
                               const float* reference = nullptr) {
  for (int j = 0; j < n;) {
    const int vectors = (n - j) / kLanes;
    // Two even halves rather than a full block and a thin one: thin blocks wait for loads.
    const int take = vectors <= 4 ? vectors : vectors < 8 ? (vectors + 1) / 2 : 4;
    float* x = kInto == Into::maximum || kInto == Into::weights ? extra + j : extra;
    const float* y = kInto == Into::weights ? reference + j : nullptr;
    if (take == 1) product_columns<1, kPairs, kInto>(m, k, a, stride, b + j, bk, c + j, cm, factor, x, y);
    if (take == 2) product_columns<2, kPairs, kInto>(m, k, a, stride, b + j, bk, c + j, cm, factor, x, y);
    if (take == 3) product_columns<3, kPairs, kInto>(m, k, a, stride, b + j, bk, c + j, cm, factor, x, y);
    if (take == 4) product_columns<4, kPairs, kInto>(m, k, a, stride, b + j, bk, c + j, cm, factor, x, y);
    j += take * kLanes;
  }
}

/// to[r][c] = (x[2r][c], x[2r + 1][c]) for r < pairs; rows from `rows` on count as 0. cols is a multiple of 16.
ATTUNE_X86_NOINLINE void pack_pairs(const Bits* x, std::ptrdiff_t stride, int rows, int cols, int pairs, Pair* to) {
  const __m512i zero = _mm512_setzero_si512();
  for (int r = 0; r < pairs; ++r, to += cols) {
    const Bits* low = x + 2 * r * stride;
    const Bits* high = low + stride;
    for (int c = 0; c < cols; c += kLanes) {
      const __m512i a =
          2 * r < rows ? _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(low + c))) : zero;
      const __m512i b = 2 * r + 1 < rows
                            ? _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(high + c)))
                            : zero;
      _mm512_storeu_si512(to + c, _mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
    }
  }
}

/// to[c][r] = (x[r][2c], x[r][2c + 1]) for r < width, a multiple of 16; rows from `rows` on count as 0. cols is even.
ATTUNE_X86_NOINLINE void pack_lanes(const Bits* x, std::ptrdiff_t stride, int rows, int cols, int width, Pair* to) {
  for (int r0 = 0; r0 < width; r0 += kLanes) {
    for (int c0 = 0; c0 < cols / 2; c0 += kLanes) {
      const int count = std::min(kLanes, cols / 2 - c0);
      const __mmask16 some = __mmask16((1u << count) - 1);
      __m512i v[kLanes];
      ATTUNE_X86_UNROLL for (int i = 0; i < kLanes; ++i) {
        v[i] = r0 + i < rows ? _mm512_maskz_loadu_epi32(some, x + (r0 + i) * stride + 2 * c0) : _mm512_setzero_si512();
      }
      x86::transpose(v);
      ATTUNE_X86_UNROLL for (int i = 0; i < kLanes; ++i) {
        if (i < count) _mm512_storeu_si512(to + std::ptrdiff_t(c0 + i) * width + r0, v[i]);
      }
    }
  }
}

ATTUNE_X86_INLINE void store_half(__m256i v, Bits* to) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v); }

/// Lanes of the vector whose first lane is `first` that are not before `from`.
ATTUNE_X86_INLINE __mmask16 lanes_from(int first, int from) {
  const int skip = std::clamp(from - first, 0, kLanes);
  return __mmask16(0xffffu << skip);
}

/// True if rows x cols numbers hold no NaN and no infinity: no exponent is all ones. cols is a multiple of 16.
ATTUNE_X86_NOINLINE bool rows_finite(const Bits* x, std::ptrdiff_t stride, int rows, int cols) {
  const __m256i exponent = _mm256_set1_epi16(0x7f80);
  for (int r = 0; r < rows; ++r) {
    __mmask16 any = 0;
    for (int c = 0; c < cols; c += kLanes) {
      const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + r * stride + c));
      any = __mmask16(any | _mm256_cmpeq_epi16_mask(_mm256_and_si256(v, exponent), exponent));
    }
    if (any) return false;
  }
  return true;
}

/// What a block of queries sees: keys before `full` by all of them, keys up to `end` by some. Where there is a
/// diagonal, `full` is rounded down to whole strips of 16.
struct Visible {
  int full, end;
};
ATTUNE_X86_INLINE Visible visible_keys(bool causal, int position, int queries, int num_keys) {
  if (!causal || position >= num_keys - 1) return {num_keys, num_keys};
  const std::int64_t end = std::int64_t(position) + queries;
  return {position < 0 ? 0 : (position + 1) / kLanes * kLanes, int(end < 0 ? 0 : end < num_keys ? end : num_keys)};
}
/// The first query, rounded down to strips, that sees key `from` places after the first query's own.
ATTUNE_X86_INLINE int strip_lane(int from) { return from > 0 ? from / kLanes * kLanes : 0; }

/// Asks for n rows of `width` numbers, which something soon reads one line after the other.
ATTUNE_X86_INLINE void fetch_rows(const Bits* x, std::ptrdiff_t stride, int n, int width) {
  for (int r = 0; r < n; ++r) {
    const char* row = reinterpret_cast<const char*>(x + r * stride);
    for (int at = 0; at < 2 * width; at += 64) _mm_prefetch(row + at, _MM_HINT_T1);
  }
}

/// Takes pieces of a workspace, each at a multiple of 64 bytes.
class Pieces {
 public:
  /// Without memory: counts bytes.
  explicit Pieces(std::byte* memory) : begin_(reinterpret_cast<std::uintptr_t>(memory)), at_(begin_) {}
  template <class T>
  T* take(std::ptrdiff_t n) {
    T* piece = reinterpret_cast<T*>(at_);
    at_ += (std::uintptr_t(n) * sizeof(T) + 63) / 64 * 64;
    return piece;
  }
  std::size_t bytes() const { return at_ - begin_; }

 private:
  std::uintptr_t begin_, at_;
};

}  // namespace attune::kernels::bf16
ATTUNE_X86_END
