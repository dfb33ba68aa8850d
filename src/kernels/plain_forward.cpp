// The forward of the plain path: one block of queries against all its keys, tile by tile, with the online softmax
// (arXiv:1805.02867).
//
// The ladder, in points of the multiply-add peak with AVX-512 at 8 heads of 1024 x 1024 x 64 (256 heads of 128 x 128 x
// 32), interleaved runs on a busy machine:
//   1. S and O by the broadcast product; the running maximum taken while S is in registers; one pass for exponentials
//      and sums; O rescaled while its accumulator is loaded: 86 to 88 (64 to 68)
//   2. whole vectors leave a transpose, the next queries and the rows of the output are fetched during the last
//      products, and 2^x is guarded by a mask instead of a maximum: 2 more (5 to 7 more)
//   3. the next head's keys and values are fetched too, all of it spread evenly over the blocks of those products:
//      none (6 more)
//   4. weights leave the registers where the logits are: a reference that stays instead of a maximum that is followed,
//      2 more (4 more where memory does not hide it); even blocks of rows in all products: 0.4 more (1 more)
// What did not help: docs/decisions/0009-beside-the-products.md and 0015-a-reference-that-stays.md.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/plain_forward.cpp"
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/dispatch.hpp"
#include "kernels/plain_attention.hpp"
#include "kernels/tile_plan.hpp"

#include "hwy/foreach_target.h"

#include "kernels/dropout-inl.h"
#include "kernels/plain-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// The block's memory; `width` is the number of its queries, rounded up to whole vectors. All of it is laid out by
/// pointers into the caller's workspace.
template <class T>
struct ForwardBlock {
  const PlainForward<T>& in;
  int width = 0;
  T* queries = nullptr;  // [head_dim][width], times scale * log2(e)
  T* weights = nullptr;  // [tile keys][width]
  T* out = nullptr;      // [value_dim][width], not yet divided by the sums
  // [width] each. The logits of a row are taken relative to a reference of its own, one that keeps sums in range.
  T* sum = nullptr;       // of 2^(logit - reference)
  T* start = nullptr;     // -reference; follows `sum`
  T* next = nullptr;      // -reference with the present tile
  T* factor = nullptr;    // 2^(reference - next reference)
  T* before = nullptr;    // sums before the present tile
  T* first = nullptr;     // sum of 2^(logit - reference) (logit - reference); null unless the caller asks for moments
  T* second = nullptr;    // the same with the square
  T* largest = nullptr;   // of the visible logits so far
  T* smallest = nullptr;  // and the smallest
  Dropped dropped;
};

/// The reference of a row is the largest of its first logits, of so many keys in a tile that all rows see. It stays for
/// as long as the sum of 2^(logit - reference) does not pass kMostSum; then it becomes the largest of the present tile.
/// Weights times values below 1e26 are finite. A tile whose references stay needs no maximum and no second pass.
constexpr int kSample = 6;
constexpr double kMostSum = 1 << 30;

/// Turns logits into weights 2^(logit + next) in place, over kVectors columns of vectors from lane c on; sum = sum *
/// factor + their sum, and start = next. With kRelative, numbers that have `start` added to them already. With kMoments
/// the sums' first and second moments and the extremes alike; asking for those changes no bit of anything else.
template <int kVectors, bool kRelative, bool kMoments, class T>
HWY_NOINLINE void exponentiate_columns(const ForwardBlock<T>& b, T* x, int keys, int c) {
  constexpr int kL = kLaneCount<T>;
  // 2^-2000 is 0 and its products with 2000 are too, where -inf would give NaN.
  [[maybe_unused]] const Vec<T> least = set(T(-2000));
  [[maybe_unused]] const Vec<T> hidden = set(-std::numeric_limits<T>::infinity());
  Vec<T> move[kVectors], next[kVectors], total[kVectors], one[kVectors], two[kVectors], low[kVectors], high[kVectors];
  ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
    const int lane = c + v * kL;
    next[v] = load(b.next + lane);
    const Vec<T> shift = hn::Sub(next[v], load(b.start + lane)), f = exp2(shift), sum = load(b.sum + lane);
    move[v] = kRelative ? shift : next[v];
    store(f, b.factor + lane);
    store(next[v], b.start + lane);
    total[v] = hn::Mul(sum, f);
    if constexpr (kMoments) {
      const Vec<T> d = hn::Max(shift, least), first = load(b.first + lane);
      one[v] = hn::Mul(f, hn::MulAdd(d, sum, first));
      two[v] = hn::Mul(f, hn::MulAdd(d, hn::MulAdd(d, sum, hn::Add(first, first)), load(b.second + lane)));
      low[v] = load(b.smallest + lane);
      high[v] = load(b.largest + lane);
    }
  }
  x += c;
  for (int j = 0; j < keys; ++j, x += b.width) {
    ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
      const Vec<T> power = hn::Add(load(x + v * kL), move[v]), e = exp2(power);
      total[v] = hn::Add(total[v], e);
      store(e, x + v * kL);
      if constexpr (kMoments) {
        const Vec<T> p = hn::Max(power, least), ep = hn::Mul(e, p), logit = hn::Sub(power, next[v]);
        one[v] = hn::Add(one[v], ep);
        two[v] = hn::MulAdd(ep, p, two[v]);
        low[v] = hn::IfThenElse(hn::Gt(logit, hidden), hn::Min(low[v], logit), low[v]);
        high[v] = hn::Max(high[v], logit);
      }
    }
  }
  ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
    store(total[v], b.sum + c + v * kL);
    if constexpr (kMoments) {
      store(one[v], b.first + c + v * kL);
      store(two[v], b.second + c + v * kL);
      store(low[v], b.smallest + c + v * kL);
      store(high[v], b.largest + c + v * kL);
    }
  }
}
/// The same for lanes first .. last-1 of `keys` rows of weights from x on.
template <bool kRelative, class T>
HWY_INLINE void exponentiate(const ForwardBlock<T>& b, T* x, int keys, int first, int last) {
  constexpr int kL = kLaneCount<T>;
  for (int c = first; c < last; c += kL) {
    if (b.first) {
      exponentiate_columns<1, kRelative, true>(b, x, keys, c);
    } else if (!kRelative && c + 4 * kL <= last) {
      exponentiate_columns<4, false, false>(b, x, keys, c);
      c += 3 * kL;
    } else {
      exponentiate_columns<1, kRelative, false>(b, x, keys, c);
    }
  }
}

/// Dropout of the weights of lanes first .. last-1, `keys` rows of weights from x on, once their sums are taken.
template <class T>
HWY_INLINE void drop_weights(const ForwardBlock<T>& b, T* x, int key, int keys, int first, int last) {
  if (b.dropped.threshold < 65536)
    drop_tile(x + first, b.width, b.dropped, b.in.dropout.query + first, last - first, key, keys);
}

/// The largest of keys numbers, x[j * width], lane by lane.
template <class T>
HWY_INLINE Vec<T> largest_of(const T* x, int keys, int width) {
  Vec<T> top = set(-std::numeric_limits<T>::infinity());
  for (int j = 0; j < keys; ++j, x += width) top = hn::Max(top, load(x));
  return top;
}

/// True where x is neither infinite nor NaN.
template <class T>
HWY_INLINE auto is_number(Vec<T> x) {
  return hn::Le(hn::Abs(x), set(std::numeric_limits<T>::max()));
}

/// Logits of the first tile's first kSample keys, and the rows' references; a row whose logits are not numbers has 0.
template <class T>
HWY_INLINE void take_sample(const ForwardBlock<T>& b, const T* k, int keys, Upcoming* ahead) {
  product_into<Into::overwrite, true>(keys, b.width, b.in.head_dim, k, b.in.key_stride, 1, b.queries, b.width,
                                      b.weights, b.width, static_cast<T*>(nullptr), ahead);
  for (int c = 0; c < b.width; c += kLaneCount<T>) {
    const Vec<T> top = largest_of(b.weights + c, keys, b.width);
    store(hn::IfThenElseZero(is_number<T>(top), hn::Neg(top)), b.next + c);
  }
}

/// Weights of a tile in one pass, while its logits are in registers. False, with the sums as before, if some row's
/// reference must change.
template <class T>
HWY_INLINE bool weights_at_once(const ForwardBlock<T>& b, const T* k, int keys, bool first, Upcoming* ahead) {
  constexpr int kL = kLaneCount<T>;
  const PlainForward<T>& in = b.in;
  const int done = first ? std::min(keys, kSample) : 0;
  if (first) {
    take_sample(b, k, done, ahead);
    exponentiate<false>(b, b.weights, done, 0, b.width);
  }
  bool good = true;
  for (int c = 0; c < b.width; c += kL) {
    const Vec<T> sum = load(b.sum + c);
    store(sum, b.before + c);
    good &= hn::AllTrue(Lanes<T>(), hn::Gt(sum, zero<T>()));
  }
  if (!good) return false;
  product_into<Into::weights, true>(keys - done, b.width, in.head_dim, k + done * in.key_stride, in.key_stride, 1,
                                    b.queries, b.width, b.weights + std::ptrdiff_t(done) * b.width, b.width, b.sum,
                                    ahead);
  for (int c = 0; c < b.width; c += kL) good &= hn::AllTrue(Lanes<T>(), hn::Le(load(b.sum + c), set(T(kMostSum))));
  if (!good) std::copy(b.before, b.before + b.width, b.sum);
  return good;
}

/// The same in several passes. Rows whose reference stays get the same bits as above.
template <class T>
HWY_NOINLINE void weights_in_passes(const ForwardBlock<T>& b, const T* k, int keys, bool first) {
  const PlainForward<T>& in = b.in;
  const int done = first ? std::min(keys, kSample) : 0;
  if (first) {
    std::fill(b.sum, b.sum + b.width, T(0));
    take_sample(b, k, done, nullptr);
    std::copy(b.next, b.next + b.width, b.start);
    for (int j = 0; j < done; ++j) {
      T* x = b.weights + std::ptrdiff_t(j) * b.width;
      for (int c = 0; c < b.width; c += kLaneCount<T>) store(hn::Add(load(x + c), load(b.start + c)), x + c);
    }
  }
  product_into<Into::begin, true>(keys - done, b.width, in.head_dim, k + done * in.key_stride, in.key_stride, 1,
                                  b.queries, b.width, b.weights + std::ptrdiff_t(done) * b.width, b.width, b.start);
  for (int c = 0; c < b.width; c += kLaneCount<T>) {
    const T* x = b.weights + c;
    const Vec<T> sum = load(b.sum + c), start = load(b.start + c), top = largest_of(x, keys, b.width);
    Vec<T> total = sum;
    for (int j = 0; j < keys; ++j, x += b.width) total = hn::Add(total, exp2_of_finite(load(x)));
    auto stays = hn::Le(total, set(T(kMostSum)));
    if (first) {
      stays = hn::And(stays, hn::Gt(total, zero<T>()));
    } else {
      stays = hn::And(stays, hn::Gt(sum, zero<T>()));
    }
    stays = hn::Or(stays, hn::Not(is_number<T>(top)));
    store(hn::IfThenElse(stays, start, hn::Sub(start, top)), b.next + c);
  }
  exponentiate<true>(b, b.weights, keys, 0, b.width);
}

/// out = out * factor for lanes first .. last-1; nothing to do where no reference changed.
template <class T>
HWY_INLINE void rescale_out(const ForwardBlock<T>& b, int first, int last) {
  bool same = true;
  for (int i = first; i < last; ++i) same &= b.factor[i] == T(1);
  if (same) return;
  for (int d = 0; d < b.in.value_dim; ++d) {
    T* out = b.out + std::ptrdiff_t(d) * b.width;
    for (int c = first; c < last; c += kLaneCount<T>) store(hn::Mul(load(out + c), load(b.factor + c)), out + c);
  }
}

/// Keys that every query of the block sees. ahead: what to fetch meanwhile; may be null.
template <class T>
HWY_INLINE void full_tile(const ForwardBlock<T>& b, int key, int keys, bool first, Upcoming* ahead) {
  const PlainForward<T>& in = b.in;
  const T* k = in.key + key * in.key_stride;
  const T* v = in.value + key * in.value_stride;
  if (b.first || !weights_at_once(b, k, keys, first, ahead)) {
    weights_in_passes(b, k, keys, first);
    if (!first) rescale_out(b, 0, b.width);
  }
  drop_weights(b, b.weights, key, keys, 0, b.width);
  if (first) {
    product_into<Into::overwrite, true>(in.value_dim, b.width, keys, v, 1, in.value_stride, b.weights, b.width, b.out,
                                        b.width, static_cast<T*>(nullptr), ahead);
  } else {
    product_into<Into::add, true>(in.value_dim, b.width, keys, v, 1, in.value_stride, b.weights, b.width, b.out,
                                  b.width, static_cast<T*>(nullptr), ahead);
  }
}

/// Keys at an edge of what is visible, seen by some queries. Hidden logits become -inf before the maximum is taken; if
/// a value is not finite, the second product runs pair by pair over what is visible.
template <class T>
HWY_INLINE void partial_tile(const ForwardBlock<T>& b, int key, int keys, Upcoming* ahead) {
  constexpr int kL = kLaneCount<T>;
  const PlainForward<T>& in = b.in;
  const T* k = in.key + key * in.key_stride;
  const T* v = in.value + key * in.value_stride;
  const int from = key - in.position;  // the first query that sees the first key; negative if all do
  const int first = strip_lane(from), end = strip_end(from + keys - 1, in.span, b.width);
  if (first >= end) return;
  const Vec<T> hidden = set(-std::numeric_limits<T>::infinity());
  std::fill(b.before + first, b.before + end, -std::numeric_limits<T>::infinity());  // the largest of each row
  for (int j0 = 0; j0 < keys; j0 += kStrip) {
    const int j1 = std::min(keys, j0 + kStrip);
    const int lane = strip_lane(from + j0), lane_end = strip_end(from + j1 - 1, in.span, b.width);
    if (lane >= lane_end) continue;
    T* x = b.weights + std::ptrdiff_t(j0) * b.width;
    product_into<Into::overwrite, true>(j1 - j0, lane_end - lane, in.head_dim, k + j0 * in.key_stride, in.key_stride, 1,
                                        b.queries + lane, b.width, x + lane, b.width, static_cast<T*>(nullptr), ahead);
    for (int c = lane; c < lane_end; c += kL) {
      const bool all = all_see<T>(c, from + j0, from + j1 - 1, in.span);
      Vec<T> top = load(b.before + c);
      T* at = x + c;
      for (int j = j0; j < j1; ++j, at += b.width) {
        Vec<T> logit = load(at);
        if (!all) {
          logit = hn::IfThenElse(sees<T>(c, from + j, in.span), logit, hidden);
          store(logit, at);
        }
        top = hn::Max(top, logit);
      }
      store(top, b.before + c);
    }
  }
  // A row that sees its first key, or whose logits have risen far above the reference, takes the largest.
  for (int c = first; c < end; c += kL) {
    const Vec<T> top = load(b.before + c), start = load(b.start + c);
    const auto stays = hn::And(hn::Gt(load(b.sum + c), zero<T>()), hn::Le(hn::Add(top, start), set(T(20))));
    store(hn::IfThenElse(hn::Or(stays, hn::Not(is_number<T>(top))), start, hn::Neg(top)), b.next + c);
  }
  const bool finite = rows_finite(v, keys, in.value_dim, in.value_stride);
  const auto first_key = [&](int query) { return in.span > 0 ? std::max(0, query - from - in.span + 1) : 0; };
  for (int lane = first; lane < end; lane += kStrip) {
    const int last = std::min(end, lane + kStrip);
    const int j0 = first_key(lane), seen = std::min(keys, lane + kStrip - from) - j0;  // from its first to its last key
    if (seen <= 0) continue;
    T* x = b.weights + std::ptrdiff_t(j0) * b.width;
    exponentiate<false>(b, x, seen, lane, last);
    drop_weights(b, x, key + j0, seen, lane, last);
    rescale_out(b, lane, last);
    if (finite) {
      product_into<Into::add, true>(in.value_dim, last - lane, seen, v + j0 * in.value_stride, 1, in.value_stride,
                                    x + lane, b.width, b.out + lane, b.width, static_cast<T*>(nullptr), ahead);
      continue;
    }
    for (int d = 0; d < in.value_dim; ++d) {
      T* out = b.out + std::ptrdiff_t(d) * b.width;
      for (int i = lane; i < last; ++i) {
        for (int j = first_key(i); j < std::min(keys, i - from + 1); ++j)
          out[i] += v[j * in.value_stride + d] * b.weights[std::ptrdiff_t(j) * b.width + i];
      }
    }
  }
}

/// Of keys and values of one head: up to here the processor's own fetching keeps up (4096 keys of width 64 run as fast
/// as 1024, 16384 lose a tenth).
constexpr std::int64_t kNearBytes = std::int64_t(4) << 20;

template <class T>
HWY_INLINE void forward(const PlainForward<T>& in, const TilePlan& plan, T* workspace) {
  constexpr int kL = kLaneCount<T>;
  const int width = whole_vectors<T>(in.queries);
  ForwardBlock<T> b{
      .in = in, .width = width, .dropped = {in.dropout.seed, in.dropout.batch, in.dropout.head, in.dropout.threshold}};
  b.queries = workspace;
  b.weights = b.queries + std::ptrdiff_t(in.head_dim) * width;
  b.out = b.weights + std::ptrdiff_t(plan.keys) * width;
  b.sum = b.out + std::ptrdiff_t(in.value_dim) * width;
  b.start = b.sum + width;
  b.next = b.start + width;
  b.factor = b.next + width;
  b.before = b.factor + width;
  std::fill(b.sum, b.sum + 2 * width, T(0));  // and the references
  if (in.first) {
    b.first = b.before + width;
    b.second = b.first + width;
    b.smallest = b.second + width;
    b.largest = b.smallest + width;
    std::fill(b.first, b.first + 2 * width, T(0));
    std::fill(b.smallest, b.smallest + width, std::numeric_limits<T>::infinity());
    std::fill(b.largest, b.largest + width, -std::numeric_limits<T>::infinity());
  }

  const T scale = T(double(in.scale) * kLog2E);
  transpose_into<false, false>(in.query, in.query_stride, in.queries, in.head_dim, b.queries, width, &scale);
  for (int d = 0; d < in.head_dim; ++d)
    std::fill(b.queries + std::ptrdiff_t(d) * width + in.queries, b.queries + std::ptrdiff_t(d + 1) * width, T(0));
  const Visible visible = visible_keys(in.causal, in.position, in.queries, in.num_keys, in.span);
  const bool fresh = visible.full_begin == visible.begin && visible.full_begin < visible.full_end;
  if (!fresh) std::fill(b.out, b.out + std::ptrdiff_t(in.value_dim) * width, T(0));
  for (int key = visible.begin; key < visible.full_begin; key += plan.keys)
    partial_tile(b, key, std::min(plan.keys, visible.full_begin - key), nullptr);
  // What this call writes and what the next one reads, during the last tile and those of the diagonal.
  Upcoming ahead;
  ahead.add(in.out, in.out_stride, in.queries, in.value_dim);
  ahead.add(in.next_query, in.query_stride, in.next_queries, in.head_dim);
  ahead.add(in.next_key, in.key_stride, std::min(in.next_keys, plan.keys), in.head_dim);
  ahead.add(in.next_value, in.value_stride, std::min(in.next_keys, plan.keys), in.value_dim);
  const int inner = visible.full_end - visible.full_begin, edge = visible.end - visible.full_end;
  const int last_keys = inner > 0 ? (inner - 1) % plan.keys + 1 : 0;
  ahead.spread((last_keys + (inner > 0 ? in.value_dim : 0)) / block_rows(kMaxVectors) +
               edge / kStrip * (2 + in.value_dim / block_rows(1)));
  // Keys and values beyond the nearer caches come from far away: the next tile is fetched during this one.
  const bool far = std::int64_t(in.num_keys) * (in.head_dim + in.value_dim) * int(sizeof(T)) > kNearBytes;
  for (int key = visible.full_begin; key < visible.full_end; key += plan.keys) {
    const bool first = fresh && key == visible.full_begin, last = key + plan.keys >= visible.full_end;
    Upcoming tile;
    if (far && !last) {
      const std::ptrdiff_t next = std::ptrdiff_t(key) + plan.keys;
      const int rows = std::min(plan.keys, visible.full_end - int(next));
      tile.add(in.key + next * in.key_stride, in.key_stride, rows, in.head_dim);
      tile.add(in.value + next * in.value_stride, in.value_stride, rows, in.value_dim);
      tile.spread((plan.keys + in.value_dim) / block_rows(kMaxVectors));
    }
    full_tile(b, key, std::min(plan.keys, visible.full_end - key), first, last ? &ahead : far ? &tile : nullptr);
  }
  for (int key = visible.full_end; key < visible.end; key += plan.keys)
    partial_tile(b, key, std::min(plan.keys, visible.end - key), &ahead);

  // Rows that see no key, at the front and at the back, have sum 0: their out 0 and lse -inf are chosen by position,
  // not computed.
  int empty = 0, full = in.queries;  // rows empty .. full-1 see a key
  if (visible.end <= visible.begin) {
    full = 0;
  } else {
    if (in.causal) empty = std::clamp(-in.position, 0, in.queries);
    if (in.span > 0) {
      full = int(std::clamp<std::int64_t>(std::int64_t(in.num_keys) - in.position + in.span - 1, empty, in.queries));
    }
  }
  if (in.lse) {
    for (int i = 0; i < width; i += kL) {
      const Vec<T> lse = hn::NegMulAdd(load(b.start + i), set(T(kLn2)), log(load(b.sum + i)));
      store_first(lse, in.lse + i, std::min(kL, in.queries - i));
    }
    std::fill(in.lse, in.lse + empty, -std::numeric_limits<T>::infinity());
    std::fill(in.lse + full, in.lse + in.queries, -std::numeric_limits<T>::infinity());
  }
  if (in.first) {  // relative to the largest logit, and from powers of two to nats
    for (int i = 0; i < in.queries; ++i) {
      const bool none = i < empty || i >= full;
      const T shift = -b.start[i] - b.largest[i], f = std::exp2(shift);
      const T first = b.first[i] + shift * b.sum[i], second = b.second[i] + shift * (b.first[i] + first);
      in.largest[i] = none ? -std::numeric_limits<T>::infinity() : b.largest[i] * T(kLn2);
      in.smallest[i] = b.smallest[i] * T(kLn2);
      in.sum[i] = none ? T(0) : f * b.sum[i];
      in.first[i] = none ? T(0) : f * first * T(kLn2);
      in.second[i] = none ? T(0) : f * second * T(kLn2 * kLn2);
    }
  }
  for (int i = 0; i < width; i += kL) store(hn::Div(set(T(1)), load(b.sum + i)), b.factor + i);
  std::fill(b.factor, b.factor + empty, T(0));
  std::fill(b.factor + full, b.factor + in.queries, T(0));
  transpose_into<false, true>(b.out, width, in.value_dim, in.queries, in.out, in.out_stride, b.factor);
}

void plain_forward_f32(const PlainForward<float>& in, const TilePlan& plan, float* workspace) {
  forward(in, plan, workspace);
}
void plain_forward_f64(const PlainForward<double>& in, const TilePlan& plan, double* workspace) {
  forward(in, plan, workspace);
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

void plain_forward(const PlainForward<float>& in, std::byte* workspace) {
  ATTUNE_DISPATCH(plain_forward_f32)
  (in, forward_plan<float>(in.head_dim, in.value_dim, in.causal), reinterpret_cast<float*>(workspace));
}
void plain_forward(const PlainForward<double>& in, std::byte* workspace) {
  ATTUNE_DISPATCH(plain_forward_f64)
  (in, forward_plan<double>(in.head_dim, in.value_dim, in.causal), reinterpret_cast<double*>(workspace));
}

template <class T>
int plain_block_queries(int head_dim, int value_dim, bool causal) {
  return forward_plan<T>(head_dim, value_dim, causal).queries;
}
template int plain_block_queries<float>(int, int, bool);
template int plain_block_queries<double>(int, int, bool);

template <class T>
std::size_t plain_forward_workspace(int head_dim, int value_dim) {
  std::size_t most = 0;
  for (bool causal : {false, true}) {
    const TilePlan plan = forward_plan<T>(head_dim, value_dim, causal);
    const std::size_t rows = std::size_t(head_dim) + std::size_t(value_dim) + std::size_t(std::max(plan.keys, 16)) + 9;
    most = std::max(most, rows * std::size_t(plan.queries) * sizeof(T));
  }
  return most;
}
template std::size_t plain_forward_workspace<float>(int, int);
template std::size_t plain_forward_workspace<double>(int, int);

}  // namespace attune::kernels
#endif
