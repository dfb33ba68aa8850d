// Gumbel noise in vectors: g = -log(-log u), u = (word + 1/2) / 2^32, words of Philox 4x32-10. Included once per
// target.
//
// A 64-bit lane holds one query's counter word in its lower half; what a product leaves in the upper half is ignored by
// the next product, so a round costs two multiplications, two shifts and four xors for each vector of queries, and one
// block serves four keys. Of the first three rounds most depends on the query alone and is kept while the keys pass.
//
// Ladder, multiply-adds' time for 16 pairs of 64 queries (AVX-512, Zen 4; plain attention of width 64: 135 forward).
// What there is to compute keeps the multipliers busy for 32:
//   loops in C++ under target attributes, logarithms by a division, both branches of the first one      120
//   words and noise of a vector at once, logarithms by a polynomial                                      73
//   what most of the first three rounds have in common is kept                                           66
//   four vectors side by side in the logarithms, so that none waits for itself                           58
//   two vectors of queries side by side in the rounds                                                    52
//   the polynomial in pairs                                                                              46
#if defined(ATTUNE_KERNELS_GUMBEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_GUMBEL_INL_H_
#undef ATTUNE_KERNELS_GUMBEL_INL_H_
#else
#define ATTUNE_KERNELS_GUMBEL_INL_H_
#endif

#include <algorithm>

#include "attune/base/rng.hpp"
#include "kernels/bias_tile.hpp"
#include "kernels/columns-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

using Words32 = hn::Vec<hn::RebindToUnsigned<Lanes<float>>>;

/// f = log(1 + f) for |f| <= 1/3, relative error at most 1e-7: f + f^2 q(f), q a minimax fit.
template <int kN>
HWY_INLINE void log_one_plus(Vec<float> (&f)[kN]) {
  constexpr float kC[] = {-0.499999374f, 0.333331972f, -0.250078171f, 0.200111613f,
                          -0.16415973f,  0.13995941f,  -0.15388468f,  0.140257001f};
  ATTUNE_UNROLL for (int w = 0; w < kN; ++w) {
    const Vec<float> s = hn::Mul(f[w], f[w]);
    const Vec<float> a = hn::MulAdd(set(kC[1]), f[w], set(kC[0])), b = hn::MulAdd(set(kC[3]), f[w], set(kC[2]));
    const Vec<float> c = hn::MulAdd(set(kC[5]), f[w], set(kC[4])), e = hn::MulAdd(set(kC[7]), f[w], set(kC[6]));
    const Vec<float> q = hn::MulAdd(hn::MulAdd(hn::MulAdd(e, s, c), s, b), s, a);
    f[w] = hn::MulAdd(s, q, f[w]);
  }
}
/// x = 2^k (1 + f) with 1 + f in [2/3, 4/3), x positive and normal. Returns k.
HWY_INLINE Vec<float> split(Vec<float> x, Vec<float>& f) {
  const hn::RebindToSigned<Lanes<float>> di;
  const auto bits = hn::BitCast(di, x);
  const auto power = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(di, 0x3f2aaaab)));  // the bits of 2/3
  f = hn::Sub(hn::BitCast(Lanes<float>(), hn::Sub(bits, hn::ShiftLeft<23>(power))), set(1.0f));
  return hn::ConvertTo(Lanes<float>(), power);
}
/// log(-log u); the noise is the negative.
template <int kN>
HWY_INLINE void log_minus_log(const Words32 (&word)[kN], Vec<float> (&y)[kN]) {
  const Lanes<float> d;
  const Vec<float> unit = set(0x1p-32f), half = set(0x1p-33f), log2 = set(0.693147181f);
  Vec<float> k[kN];
  ATTUNE_UNROLL for (int w = 0; w < kN; ++w) {
    k[w] = split(hn::MulAdd(hn::ConvertTo(d, word[w]), unit, half), y[w]);
    // Near 1, where the largest noise comes from, log u is taken from 1 - u, which is exact.
    const Vec<float> rest = hn::MulAdd(hn::ConvertTo(d, hn::Not(word[w])), unit, half);
    const auto near = hn::Lt(rest, set(1.0f / 3));
    y[w] = hn::IfThenElse(near, hn::Neg(rest), y[w]);
    k[w] = hn::IfThenZeroElse(near, k[w]);
  }
  log_one_plus(y);
  ATTUNE_UNROLL for (int w = 0; w < kN; ++w) k[w] = split(hn::NegMulSub(k[w], log2, y[w]), y[w]);
  log_one_plus(y);
  ATTUNE_UNROLL for (int w = 0; w < kN; ++w) y[w] = hn::MulAdd(k[w], log2, y[w]);
}

#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void gumbel_tile(float* x, std::ptrdiff_t stride, int keys, int queries, const NoiseAt& at, float inverse) {
  for (int i = 0; i < queries; ++i) {
    for (int j = 0; j < keys;) {
      const std::uint32_t key = std::uint32_t(at.key + j);
      const PhiloxCounter words =
          philox({std::uint32_t(at.query + i), key / 4, std::uint32_t(at.head), std::uint32_t(at.batch)},
                 {std::uint32_t(at.round_key[0]), std::uint32_t(at.round_key[1])});
      for (std::uint32_t w = key % 4; w < 4 && j < keys; ++w, ++j) {
        const Words32 word[1] = {hn::Set(hn::RebindToUnsigned<Lanes<float>>(), words[w])};
        Vec<float> y[1];
        log_minus_log(word, y);
        float& s = x[j * stride + i];
        s = (s - hn::GetLane(y[0])) * inverse;
      }
    }
  }
}
#else
using Lanes64 = hn::ScalableTag<std::uint64_t>;
using Vec64 = hn::Vec<Lanes64>;

/// Counter words of one query per 64-bit lane on their way through the rounds.
struct Philox10 {
  const std::uint64_t* key;  // of the rounds, two each
  std::uint64_t head, batch;
  // Of the queries alone: word 3 after round 1, word 1 after round 2, M0 times word 0 after round 2.
  Vec64 third, first, product;

  static constexpr std::uint64_t kM0 = 0xD2511F53u, kM1 = 0xCD9E8D57u;
  static HWY_INLINE Vec64 times(Vec64 word, std::uint64_t m) {
    const hn::Repartition<std::uint32_t, Lanes64> d32;
    return hn::MulEven(hn::BitCast(d32, word), hn::Set(d32, std::uint32_t(m)));
  }
  /// The upper half of a product, and two words.
  static HWY_INLINE Vec64 mix(Vec64 product, Vec64 word, std::uint64_t round_key) {
    return hn::Xor(hn::Xor(hn::ShiftRight<32>(product), word), hn::Set(Lanes64(), round_key));
  }
  HWY_INLINE Philox10(const NoiseAt& at, Vec64 query)
      : key(at.round_key), head(std::uint32_t(at.head)), batch(std::uint32_t(at.batch)) {
    third = times(query, kM0);
    first = times(mix(third, hn::Set(Lanes64(), batch), key[1]), kM1);
    product = times(mix(first, hn::Set(Lanes64(), head * kM1), key[2]), kM0);
  }
  Philox10() = default;
  /// The block of key / 4 = keys4 after three rounds.
  HWY_INLINE void begin(std::uint64_t keys4, Vec64 (&word)[4]) const {
    const Lanes64 d;
    const std::uint64_t begun = std::uint32_t((head * kM1 >> 32) ^ keys4 ^ key[0]) * kM0;  // of word 0 after round 1
    const Vec64 b = times(mix(hn::Set(d, begun), third, key[3]), kM1);
    word[0] = mix(b, first, key[4]);
    word[1] = b;
    word[2] = mix(product, hn::Set(d, begun), key[5]);
    word[3] = product;
  }
  /// One round more.
  static HWY_INLINE void step(const std::uint64_t* round_key, Vec64 (&word)[4]) {
    const Vec64 p = times(word[0], kM0), q = times(word[2], kM1);
    word[0] = mix(q, word[1], round_key[0]);
    word[1] = q;
    word[2] = mix(p, word[3], round_key[1]);
    word[3] = p;
  }
};

/// x = (x + noise) * inverse, one or two vectors of queries over all keys.
template <class C>
HWY_NOINLINE void gumbel_columns(C c, float* x, std::ptrdiff_t stride, int keys, const NoiseAt& at, float inverse) {
  constexpr int kCount = C::kCount, kL = kLaneCount<float>;
  const Lanes64 d;
  const hn::RebindToUnsigned<Lanes<float>> d32;
  const Vec64 query = hn::Add(hn::Set(d, std::uint64_t(at.query + c.first)), hn::ShiftLeft<1>(hn::Iota(d, 0)));
  Philox10 even[kCount], odd[kCount];
  ATTUNE_UNROLL for (int v = 0; v < kCount; ++v) {
    even[v] = Philox10(at, hn::Add(query, hn::Set(d, std::uint64_t(v * kL))));
    odd[v] = Philox10(at, hn::Add(query, hn::Set(d, std::uint64_t(v * kL + 1))));
  }
  const Vec<float> factor = set(inverse);
  for (int block = at.key / 4; block * 4 < at.key + keys; ++block) {
    Words32 word[kCount][4];
    {
      Vec64 draws[2 * kCount][4];
      ATTUNE_UNROLL for (int v = 0; v < kCount; ++v) {
        even[v].begin(std::uint64_t(block), draws[2 * v]);
        odd[v].begin(std::uint64_t(block), draws[2 * v + 1]);
      }
      ATTUNE_UNROLL for (int round = 3; round < 10; ++round) {
        ATTUNE_UNROLL for (int v = 0; v < 2 * kCount; ++v) Philox10::step(at.round_key + 2 * round, draws[v]);
      }
      ATTUNE_UNROLL for (int v = 0; v < kCount; ++v) {
        ATTUNE_UNROLL for (int w = 0; w < 4; ++w) {
          word[v][w] =
              hn::OddEven(hn::BitCast(d32, hn::ShiftLeft<32>(draws[2 * v + 1][w])), hn::BitCast(d32, draws[2 * v][w]));
        }
      }
    }
    const int first = block * 4 - at.key;
    ATTUNE_UNROLL for (int v = 0; v < kCount; ++v) {
      Vec<float> y[4];
      log_minus_log(word[v], y);
      if (first >= 0 && first + 4 <= keys) {
        ATTUNE_UNROLL for (int w = 0; w < 4; ++w) {
          float* row = x + (first + w) * stride;
          c.write(hn::Mul(hn::Sub(c.read(row, v), y[w]), factor), row, v);
        }
      } else {
        for (int w = std::max(0, -first); w < std::min(4, keys - first); ++w) {
          float* row = x + (first + w) * stride;
          c.write(hn::Mul(hn::Sub(c.read(row, v), y[w]), factor), row, v);
        }
      }
    }
  }
}
HWY_INLINE void gumbel_tile(float* x, std::ptrdiff_t stride, int keys, int queries, const NoiseAt& at, float inverse) {
  constexpr int kL = kLaneCount<float>;
  int i = 0;
  for (; i + 2 * kL <= queries; i += 2 * kL)
    gumbel_columns(Columns<float, 2, false>{i, kL}, x, stride, keys, at, inverse);
  for (; i + kL <= queries; i += kL) gumbel_columns(Columns<float, 1, false>{i, kL}, x, stride, keys, at, inverse);
  if (i < queries) gumbel_columns(Columns<float, 1, true>{i, queries - i}, x, stride, keys, at, inverse);
}
#endif

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
