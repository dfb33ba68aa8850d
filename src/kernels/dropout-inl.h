// Dropout of tiles in vectors: the bits of base/dropout.hpp. A 64-bit lane holds one query's counter word in its
// lower half; what a product leaves in the upper half is ignored by the next product, so a round of Philox costs two
// multiplications, two shifts and four xors for each vector of queries, and one block of 128 bits serves eight keys.
// Included once per target.
#if defined(ATTUNE_KERNELS_DROPOUT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_DROPOUT_INL_H_
#undef ATTUNE_KERNELS_DROPOUT_INL_H_
#else
#define ATTUNE_KERNELS_DROPOUT_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "attune/base/rng.hpp"
#include "kernels/dropout.hpp"
#include "kernels/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
using Lanes64 = hn::ScalableTag<std::uint64_t>;
using Vec64 = hn::Vec<Lanes64>;

struct Words {
  Vec64 word[4];
};

/// The block of `keys8` = key / 8 for one query per 64-bit lane.
HWY_INLINE Words philox7(const Dropped& at, Vec64 query, std::uint32_t keys8) {
  const Lanes64 d;
  const hn::Repartition<std::uint32_t, Lanes64> d32;
  const auto m0 = hn::Set(d32, 0xD2511F53u), m1 = hn::Set(d32, 0xCD9E8D57u);
  Words c{{query, hn::Set(d, keys8), hn::Set(d, at.head), hn::Set(d, at.batch)}};
  ATTUNE_UNROLL for (int round = 0; round < 7; ++round) {
    const Vec64 a = hn::MulEven(hn::BitCast(d32, c.word[0]), m0), b = hn::MulEven(hn::BitCast(d32, c.word[2]), m1);
    const Vec64 zeroth = hn::Xor(hn::Xor(hn::ShiftRight<32>(b), c.word[1]), hn::Set(d, at.key[2 * round]));
    const Vec64 second = hn::Xor(hn::Xor(hn::ShiftRight<32>(a), c.word[3]), hn::Set(d, at.key[2 * round + 1]));
    c = Words{{zeroth, b, second, a}};
  }
  return c;
}

/// Lane indices of T's vector, from `first` on, as 32-bit words per lane of T: for float two vectors of 64-bit lanes
/// (even and odd queries), interleaved at the end; for double one.
HWY_INLINE void random_words(const Dropped& at, std::uint32_t query, std::uint32_t keys8, float,
                             hn::Vec<hn::RebindToUnsigned<Lanes<float>>> (&word)[4]) {
  const Lanes64 d;
  const hn::RebindToUnsigned<Lanes<float>> d32;
  const Vec64 even = hn::Add(hn::Set(d, query), hn::ShiftLeft<1>(hn::Iota(d, 0))), odd = hn::Add(even, hn::Set(d, 1));
  const Words e = philox7(at, even, keys8), o = philox7(at, odd, keys8);
  ATTUNE_UNROLL for (int w = 0; w < 4; ++w) {
    word[w] = hn::OddEven(hn::BitCast(d32, hn::ShiftLeft<32>(o.word[w])), hn::BitCast(d32, e.word[w]));
  }
}
HWY_INLINE void random_words(const Dropped& at, std::uint32_t query, std::uint32_t keys8, double, Vec64 (&word)[4]) {
  const Lanes64 d;
  const Words r = philox7(at, hn::Add(hn::Set(d, query), hn::Iota(d, 0)), keys8);
  ATTUNE_UNROLL for (int w = 0; w < 4; ++w) { word[w] = hn::And(r.word[w], hn::Set(d, 0xffffffffu)); }
}

/// One vector of queries (the first n lanes) over all keys.
template <bool kWhole, class T>
HWY_INLINE void drop_lanes(T* x, std::ptrdiff_t stride, const Dropped& at, std::uint32_t query, int n, int key0,
                           int keys) {
  const hn::RebindToUnsigned<Lanes<T>> du;
  const hn::RebindToSigned<Lanes<T>> di;
  using U = hn::TFromD<decltype(du)>;
  const auto threshold = hn::BitCast(di, hn::Set(du, U(at.threshold)));
  const Vec<T> scale = set(T(65536.0 / at.threshold));
  hn::Vec<decltype(du)> word[4];
  for (int first = key0 / 8 * 8; first < key0 + keys; first += 8) {
    random_words(at, query, std::uint32_t(first) / 8, T(0), word);
    ATTUNE_UNROLL for (int e = 0; e < 8; ++e) {
      const int j = first + e - key0;
      if (j < 0 || j >= keys) continue;
      // The half word is below 65536, so a signed comparison serves.
      const auto bits = e % 2 ? hn::ShiftRight<16>(word[e / 2]) : hn::And(word[e / 2], hn::Set(du, U(0xffff)));
      const auto stays = hn::RebindMask(Lanes<T>(), hn::Lt(hn::BitCast(di, bits), threshold));
      T* p = x + j * stride;
      if constexpr (kWhole) {
        store(hn::IfThenElseZero(stays, hn::Mul(load(p), scale)), p);
      } else {
        store_first<T>(hn::IfThenElseZero(stays, hn::Mul(load_first(p, n), scale)), p, n);
      }
    }
  }
}
#endif

template <class T>
HWY_INLINE void drop_tile(T* x, std::ptrdiff_t stride, const Dropped& at, int query0, int queries, int key0, int keys) {
#if HWY_TARGET == HWY_SCALAR
  const T scale = T(65536.0 / at.threshold);
  for (int i = 0; i < queries; ++i) {
    for (int first = key0 / 8 * 8; first < key0 + keys; first += 8) {
      const PhiloxCounter block = philox<7>({std::uint32_t(query0 + i), std::uint32_t(first) / 8, at.head, at.batch},
                                            {std::uint32_t(at.seed), std::uint32_t(at.seed >> 32)});
      for (int key = std::max(first, key0); key < std::min(first + 8, key0 + keys); ++key) {
        const std::uint32_t bits = (block[std::size_t(key % 8 / 2)] >> (16 * (key % 2))) & 0xffffu;
        T& value = x[(key - key0) * stride + i];
        value = bits < at.threshold ? value * scale : T(0);
      }
    }
  }
#else
  constexpr int kL = kLaneCount<T>;
  int i = 0;
  for (; i + kL <= queries; i += kL) drop_lanes<true>(x + i, stride, at, std::uint32_t(query0 + i), kL, key0, keys);
  if (i < queries) drop_lanes<false>(x + i, stride, at, std::uint32_t(query0 + i), queries - i, key0, keys);
#endif
}

/// Which pairs are kept, as bits of rows[j]; queries <= 64.
HWY_INLINE void kept_tile(std::uint64_t* rows, const Dropped& at, int query0, int queries, int key0, int keys) {
#if HWY_TARGET == HWY_SCALAR
  for (int j = 0; j < keys; ++j) rows[j] = 0;
  for (int i = 0; i < queries; ++i) {
    for (int first = key0 / 8 * 8; first < key0 + keys; first += 8) {
      const PhiloxCounter block = philox<7>({std::uint32_t(query0 + i), std::uint32_t(first) / 8, at.head, at.batch},
                                            {std::uint32_t(at.seed), std::uint32_t(at.seed >> 32)});
      for (int key = std::max(first, key0); key < std::min(first + 8, key0 + keys); ++key) {
        const std::uint32_t bits = (block[std::size_t(key % 8 / 2)] >> (16 * (key % 2))) & 0xffffu;
        rows[key - key0] |= std::uint64_t(bits < at.threshold) << i;
      }
    }
  }
#else
  constexpr int kL = kLaneCount<float>;
  const hn::RebindToUnsigned<Lanes<float>> du;
  const hn::RebindToSigned<Lanes<float>> di;
  const auto threshold = hn::BitCast(di, hn::Set(du, at.threshold));
  hn::Vec<decltype(du)> word[4];
  for (int i = 0; i < queries; i += kL) {
    for (int first = key0 / 8 * 8; first < key0 + keys; first += 8) {
      random_words(at, std::uint32_t(query0 + i), std::uint32_t(first) / 8, 0.0f, word);
      ATTUNE_UNROLL for (int e = 0; e < 8; ++e) {
        const int j = first + e - key0;
        if (j < 0 || j >= keys) continue;
        const auto bits = e % 2 ? hn::ShiftRight<16>(word[e / 2]) : hn::And(word[e / 2], hn::Set(du, 0xffffu));
        std::uint8_t stays[8] = {};
        hn::StoreMaskBits(di, hn::Lt(hn::BitCast(di, bits), threshold), stays);
        std::uint64_t lanes;
        std::memcpy(&lanes, stays, 8);
        rows[j] = i == 0 ? lanes : rows[j] | lanes << i;
      }
    }
  }
#endif
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
