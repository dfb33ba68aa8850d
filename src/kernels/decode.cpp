// One walk over the keys in steps of eight: two neighbours from each of four places of the range, so that eight
// sequential streams (four of keys, four of values) run through memory at a time and the processor's own prefetching
// never pauses. While a step's logits are computed, its values are asked for; while values are added, the next keys
// are. Logits of a step come before the values of the step before, so that the softmax's chain of latencies runs beside
// products. Lanes run along the head's width, which is how keys and values lie.
//
// The ladder: 32 query heads over 8 x 8192 keys of 128 in float32, one core of a Zen 4 server, huge pages, as a share
// of what the same core reads from memory (30 GB/s). The first five are a prototype for this one shape.
//   four heads of a key head share what is loaded; logits of 64 keys, then values      0.39  each half waits for memory
//   the other half is prefetched meanwhile, into L2                                    0.53  into L1 0.32: too few
//   slots four streams instead of one                                                        0.67 8 keys a step instead
//   of 64: both halves flow at all times                         0.86 the prefetch again, now of the next step 0.91 any
//   width, any stored type, blocks                                                 0.67 logits of a step before the
//   values of the last one                                 0.77 keys asked for two steps ahead instead of one, four
//   vectors of logits a turn       0.84
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/decode.cpp"
#include "kernels/decode.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// Places of the range that are walked at a time.
constexpr int kStreams = 4;
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

/// A place among the tokens: where the rows of the next one are.
template <class S>
struct Stream {
  const S *key, *value;
  const float *key_scale, *value_scale;  // int8 only
  std::int64_t block, left;              // tokens of this block from here on

  HWY_INLINE void seek(const DecodeRows& rows, std::int64_t token) {
    block = token / rows.block_tokens;
    enter(rows, token % rows.block_tokens);
  }
  HWY_INLINE void enter(const DecodeRows& rows, std::int64_t row) {
    const std::byte *keys = rows.keys[block], *values = rows.values[block];
    left = rows.block_tokens - row;
    key = reinterpret_cast<const S*>(keys + rows.key_offset + row * rows.key_stride);
    value = reinterpret_cast<const S*>(values + rows.value_offset + row * rows.value_stride);
    if constexpr (sizeof(S) == 1) {
      key_scale = reinterpret_cast<const float*>(keys + rows.key_scales) + row;
      value_scale = reinterpret_cast<const float*>(values + rows.value_scales) + row;
    }
  }
  HWY_INLINE void copy(const S** to_key, const S** to_value, [[maybe_unused]] float* to_key_scale,
                       [[maybe_unused]] float* to_value_scale) const {
    *to_key = key, *to_value = value;
    if constexpr (sizeof(S) == 1) *to_key_scale = *key_scale, *to_value_scale = *value_scale;
  }
  HWY_INLINE void next(std::ptrdiff_t key_step, std::ptrdiff_t value_step) {
    key += key_step, value += value_step, --left;
    if constexpr (sizeof(S) == 1) ++key_scale, ++value_scale;
  }
};

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
/// The same for four rows at once: sums[4 r + i] = sum over the lanes of v[r][i], one store instead of four.
HWY_INLINE void sum_sixteen(const Vec<float> (&v)[4][4], float* sums) {
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
  store(Vec<float>{fold(fold(row[0], row[1]), fold(row[2], row[3]))}, sums);
}
#endif

/// sums[4 r + i] = query row r . key i, asking for the rows `ahead` meanwhile.
template <int kRows, class T, class S>
HWY_INLINE void dot_four(const T* const* query, const S* const* key, const S* const* ahead, int dim, T* sums) {
  constexpr int kL = kLaneCount<T>, kAtOnce = kRegisters == 32 || kRows < 2 ? kRows : 2, kLine = int(64 / sizeof(S));
  ATTUNE_UNROLL for (int first = 0; first < kRows; first += kAtOnce) {
    Vec<T> sum[kAtOnce][4];
    ATTUNE_UNROLL for (int r = 0; r < kAtOnce; ++r) { ATTUNE_UNROLL for (int i = 0; i < 4; ++i) sum[r][i] = zero<T>(); }
    const auto add = [&](auto read, auto read_query, int c) HWY_ATTR {
      Vec<T> lanes[4];
      ATTUNE_UNROLL for (int i = 0; i < 4; ++i) lanes[i] = read(key[i] + c);
      ATTUNE_UNROLL for (int r = 0; r < kAtOnce; ++r) {
        const Vec<T> q = read_query(query[first + r] + c);
        ATTUNE_UNROLL for (int i = 0; i < 4; ++i) sum[r][i] = hn::MulAdd(q, lanes[i], sum[r][i]);
      }
    };
    int c = 0;
    const auto whole = [&](int at) HWY_ATTR {
      if (kL >= kLine || at % kLine == 0) {
        ATTUNE_UNROLL for (int i = 0; i < 4; ++i) __builtin_prefetch(ahead[i] + at, 0, 2);  // into L2
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
      sum_sixteen(sum, sums);
      return;
    }
#endif
    ATTUNE_UNROLL for (int r = 0; r < kAtOnce; ++r) sum_four(sum[r], sums + (first + r) * 4);
  }
}

/// out[r][column ...] += sum over keys of weight[key][r] * value[key], kVectors vectors wide, asking for the rows
/// ahead_step behind `ahead` meanwhile. kPart: one vector, of which `last` numbers exist.
template <int kRows, int kVectors, bool kPart, class T, class S>
HWY_INLINE void add_values(T* const* out, const S* const* value, const S* const* ahead, std::ptrdiff_t ahead_step,
                           int keys, const T* weight, int column, int last) {
  constexpr int kL = kLaneCount<T>, kLine = int(64 / sizeof(S));
  Vec<T> sum[kRows][kVectors];
  ATTUNE_UNROLL for (int r = 0; r < kRows; ++r) {
    ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) sum[r][j] = load(out[r] + column + j * kL);
  }
  for (int k = 0; k < keys; ++k) {
    ATTUNE_UNROLL for (int j = 0; j < kVectors * kL; j += kLine)
        __builtin_prefetch(ahead[k] + ahead_step + column + j, 0, 2);
    const T* of_key = weight + (k & ~3) * kRows + (k & 3);
    Vec<T> lanes[kVectors];
    ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) {
      lanes[j] = kPart ? widen_first<T>(value[k] + column + j * kL, last) : widen<T>(value[k] + column + j * kL);
    }
    ATTUNE_UNROLL for (int r = 0; r < kRows; ++r) {
      const Vec<T> w = set(of_key[4 * r]);
      ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) sum[r][j] = hn::MulAdd(w, lanes[j], sum[r][j]);
    }
  }
  ATTUNE_UNROLL for (int r = 0; r < kRows; ++r) {
    ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) store(sum[r][j], out[r] + column + j * kL);
  }
}

/// x[key][row] *= scale[key], in the order of a step.
template <int kRows, int kKeys>
HWY_INLINE void times_scales(float* x, const float* scale) {
  constexpr int kL = kLaneCount<float>;
  if constexpr (kRows == 4 && kL >= 4) {
    for (int i = 0; i < kKeys * kRows; i += kL)
      store(hn::Mul(load(x + i), hn::LoadDup128(Lanes<float>(), scale + i / 16 * 4)), x + i);
  } else {
    for (int i = 0; i < kKeys * kRows; ++i) x[i] *= scale[i / (4 * kRows) * 4 + i % 4];
  }
}

/// kRows rows over keys begin .. end - 1, all of which all of them see.
template <int kRows, class T, class S>
HWY_INLINE void decode_range(const Decode<T>& in, DecodeRow<T>* const* row, std::int64_t begin, std::int64_t end) {
  constexpr int kL = kLaneCount<T>, kStep = kRows == 4 ? 2 : 4, kKeys = kStep * kStreams, kFlat = kKeys * kRows;
  // The streams start at multiples of 4, so that no step leaves its block.
  const std::int64_t aligned = std::min(end, (begin + 3) / 4 * 4), per = (end - aligned) / (kStreams * 4) * 4;
  HWY_ALIGN T weights[2][kFlat] = {}, maximum[kFlat], sum[kFlat];
  const S *key[kKeys], *values[2][kKeys];
  [[maybe_unused]] HWY_ALIGN float key_scales[kKeys], value_scales[kKeys];
  const T* query[kRows];
  T* out[kRows];
  for (int r = 0; r < kRows; ++r) query[r] = row[r]->query, out[r] = row[r]->out;
  for (int i = 0; i < kFlat; ++i) maximum[i] = row[i / 4 % kRows]->maximum, sum[i] = T(0);
  const std::ptrdiff_t key_step = in.rows.key_stride / std::ptrdiff_t(sizeof(S)),
                       value_step = in.rows.value_stride / std::ptrdiff_t(sizeof(S));

  int now = 0, pending = 0;  // which half of the double buffers; keys whose values are still to be added
  // Adds the values of the last step.
  const auto add_pending = [&]() HWY_ATTR {
    const std::ptrdiff_t far = 2 * kStep * key_step;  // the next step's keys would come too late: they are used at once
    const S* const* value = values[now];
    const T* weight = weights[now];
    constexpr int kMost = kRows == 1 ? 8 : kRegisters == 32 ? 4 : 2;
    int c = 0;
    for (; c + kMost * kL <= in.value_dim; c += kMost * kL)
      add_values<kRows, kMost, false>(out, value, key, far, pending, weight, c, 0);
    for (; c + kL <= in.value_dim; c += kL) add_values<kRows, 1, false>(out, value, key, far, pending, weight, c, 0);
    if (c < in.value_dim) add_values<kRows, 1, true>(out, value, key, far, pending, weight, c, in.value_dim - c);
  };
  // One step: `keys` of kKeys keys; the others repeat a key and get no weight.
  const auto step = [&](int keys) HWY_ATTR {
    const int next = 1 - now;
    T* x = weights[next];
    for (int g = 0; g < kStep; ++g)
      dot_four<kRows>(query, key + 4 * g, values[next] + 4 * g, in.head_dim, x + g * kRows * 4);
    if constexpr (sizeof(S) == 1) times_scales<kRows, kKeys>(x, key_scales);
    if (keys < kKeys) {
      for (int i = 0; i < kFlat; ++i) {
        if (i / (4 * kRows) * 4 + i % 4 >= keys) x[i] = -std::numeric_limits<T>::infinity();
      }
    }
    auto above = hn::Gt(load(x), load(maximum));
    for (int i = kL; i < kFlat; i += kL) above = hn::Or(above, hn::Gt(load(x + i), load(maximum + i)));
    if (!hn::AllFalse(Lanes<T>(), above)) {  // a new maximum: rare after the first steps
      for (int r = 0; r < kRows; ++r) {
        const T old = maximum[r * 4];
        T top = old;
        for (int i = 0; i < kFlat; ++i) {
          if (i / 4 % kRows == r) top = std::max(top, x[i]);
        }
        const Vec<T> factors = exp2(set(old - top));
        const T factor = hn::GetLane(factors);
        for (int i = 0; i < kFlat; ++i) {
          if (i / 4 % kRows == r) maximum[i] = top, sum[i] *= factor, weights[now][i] *= factor;
        }
        row[r]->sum *= factor;
        for (int d = 0; d < in.value_dim; d += kL) store(hn::Mul(load(out[r] + d), factors), out[r] + d);
      }
    }
    for (int i = 0; i < kFlat; i += kL) {
      const Vec<T> e = exp2(hn::Sub(load(x + i), load(maximum + i)));
      store(hn::Add(load(sum + i), e), sum + i);
      store(e, x + i);
    }
    if constexpr (sizeof(S) == 1) times_scales<kRows, kKeys>(x, value_scales);
    if (pending) add_pending();
    now = next, pending = keys;
  };

  // Keys from .. to - 1 one by one: what is left beside the streams.
  const auto walk_rest = [&](std::int64_t from, std::int64_t to) HWY_ATTR {
    for (; from < to; from += kKeys) {
      const int keys = int(std::min<std::int64_t>(kKeys, to - from));
      for (int i = 0; i < kKeys; ++i) {
        Stream<S> at;
        at.seek(in.rows, from + std::min(i, keys - 1));
        at.copy(key + i, values[1 - now] + i, key_scales + i, value_scales + i);
      }
      step(keys);
    }
  };

  walk_rest(begin, aligned);
  Stream<S> stream[kStreams];
  for (int s = 0; s < kStreams && per > 0; ++s) stream[s].seek(in.rows, aligned + s * per);
  for (std::int64_t done = 0; done < per; done += kStep) {
    const S** value = values[1 - now];
    ATTUNE_UNROLL for (int s = 0; s < kStreams; ++s) {
      Stream<S>& at = stream[s];
      if (at.left == 0) ++at.block, at.enter(in.rows, 0);
      ATTUNE_UNROLL for (int i = s; i < kKeys; i += kStreams) {
        at.copy(key + i, value + i, key_scales + i, value_scales + i);
        at.next(key_step, value_step);
      }
    }
    step(kKeys);
  }
  walk_rest(aligned + kStreams * per, end);
  if (pending) add_pending();
  for (int r = 0; r < kRows; ++r) {
    row[r]->maximum = maximum[r * 4];
    T total = row[r]->sum;
    for (int i = 0; i < kFlat; ++i) {
      if (i / 4 % kRows == r) total += sum[i];
    }
    row[r]->sum = total;
  }
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
