// One walk over the keys, tile by tile: logits of a tile, weights, sums of values; the rows of the tiles to come are
// asked for meanwhile, evenly spread over the products. Lanes run along the head's width, which is how keys and values
// lie; what a vector widens serves all rows. int8 goes over products of integers where there are any
// (decode_digits.cpp).
//
// The ladder: 32 query heads over 8 x 8192 keys of 128, one core of a Zen 4 server, huge pages, as a share of what the
// same core reads from memory (30 GB/s) for the bytes of the stored type. Prototypes for this one shape, float32:
//   four heads of a key head share what is loaded; logits of 64 keys, then values      0.39  each half waits for memory
//   the other half is prefetched meanwhile, into L2                                    0.53  into L1 0.32: too few
//   slots four streams instead of one; 8 keys a step instead of 64                           0.86 the prefetch again,
//   now of the next step                                           0.91
// Any width, any stored type, blocks:                       float32, bfloat16, float16, int8; cycles a key in cache
//   8 keys a step, logits before the values of the last step   0.70     0.49     0.49     0.25   125
//   tiles of 16 keys (64 of narrower numbers, which want one
//   stream only), each half in a loop of its own               0.66     0.60     0.60     0.36    93
//   two tiles ahead and a second request for the nearer one;
//   the first tile of what comes next                          0.73     0.65     0.65     0.37    90
// 64 of the cycles are multiply-adds of four rows with a key and a value; narrow types are bound by them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/decode.cpp"
#include "kernels/decode.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/decode_walk.hpp"
#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// Keys after which rows that do not fit into registers together take turns: their keys and values stay in L2.
constexpr std::int64_t kPiece = 256;

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif

/// A full vector of T from storage.
template <class T>
HWY_INLINE Vec<T> widen(const T* p) {
  return load(p);
}
template <class T>
HWY_INLINE Vec<T> widen(const hwy::bfloat16_t* p) {
  return hn::PromoteTo(Lanes<T>(), hn::LoadU(hn::Rebind<hwy::bfloat16_t, Lanes<T>>(), p));
}
template <class T>
HWY_INLINE Vec<T> widen(const hwy::float16_t* p) {
  return hn::PromoteTo(Lanes<T>(), hn::LoadU(hn::Rebind<hwy::float16_t, Lanes<T>>(), p));
}
template <class T>
HWY_INLINE Vec<T> widen(const std::int8_t* p) {
  const hn::RebindToSigned<Lanes<T>> whole;
  return hn::ConvertTo(Lanes<T>(), hn::PromoteTo(whole, hn::LoadU(hn::Rebind<std::int8_t, Lanes<T>>(), p)));
}
/// The first n lanes, 0 elsewhere; reads nothing past them.
template <class T, class S>
HWY_INLINE Vec<T> widen_first(const S* p, int n) {
  S buffer[HWY_LANES(T)] = {};
  std::copy(p, p + n, buffer);
  return widen<T>(buffer);
}

/// The tile at work and those that are fetched meanwhile.
template <class S>
struct Turn {
  const DecodeTile<S>& tile;
  const DecodeTile<S>*
      ahead[kAhead<S>];  // the furthest first; the nearer ones again, since a busy processor drops requests
};
/// Asks for the line of memory at `offset` in the row of key i of the tiles ahead, into L2.
template <bool kKeys, class S>
HWY_INLINE void fetch(const Turn<S>& turn, int i, std::ptrdiff_t offset) {
  ATTUNE_UNROLL for (const DecodeTile<S>* ahead : turn.ahead) {
    __builtin_prefetch((kKeys ? ahead->key : ahead->value)[i] + offset, 0, 2);
  }
}

/// sums[i] = sum over the lanes of v[i], by interleaving instead of four horizontal sums.
HWY_INLINE void sum_four(const Vec<float> (&v)[4], float* sums) {
#if HWY_TARGET != HWY_SCALAR
  const Lanes<float> d;
  const hn::Repartition<double, Lanes<float>> pairs;
  const Vec<float> a = hn::Add(hn::InterleaveLower(d, v[0], v[1]), hn::InterleaveUpper(d, v[0], v[1]));
  const Vec<float> b = hn::Add(hn::InterleaveLower(d, v[2], v[3]), hn::InterleaveUpper(d, v[2], v[3]));
  const auto low = hn::InterleaveLower(pairs, hn::BitCast(pairs, a), hn::BitCast(pairs, b));
  const auto high = hn::InterleaveUpper(pairs, hn::BitCast(pairs, a), hn::BitCast(pairs, b));
  const Vec<float> blocks = hn::Add(hn::BitCast(d, low), hn::BitCast(d, high));  // each a part of the four sums
#if HWY_TARGET == HWY_AVX3
  const auto half = hn::Add(hn::LowerHalf(blocks), hn::UpperHalf(hn::Half<Lanes<float>>(), blocks));
  const hn::FixedTag<float, 4> four;
  hn::StoreU(hn::Add(hn::LowerHalf(half), hn::UpperHalf(four, half)), four, sums);
#elif HWY_TARGET == HWY_AVX2
  const hn::FixedTag<float, 4> four;
  hn::StoreU(hn::Add(hn::LowerHalf(blocks), hn::UpperHalf(four, blocks)), four, sums);
#else
  hn::StoreU(blocks, d, sums);
#endif
#else
  for (int i = 0; i < 4; ++i) sums[i] = hn::GetLane(v[i]);
#endif
}
HWY_INLINE void sum_four(const Vec<double> (&v)[4], double* sums) {
  for (int i = 0; i < 4; ++i) sums[i] = hn::GetLane(hn::SumOfLanes(Lanes<double>(), v[i]));
}

#if HWY_TARGET == HWY_AVX3
/// The same for four rows at once: sums[r * step + i] = sum over the lanes of v[r][i].
HWY_INLINE void sum_sixteen(const Vec<float> (&v)[4][4], float* sums, int step) {
  const Lanes<float> d;
  const hn::Repartition<double, Lanes<float>> pairs;
  __m512 row[4];
  ATTUNE_UNROLL for (int r = 0; r < 4; ++r) {
    const Vec<float> a = hn::Add(hn::InterleaveLower(d, v[r][0], v[r][1]), hn::InterleaveUpper(d, v[r][0], v[r][1]));
    const Vec<float> b = hn::Add(hn::InterleaveLower(d, v[r][2], v[r][3]), hn::InterleaveUpper(d, v[r][2], v[r][3]));
    const auto low = hn::InterleaveLower(pairs, hn::BitCast(pairs, a), hn::BitCast(pairs, b));
    const auto high = hn::InterleaveUpper(pairs, hn::BitCast(pairs, a), hn::BitCast(pairs, b));
    row[r] = hn::Add(hn::BitCast(d, low), hn::BitCast(d, high)).raw;
  }
  const auto fold = [](__m512 a, __m512 b) HWY_ATTR {  // even blocks of both plus odd blocks of both
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  };
  const __m512 all = fold(fold(row[0], row[1]), fold(row[2], row[3]));
  _mm_storeu_ps(sums, _mm512_castps512_ps128(all));
  _mm_storeu_ps(sums + step, _mm512_extractf32x4_ps(all, 1));
  _mm_storeu_ps(sums + 2 * step, _mm512_extractf32x4_ps(all, 2));
  _mm_storeu_ps(sums + 3 * step, _mm512_extractf32x4_ps(all, 3));
}
#endif

/// x[r][i] = query row r . key i for the four keys from `first` on, asking for the same rows of the tiles ahead.
template <int kRows, class T, class S>
HWY_INLINE void dot_four(const T* const* query, const Turn<S>& turn, int first, int dim, T* x) {
  constexpr int kL = kLaneCount<T>, kAtOnce = kRegisters == 32 || kRows < 2 ? kRows : 2, kLine = int(64 / sizeof(S)),
                kStep = kTileKeys<S>;
  const S* const* key = turn.tile.key + first;
  ATTUNE_UNROLL for (int r0 = 0; r0 < kRows; r0 += kAtOnce) {
    Vec<T> sum[kAtOnce][4];
    ATTUNE_UNROLL for (int r = 0; r < kAtOnce; ++r) { ATTUNE_UNROLL for (int i = 0; i < 4; ++i) sum[r][i] = zero<T>(); }
    const auto add = [&](auto read, auto read_query, int c) HWY_ATTR {
      Vec<T> lanes[4];
      ATTUNE_UNROLL for (int i = 0; i < 4; ++i) lanes[i] = read(key[i] + c);
      ATTUNE_UNROLL for (int r = 0; r < kAtOnce; ++r) {
        const Vec<T> q = read_query(query[r0 + r] + c);
        ATTUNE_UNROLL for (int i = 0; i < 4; ++i) sum[r][i] = hn::MulAdd(q, lanes[i], sum[r][i]);
      }
    };
    int c = 0;
    const auto whole = [&](int at) HWY_ATTR {
      if (r0 == 0 && (kL >= kLine || at % kLine == 0)) {
        ATTUNE_UNROLL for (int i = 0; i < 4; ++i) fetch<true>(turn, first + i, at);
      }
      add([](const S* p) HWY_ATTR { return widen<T>(p); }, [](const T* p) HWY_ATTR { return load(p); }, at);
    };
    for (; c + 4 * kL <= dim; c += 4 * kL) {
      ATTUNE_UNROLL for (int u = 0; u < 4; ++u) whole(c + u * kL);
    }
    for (; c + kL <= dim; c += kL) whole(c);
    if (c < dim) {
      add([&](const S* p) HWY_ATTR { return widen_first<T>(p, dim - c); },
          [&](const T* p) HWY_ATTR { return load_first(p, dim - c); }, c);
    }
#if HWY_TARGET == HWY_AVX3
    if constexpr (kAtOnce == 4 && sizeof(T) == 4) {
      sum_sixteen(sum, x + first, kStep);
      return;
    }
#endif
    ATTUNE_UNROLL for (int r = 0; r < kAtOnce; ++r) sum_four(sum[r], x + (r0 + r) * kStep + first);
  }
}
/// Logits of a tile, x [kRows][kTileKeys].
template <int kRows, class T, class S>
HWY_NOINLINE void dot_tile(const T* const* query, const Turn<S>& turn, int dim, T* x) {
  for (int first = 0; first < turn.tile.keys; first += 4) dot_four<kRows>(query, turn, first, dim, x);
}

/// out[r][column ...] += sum over the keys of weight[r][key] * value[key], kVectors vectors wide, asking for the same
/// of the tiles ahead. kPart: one vector, of which `last` numbers exist.
template <int kRows, int kVectors, bool kPart, class T, class S>
HWY_INLINE void add_columns(T* const* out, const Turn<S>& turn, const T* weight, int column, int last) {
  constexpr int kL = kLaneCount<T>, kLine = int(64 / sizeof(S)), kStep = kTileKeys<S>;
  Vec<T> sum[kRows][kVectors];
  ATTUNE_UNROLL for (int r = 0; r < kRows; ++r) {
    ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) sum[r][j] = load(out[r] + column + j * kL);
  }
  const bool begins = column % kLine == 0;  // a line of memory that no column before has asked for
  for (int k = 0; k < turn.tile.keys; ++k) {
    const S* value = turn.tile.value[k] + column;
    if (kVectors * kL >= kLine || begins) {
      ATTUNE_UNROLL for (int j = 0; j < kVectors * kL; j += kLine) fetch<false>(turn, k, column + j);
    }
    Vec<T> lanes[kVectors];
    ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) {
      lanes[j] = kPart ? widen_first<T>(value + j * kL, last) : widen<T>(value + j * kL);
    }
    ATTUNE_UNROLL for (int r = 0; r < kRows; ++r) {
      const Vec<T> w = set(weight[r * kStep + k]);
      ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) sum[r][j] = hn::MulAdd(w, lanes[j], sum[r][j]);
    }
  }
  ATTUNE_UNROLL for (int r = 0; r < kRows; ++r) {
    ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) store(sum[r][j], out[r] + column + j * kL);
  }
}
template <int kRows, class T, class S>
HWY_NOINLINE void add_tile(T* const* out, const Turn<S>& turn, const T* weight, int dim) {
  constexpr int kL = kLaneCount<T>, kMost = kRows == 1 ? 8 : kRegisters == 32 ? 4 : 2;
  int c = 0;
  for (; c + kMost * kL <= dim; c += kMost * kL) add_columns<kRows, kMost, false>(out, turn, weight, c, 0);
  for (; c + kL <= dim; c += kL) add_columns<kRows, 1, false>(out, turn, weight, c, 0);
  if (c < dim) add_columns<kRows, 1, true>(out, turn, weight, c, dim - c);
}

/// Logits x of a tile become weights 2^(x - maximum); a row whose maximum grows has its sum and out rescaled. A NaN
/// among the logits may hide the largest one, but makes the row NaN anyway.
template <class T, class S>
HWY_INLINE void weigh(const DecodeTile<S>& tile, DecodeRow<T>& row, T* x, T* sum, int value_dim) {
  constexpr int kL = kLaneCount<T>, kKeys = kTileKeys<S>, kAtOnce = kKeys / kL <= 4 ? kKeys / kL : 4;
  for (int i = tile.keys; i < kKeys; ++i) x[i] = -std::numeric_limits<T>::infinity();  // no key: a weight of 0
  Vec<T> top = set(row.maximum);
  for (int i = 0; i < kKeys; i += kAtOnce * kL) {
    ATTUNE_UNROLL for (int v = i; v < i + kAtOnce * kL; v += kL) {
      Vec<T> logit = load(x + v);
      if constexpr (sizeof(S) == 1) store(logit = hn::Mul(logit, load(tile.key_scale + v)), x + v);
      top = hn::Max(top, logit);
    }
  }
  const T largest = hn::GetLane(hn::MaxOfLanes(Lanes<T>(), top));
  if (largest > row.maximum) {  // rare after the first tiles
    const Vec<T> factor = exp2(set(row.maximum - largest));
    row.maximum = largest;
    store(hn::Mul(load(sum), factor), sum);
    row.sum *= hn::GetLane(factor);
    for (int d = 0; d < value_dim; d += kL) store(hn::Mul(load(row.out + d), factor), row.out + d);
  }
  const Vec<T> maximum = set(row.maximum);
  Vec<T> total = load(sum);
  for (int i = 0; i < kKeys; i += kAtOnce * kL) {
    ATTUNE_UNROLL for (int v = i; v < i + kAtOnce * kL; v += kL) {
      Vec<T> e = exp2(hn::Sub(load(x + v), maximum));
      total = hn::Add(total, e);
      if constexpr (sizeof(S) == 1) e = hn::Mul(e, load(tile.value_scale + v));
      store(e, x + v);
    }
  }
  store(total, sum);
}

/// kRows rows over keys begin .. end - 1, all of which all of them see.
template <int kRows, class T, class S>
HWY_INLINE void decode_range(const Decode<T>& in, DecodeRow<T>* const* row, std::int64_t begin, std::int64_t end) {
#if HWY_TARGET == HWY_AVX3
  if constexpr (sizeof(S) == 1) {
    if (decode_digits(in, row, kRows, begin, end)) return;
  }
#endif
  constexpr int kL = kLaneCount<T>, kRing = kAhead<S> + 1;
  HWY_ALIGN T weights[kRows * kTileKeys<S>], sum[kRows * kL];
  const T* query[kRows];
  T* out[kRows];
  for (int r = 0; r < kRows; ++r) query[r] = row[r]->query, out[r] = row[r]->out;
  std::fill(sum, sum + kRows * kL, T(0));
  DecodeWalk<S> walk(in.rows, begin, end);
  DecodeWalk<S> after =
      end < in.end ? DecodeWalk<S>(in.rows, end, in.end) : DecodeWalk<S>(in.next, in.next_begin, in.next_end);
  const std::int64_t tiles = walk.tiles();
  DecodeTile<S> ring[kRing];
  const auto fill = [&](std::int64_t i) HWY_ATTR {
    if (!walk.next(ring[i % kRing]) && !after.next(ring[i % kRing])) ring[i % kRing] = ring[(i + kRing - 1) % kRing];
  };
  for (int i = 0; i < kAhead<S>; ++i) fill(i);
  for (std::int64_t i = 0; i < tiles; ++i) {
    fill(i + kAhead<S>);
    Turn<S> turn{ring[i % kRing], {}};
    for (int a = 0; a < kAhead<S>; ++a) turn.ahead[a] = &ring[(i + kAhead<S> - a) % kRing];
    dot_tile<kRows>(query, turn, in.head_dim, weights);
    for (int r = 0; r < kRows; ++r) {
      weigh<T, S>(turn.tile, *row[r], weights + r * kTileKeys<S>, sum + r * kL, in.value_dim);
    }
    add_tile<kRows>(out, turn, weights, in.value_dim);
  }
  for (int r = 0; r < kRows; ++r) row[r]->sum += hn::GetLane(hn::SumOfLanes(Lanes<T>(), load(sum + r * kL)));
}

/// One row over its own range within begin .. end - 1.
template <class T, class S>
HWY_NOINLINE void decode_row(const Decode<T>& in, DecodeRow<T>* row, std::int64_t begin, std::int64_t end) {
  begin = std::max(begin, row->begin), end = std::min(end, row->end);
  if (begin < end) decode_range<1, T, S>(in, &row, begin, end);
}

/// Two to four rows: together over what all of them see, then each over what is left of its own range.
template <class T, class S>
HWY_NOINLINE void decode_four(const Decode<T>& in, DecodeRow<T>* row, int rows, std::int64_t begin, std::int64_t end) {
  std::int64_t first = begin, last = end;
  for (int r = 0; r < rows; ++r) first = std::max(first, row[r].begin), last = std::min(last, row[r].end);
  if (first < last) {
    DecodeRow<T> unused[4];  // a row that is not there repeats the first one; what it finds is dropped
    DecodeRow<T>* four[4];
    std::fill(in.spare, in.spare + decode_padded(in.value_dim), T(0));
    for (int r = 0; r < 4; ++r) {
      unused[r] = row[0];
      unused[r].out = in.spare;
      four[r] = r < rows ? row + r : unused + r;
    }
    decode_range<4, T, S>(in, four, first, last);
  } else {
    first = last = end;
  }
  for (int r = 0; r < rows; ++r) {
    decode_row<T, S>(in, row + r, begin, first);
    decode_row<T, S>(in, row + r, last, end);
  }
}

template <class T, class S>
HWY_INLINE void decode_stored(const Decode<T>& in) {
  for (int r = 0; r < in.num_rows; ++r) {
    DecodeRow<T>& row = in.row[r];
    std::fill(row.out, row.out + decode_padded(in.value_dim), T(0));
    row.maximum = std::numeric_limits<T>::lowest();
    row.sum = 0;
  }
  const std::int64_t piece = in.num_rows > 4 ? kPiece : in.end - in.begin;
  for (std::int64_t begin = in.begin; begin < in.end; begin += piece) {
    const std::int64_t end = std::min(in.end, begin + piece);
    for (int r = 0; r < in.num_rows; r += 4) {
      const int rows = std::min(4, in.num_rows - r);
      if (rows > 1 && sizeof(T) == 4) {
        if constexpr (sizeof(T) == 4) decode_four<T, S>(in, in.row + r, rows, begin, end);
      } else {
        for (int i = 0; i < rows; ++i) decode_row<T, S>(in, in.row + r + i, begin, end);
      }
    }
  }
}

void decode_f32(const Decode<float>& in) {
  switch (in.rows.stored) {
    case Stored::bfloat16:
      return decode_stored<float, hwy::bfloat16_t>(in);
    case Stored::float16:
      return decode_stored<float, hwy::float16_t>(in);
    case Stored::int8:
      return decode_stored<float, std::int8_t>(in);
    default:
      return decode_stored<float, float>(in);
  }
}
void decode_f64(const Decode<double>& in) { decode_stored<double, double>(in); }

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

void decode(const Decode<float>& in) { ATTUNE_DISPATCH(decode_f32)(in); }
void decode(const Decode<double>& in) { ATTUNE_DISPATCH(decode_f64)(in); }

template <class T>
T merge_decoded(const DecodeRow<T>* const* parts, int num_parts, int value_dim, T* out) {
  std::fill(out, out + value_dim, T(0));
  T top = -std::numeric_limits<T>::infinity(), sum = 0;
  for (int p = 0; p < num_parts; ++p) {
    const DecodeRow<T>& part = *parts[p];
    if (part.sum == T(0)) continue;  // saw no key: its maximum means nothing
    // A NaN sum must stay: only a comparison that is true may move the maximum.
    const T next = part.maximum > top ? part.maximum : top;
    const T old = sum == T(0) ? T(0) : std::exp2(top - next), factor = std::exp2(part.maximum - next);
    for (int d = 0; d < value_dim; ++d) out[d] = out[d] * old + part.out[d] * factor;
    sum = sum * old + part.sum * factor;
    top = next;
  }
  if (sum == T(0)) return -std::numeric_limits<T>::infinity();
  const T inverse = T(1) / sum;
  for (int d = 0; d < value_dim; ++d) out[d] *= inverse;
  return top * T(0.69314718055994530942) + std::log(sum);
}
template float merge_decoded(const DecodeRow<float>* const*, int, int, float*);
template double merge_decoded(const DecodeRow<double>* const*, int, int, double*);

}  // namespace attune::kernels
#endif
