// A handful of queries against many keys: bound by reading keys and values once, so each chunk of them serves all rows
// while it is in cache. Lanes run along the head's width, which is how keys and values lie:
//
//   logits [rows][chunk] = scale * query . key, four keys and up to four rows at a time in registers
//   weights = 2^(logits - maximum), the online softmax per row
//   out [rows][value_dim] += weights V, the broadcast product with the values as its vectors
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/plain_few.cpp"
#include "kernels/plain_few.hpp"

#include <algorithm>
#include <limits>

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/plain-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// Keys of one chunk: their rows and those of the values fit the second-level cache. A multiple of the lanes.
constexpr int kChunk = 64;
/// Rows whose dot products with four keys fit the registers.
constexpr int kRowsAtOnce = kMaxVectors > 2 ? 4 : 2;

/// sums[i] = scale * (sum over the lanes of v[i]), by interleaving instead of four horizontal sums.
HWY_INLINE void sum_four(const Vec<float> (&v)[4], float scale, float (&sums)[4]) {
#if HWY_TARGET != HWY_SCALAR
  const Lanes<float> d;
  const hn::Repartition<double, Lanes<float>> pairs;
  const Vec<float> a = hn::Add(hn::InterleaveLower(d, v[0], v[1]), hn::InterleaveUpper(d, v[0], v[1]));
  const Vec<float> b = hn::Add(hn::InterleaveLower(d, v[2], v[3]), hn::InterleaveUpper(d, v[2], v[3]));
  const auto low = hn::InterleaveLower(pairs, hn::BitCast(pairs, a), hn::BitCast(pairs, b));
  const auto high = hn::InterleaveUpper(pairs, hn::BitCast(pairs, a), hn::BitCast(pairs, b));
  float lane[HWY_LANES(float)];  // each block of four now holds one part of each of the four sums
  store(hn::Add(hn::BitCast(d, low), hn::BitCast(d, high)), lane);
  const hn::FixedTag<float, 4> four;
  auto sum = hn::LoadU(four, lane);
  for (int i = 4; i < kLaneCount<float>; i += 4) sum = hn::Add(sum, hn::LoadU(four, lane + i));
  hn::StoreU(hn::Mul(sum, hn::Set(four, scale)), four, sums);
#else
  for (int i = 0; i < 4; ++i) sums[i] = scale * hn::GetLane(v[i]);
#endif
}
HWY_INLINE void sum_four(const Vec<double> (&v)[4], double scale, double (&sums)[4]) {
  for (int i = 0; i < 4; ++i) sums[i] = scale * hn::GetLane(hn::SumOfLanes(Lanes<double>(), v[i]));
}

/// Asks for keys a little ahead and for the values of the present ones, which the second product reads next: with it
/// both streams of memory keep flowing through both products (8.0 to 4.9 ms for 32 heads over 8 x 8192 keys of 128).
template <class T>
HWY_INLINE void prefetch(const PlainForward<T>& in, int key, int num_keys) {
  constexpr int kAhead = 8, kLine = int(64 / sizeof(T));
  for (int j = key; j < std::min(key + 4, num_keys); ++j) {
    const T* k = in.key + std::min(j + kAhead, num_keys - 1) * in.key_stride;
    const T* v = in.value + j * in.value_stride;
    for (int c = 0; c < in.head_dim; c += kLine) __builtin_prefetch(k + c);
    for (int c = 0; c < in.value_dim; c += kLine) __builtin_prefetch(v + c);
  }
}

/// x[r][j] = scale * query[r] . key[first + j] for kRows rows and the keys of a chunk.
template <int kRows, class T>
HWY_NOINLINE void dot_rows_keys(const PlainForward<T>& in, int row, int first, int keys, T scale, T* x) {
  constexpr int kL = kLaneCount<T>;
  const T* q = in.query + row * in.query_stride;
  const T* key = in.key + first * in.key_stride;
  for (int j = 0; j < keys; j += 4) {
    if (row == 0) prefetch(in, first + j, in.num_keys);
    const T* k[4];  // past the last key the last one again
    for (int i = 0; i < 4; ++i) k[i] = key + std::min(j + i, keys - 1) * in.key_stride;
    Vec<T> sum[kRows][4];
    ATTUNE_UNROLL for (int r = 0; r < kRows; ++r) { ATTUNE_UNROLL for (int i = 0; i < 4; ++i) sum[r][i] = zero<T>(); }
    const auto add = [&](auto read, int c) HWY_ATTR {
      Vec<T> lanes[4];
      ATTUNE_UNROLL for (int i = 0; i < 4; ++i) lanes[i] = read(k[i] + c);
      ATTUNE_UNROLL for (int r = 0; r < kRows; ++r) {
        const Vec<T> row_lanes = read(q + r * in.query_stride + c);
        ATTUNE_UNROLL for (int i = 0; i < 4; ++i) sum[r][i] = hn::MulAdd(row_lanes, lanes[i], sum[r][i]);
      }
    };
    int c = 0;
    for (; c + kL <= in.head_dim; c += kL) add([](const T* p) HWY_ATTR { return load(p); }, c);
    if (c < in.head_dim) add([&](const T* p) HWY_ATTR { return load_first(p, in.head_dim - c); }, c);
    ATTUNE_UNROLL for (int r = 0; r < kRows; ++r) {
      T four[4];
      sum_four(sum[r], scale, four);
      std::copy(four, four + std::min(4, keys - j), x + r * kChunk + j);
    }
  }
}

/// What the online softmax knows of one row; logits in powers of two, as in plain_forward.
template <class T>
struct FewRow {
  T maximum = std::numeric_limits<T>::lowest(), sum = 0, first = 0, second = 0;
  T smallest = std::numeric_limits<T>::infinity();
};

/// Brings the row's moments to the maximum `top` and adds a chunk's; x are `keys` logits, padded with -infinity.
template <class T>
HWY_INLINE void add_moments(const T* x, int keys, int padded, Vec<T> top, FewRow<T>& row) {
  for (int j = 0; j < keys; ++j) row.smallest = std::min(row.smallest, x[j]);
  const Vec<T> least = set(T(-2000));  // 2^-2000 is 0 and its products with 2000 are too, where -inf would give NaN
  Vec<T> first = zero<T>(), second = zero<T>();
  for (int j = 0; j < padded; j += kLaneCount<T>) {
    const Vec<T> y = hn::Max(hn::Sub(load(x + j), top), least), ey = hn::Mul(exp2(y), y);
    first = hn::Add(first, ey);
    second = hn::MulAdd(ey, y, second);
  }
  const T old = std::max(row.maximum - hn::GetLane(top), T(-2000)), factor = hn::GetLane(exp2(set(old)));
  row.second = factor * (row.second + old * (T(2) * row.first + old * row.sum)) +
               hn::GetLane(hn::SumOfLanes(Lanes<T>(), second));
  row.first = factor * (row.first + old * row.sum) + hn::GetLane(hn::SumOfLanes(Lanes<T>(), first));
}

/// Turns a chunk's logits into weights and brings the row and its output [value_dim] to the new maximum.
template <class T>
HWY_INLINE void exponentiate_row(const PlainForward<T>& in, T* x, int keys, FewRow<T>& row, T* out) {
  constexpr int kL = kLaneCount<T>;
  const int padded = whole_vectors<T>(keys);
  std::fill(x + keys, x + padded, -std::numeric_limits<T>::infinity());  // weight 0
  Vec<T> top = set(row.maximum), total = zero<T>();
  for (int j = 0; j < padded; j += kL) top = hn::Max(top, load(x + j));
  top = hn::MaxOfLanes(Lanes<T>(), top);
  if (in.first) add_moments(x, keys, padded, top, row);
  for (int j = 0; j < padded; j += kL) {
    const Vec<T> e = exp2(hn::Sub(load(x + j), top));
    total = hn::Add(total, e);
    store(e, x + j);
  }
  const T next = hn::GetLane(top), factor = hn::GetLane(exp2(set(row.maximum - next)));
  row.sum = row.sum * factor + hn::GetLane(hn::SumOfLanes(Lanes<T>(), total));
  row.maximum = next;
  if (factor == T(1)) return;
  for (int d = 0; d < in.value_dim; ++d) out[d] *= factor;
}

template <class T>
HWY_INLINE void few(const PlainForward<T>& in, T* workspace) {
  const T infinity = std::numeric_limits<T>::infinity(), scale = T(double(in.scale) * kLog2E);
  T* weights = workspace;                   // [rows][kChunk]
  T* out = weights + kFewQueries * kChunk;  // [rows][value_dim]
  std::fill(out, out + std::ptrdiff_t(in.queries) * in.value_dim, T(0));
  FewRow<T> rows[kFewQueries];
  const int num_keys = visible_keys(in.causal, in.position, in.queries, in.num_keys).end;
  for (int key = 0; key < num_keys; key += kChunk) {
    const int keys = std::min(kChunk, num_keys - key);
    for (int r = 0; r < in.queries;) {
      if (in.queries - r >= kRowsAtOnce) {
        dot_rows_keys<kRowsAtOnce>(in, r, key, keys, scale, weights + r * kChunk);
        r += kRowsAtOnce;
      } else {
        dot_rows_keys<1>(in, r, key, keys, scale, weights + r * kChunk);
        r += 1;
      }
    }
    for (int r = 0; r < in.queries; ++r)
      exponentiate_row(in, weights + r * kChunk, keys, rows[r], out + std::ptrdiff_t(r) * in.value_dim);
    product_into<Into::add>(in.queries, in.value_dim, keys, weights, kChunk, 1, in.value + key * in.value_stride,
                            in.value_stride, out, in.value_dim);
  }
  const bool empty = num_keys == 0;
  for (int r = 0; r < in.queries; ++r) {
    const T inverse = empty ? T(0) : T(1) / rows[r].sum;
    const T* o = out + std::ptrdiff_t(r) * in.value_dim;
    for (int d = 0; d < in.value_dim; ++d) in.out[r * in.out_stride + d] = o[d] * inverse;
    const T largest = empty ? -infinity : rows[r].maximum * T(kLn2);
    if (in.lse) in.lse[r] = empty ? -infinity : largest + hn::GetLane(log(set(rows[r].sum)));
    if (!in.first) continue;
    in.largest[r] = largest;
    in.smallest[r] = rows[r].smallest * T(kLn2);
    in.sum[r] = rows[r].sum;
    in.first[r] = rows[r].first * T(kLn2);
    in.second[r] = rows[r].second * T(kLn2 * kLn2);
  }
}

void few_f32(const PlainForward<float>& in, float* workspace) { few(in, workspace); }
void few_f64(const PlainForward<double>& in, double* workspace) { few(in, workspace); }

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

void plain_few(const PlainForward<float>& in, std::byte* workspace) {
  ATTUNE_DISPATCH(few_f32)(in, reinterpret_cast<float*>(workspace));
}
void plain_few(const PlainForward<double>& in, std::byte* workspace) {
  ATTUNE_DISPATCH(few_f64)(in, reinterpret_cast<double*>(workspace));
}

template <class T>
std::size_t plain_few_workspace(int value_dim) {
  return sizeof(T) * std::size_t(kFewQueries) * std::size_t(64 + value_dim);
}
template std::size_t plain_few_workspace<float>(int);
template std::size_t plain_few_workspace<double>(int);

}  // namespace attune::kernels
#endif
