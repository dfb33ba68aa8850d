// The weights of a tile of the plain forward, 2^(logit - reference), and the sums of each row.
//
// A row's logits are taken relative to a reference that only has to keep sums in range, so it need not be the running
// maximum of the online softmax (arXiv:1805.02867): it stays for as long as sums are below kMostSum. Products then
// start at -reference, and weights leave the registers in which logits were summed: no maximum, no second pass over the
// tile, no factor for what was summed before. Only where some row's sum leaves its range, a tile is done again in
// passes: logits, references, weights. Either way each row gets the bits that its own numbers lead to. Included once
// per target.
#if defined(ATTUNE_KERNELS_PLAIN_WEIGHTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_PLAIN_WEIGHTS_INL_H_
#undef ATTUNE_KERNELS_PLAIN_WEIGHTS_INL_H_
#else
#define ATTUNE_KERNELS_PLAIN_WEIGHTS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

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
  T* sum = nullptr;     // of 2^(logit - reference)
  T* start = nullptr;   // -reference; follows `sum`
  T* next = nullptr;    // -reference with the present tile
  T* factor = nullptr;  // 2^(reference - next reference); that power before weights are made again
  T* before = nullptr;  // sums before the present tile
  // Null unless the caller asks for moments, else `first` follows `before`, and each the one before it:
  T* first = nullptr;     // sum of 2^(logit - reference) (logit - reference)
  T* second = nullptr;    // the same with the square
  T* smallest = nullptr;  // of the visible logits so far
  T* largest = nullptr;   // alike
  T* kept = nullptr;      // [4][width], these four before the present tile
  Dropped dropped;
  mutable int misses = 0;  // tiles whose references had to change
};

/// The reference of a row is the largest of its first logits, of so many keys in a tile that all rows see. It stays for
/// as long as the sum of 2^(logit - reference) does not pass kMostSum; then it becomes the largest of the present tile.
/// Weights times values below 1e17 are finite. A tile whose references stay needs no maximum and no second pass.
constexpr int kSample = 6;
constexpr double kMostSum = double(std::int64_t(1) << 60);
/// Tiles done twice before a block stops trying at once: its logits differ by more than 40 nats, time and again.
constexpr int kMisses = 2;

template <class T>
HWY_INLINE void clear_moments(const ForwardBlock<T>& b) {
  if (!b.first) return;
  std::fill(b.first, b.first + 2 * b.width, T(0));
  std::fill(b.smallest, b.smallest + b.width, std::numeric_limits<T>::infinity());
  std::fill(b.largest, b.largest + b.width, -std::numeric_limits<T>::infinity());
}
/// Of lanes first .. last-1: before a tile that may have to be done again.
template <class T>
HWY_INLINE void keep_sums(const ForwardBlock<T>& b, int first, int last) {
  std::copy(b.sum + first, b.sum + last, b.before + first);
  if (b.first) std::copy(b.first, b.first + 4 * b.width, b.kept);
}
template <class T>
HWY_INLINE void restore_sums(const ForwardBlock<T>& b, int first, int last) {
  std::copy(b.before + first, b.before + last, b.sum + first);
  if (b.first) std::copy(b.kept, b.kept + 4 * b.width, b.first);
}
/// Whether what was made at once stands: sums in range, and no visible logit of -infinity, which needs a second look.
template <class T>
HWY_INLINE bool stands(const ForwardBlock<T>& b, int first, int last) {
  bool good = true;
  for (int c = first; c < last; c += kLaneCount<T>) {
    good &= hn::AllTrue(Lanes<T>(), hn::Le(load(b.sum + c), set(T(kMostSum))));
    if (b.first) {
      good &= hn::AllTrue(Lanes<T>(), hn::Gt(load(b.smallest + c), set(-std::numeric_limits<T>::infinity())));
    }
  }
  return good;
}

/// Chooses a row's next reference after a tile whose largest logit is `top` in what is relative to the present one:
/// that logit unless the present reference stays. What weights are moved by goes where the factor will lie.
template <class T, class M>
HWY_INLINE void choose_reference(const ForwardBlock<T>& b, int c, Vec<T> start, Vec<T> top, M stays) {
  const Vec<T> next = hn::Sub(start, top), shift = hn::Sub(next, start);
  // Far from zero, rounding makes more of -top than a power of two may hold: weights, sums and what they are divided by
  // would be infinite or 0. Logits are no more exact than that there.
  const Vec<T> by = hn::IfThenElse(hn::Le(hn::Abs(hn::Add(shift, top)), set(T(0.5))), shift, hn::Neg(top));
  store(hn::IfThenElse(stays, start, next), b.next + c);
  store(hn::IfThenElseZero(hn::Not(stays), by), b.factor + c);
}

/// Turns logits into weights 2^(logit + next) in place, over kVectors columns of vectors from lane c on; sum = sum *
/// factor + their sum, and start = next. With kRelative, numbers that have `start` added to them already, and are moved
/// by what choose_reference() says; without, the first ones of rows that have no sum yet. With kMoments
/// the sums' first and second moments and the extremes alike; asking for those changes no bit of anything else.
template <int kVectors, bool kRelative, bool kMoments, class T>
HWY_NOINLINE void exponentiate_columns(const ForwardBlock<T>& b, T* x, int keys, int c) {
  constexpr int kL = kLaneCount<T>;
  static_assert(kVectors == 1 || !kMoments);
  [[maybe_unused]] const Vec<T> hidden = set(-std::numeric_limits<T>::infinity());
  Vec<T> move[kVectors], next[kVectors], total[kVectors];
  ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
    const int lane = c + v * kL;
    next[v] = load(b.next + lane);
    const Vec<T> shift = kRelative ? load(b.factor + lane) : zero<T>(), sum = load(b.sum + lane);
    // Of a row that nothing was added to yet, any reference becomes any other: 2^shift may be infinite, and 0 times it
    // NaN.
    const Vec<T> f = hn::IfThenElse(hn::Eq(sum, zero<T>()), set(T(1)), exp2(shift));
    move[v] = kRelative ? shift : next[v];
    store(f, b.factor + lane);
    store(next[v], b.start + lane);
    total[v] = hn::Mul(sum, f);
    if constexpr (kMoments) {
      const Vec<T> d = hn::Max(shift, Moments<T>::least()), first = load(b.first + lane);
      store(hn::Mul(f, hn::MulAdd(d, sum, first)), b.first + lane);
      const Vec<T> second = hn::MulAdd(d, hn::MulAdd(d, sum, hn::Add(first, first)), load(b.second + lane));
      store(hn::Mul(f, second), b.second + lane);
    }
  }
  [[maybe_unused]] Moments<T> moments(kMoments ? b.first + c : b.sum, kMoments ? b.width : 0);
  x += c;
  for (int j = 0; j < keys; ++j, x += b.width) {
    ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
      const Vec<T> power = hn::Add(load(x + v * kL), move[v]), e = exp2(power);
      total[v] = hn::Add(total[v], e);
      store(e, x + v * kL);
      if constexpr (kMoments) moments.add_seen(e, power, hn::Gt(power, hidden));
    }
  }
  ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) store(total[v], b.sum + c + v * kL);
  if constexpr (kMoments) moments.put(b.first + c, b.width, next[0]);
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

/// Logits of the first tile's first kSample keys, and the rows' references, 0 before; a row whose logits are not
/// numbers keeps 0.
template <class T>
HWY_INLINE void take_sample(const ForwardBlock<T>& b, const T* k, int keys, Upcoming* ahead) {
  product_into<Into::begin, true>(keys, b.width, b.in.head_dim, k, b.in.key_stride, 1, b.queries, b.width, b.weights,
                                  b.width, b.start, ahead);
  for (int c = 0; c < b.width; c += kLaneCount<T>) {
    const Vec<T> top = largest_of(b.weights + c, keys, b.width);
    store(hn::IfThenElseZero(is_number<T>(top), hn::Neg(top)), b.next + c);
  }
}

/// Weights of `keys` keys for lanes first .. last-1 while their logits are in registers, into x; sums, and moments
/// where they are asked for.
template <class T>
HWY_INLINE void weights_of(const ForwardBlock<T>& b, int keys, const T* k, int first, int last, T* x, Upcoming* ahead) {
  const PlainForward<T>& in = b.in;
  if (b.first) {
    product_into<Into::moments, true>(keys, last - first, in.head_dim, k, in.key_stride, 1, b.queries + first, b.width,
                                      x + first, b.width, b.sum + first, ahead);
  } else {
    product_into<Into::weights, true>(keys, last - first, in.head_dim, k, in.key_stride, 1, b.queries + first, b.width,
                                      x + first, b.width, b.sum + first, ahead);
  }
}
/// Whether all rows have a reference.
template <class T>
HWY_INLINE bool begun(const ForwardBlock<T>& b, int first, int last) {
  bool good = true;
  for (int c = first; c < last; c += kLaneCount<T>) {
    good &= hn::AllTrue(Lanes<T>(), hn::Gt(load(b.sum + c), zero<T>()));
  }
  return good;
}

/// Weights of a tile in one pass, while its logits are in registers. False, with the sums as before, if some row's
/// reference must change.
template <class T>
HWY_INLINE bool weights_at_once(const ForwardBlock<T>& b, const T* k, int keys, bool first, Upcoming* ahead) {
  const PlainForward<T>& in = b.in;
  const int done = first ? std::min(keys, kSample) : 0;
  if (first) {
    take_sample(b, k, done, ahead);
    exponentiate<false>(b, b.weights, done, 0, b.width);
  }
  if (!begun(b, 0, b.width)) return false;
  keep_sums(b, 0, b.width);
  weights_of(b, keys - done, k + done * in.key_stride, 0, b.width, b.weights + std::ptrdiff_t(done) * b.width, ahead);
  if (stands(b, 0, b.width)) return true;
  ++b.misses;
  restore_sums(b, 0, b.width);
  return false;
}

/// The same in several passes. Rows whose reference stays get the same bits as above.
template <class T>
HWY_NOINLINE void weights_in_passes(const ForwardBlock<T>& b, const T* k, int keys, bool first) {
  const PlainForward<T>& in = b.in;
  const int done = first ? std::min(keys, kSample) : 0;
  if (first) {
    std::fill(b.sum, b.sum + 2 * b.width, T(0));  // and the references
    clear_moments(b);
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
    choose_reference<T>(b, c, start, top, stays);
  }
  exponentiate<true>(b, b.weights, keys, 0, b.width);
}

/// A tile at an edge of what is visible, seen by some queries: where it lies.
template <class T>
struct EdgeTile {
  const T *key, *value;  // of its first key
  int keys;
  int from;        // the first query that sees the first key; negative if all do
  int first, end;  // lanes that see some of it
};

/// Which of a vector of lanes from c on see the j-th key: those from their own query on, `span` of them in a window;
/// the first key is `from` places after the first query's own.
template <class T>
struct SeenFrom {
  int c, from, span;
  HWY_INLINE auto operator()(int j) const { return sees<T>(c, from + j, span); }
};

/// Logits, relative to the references already, to weights: one vector of lanes from c on, of which each sees the keys
/// that see(j) says.
template <bool kMoments, class T, class See>
HWY_INLINE void cut_weights(const ForwardBlock<T>& b, T* at, int keys, int c, const See& see) {
  Vec<T> total = load(b.sum + c);
  [[maybe_unused]] Moments<T> moments(kMoments ? b.first + c : b.sum, kMoments ? b.width : 0);
  for (int j = 0; j < keys; ++j, at += b.width) {
    const auto seen = see(j);
    const Vec<T> x = load(at), weight = hn::IfThenElseZero(seen, exp2_of_finite(x));
    total = hn::Add(total, weight);
    if constexpr (kMoments) moments.add_seen(weight, x, seen);
    store(weight, at);
  }
  store(total, b.sum + c);
  if constexpr (kMoments) moments.put(b.first + c, b.width, load(b.start + c));
}

/// Weights of `keys` keys for lanes first .. last-1, into x: those of lanes begin .. end-1, which see all of the keys,
/// while their logits are in registers; others as see_of(c) says of the vector at lane c. Sums are added up alike.
template <class T, class SeeOf>
HWY_INLINE void weights_where_seen(const ForwardBlock<T>& b, int keys, const T* k, int first, int last, int begin,
                                   int end, const SeeOf& see_of, T* x, Upcoming* ahead) {
  if (begin < end) weights_of(b, keys, k, begin, end, x, ahead);
  for (const auto& [from, to] : {std::pair{first, begin}, std::pair{end, last}}) {
    if (from >= to) continue;
    product_into<Into::begin, true>(keys, to - from, b.in.head_dim, k, b.in.key_stride, 1, b.queries + from, b.width,
                                    x + from, b.width, b.start + from, ahead);
    for (int c = from; c < to; c += kLaneCount<T>) {
      if (b.first) {
        cut_weights<true>(b, x + c, keys, c, see_of(c));
      } else {
        cut_weights<false>(b, x + c, keys, c, see_of(c));
      }
    }
  }
}

/// The weights of a tile at an edge in one pass: in each strip, the squares that all queries see while their logits are
/// in registers, and those that are cut. False, with the sums as before, if some row's reference must change.
template <class T>
HWY_INLINE bool edge_weights_at_once(const ForwardBlock<T>& b, const EdgeTile<T>& e, Upcoming* ahead) {
  const PlainForward<T>& in = b.in;
  if (b.misses >= kMisses || !begun(b, e.first, e.end)) return false;
  keep_sums(b, e.first, e.end);
  for (int j0 = 0; j0 < e.keys; j0 += kStrip) {
    const int keys = std::min(kStrip, e.keys - j0), from = e.from + j0, lane = strip_lane(from);
    const int last = std::min(e.end, strip_end(from + keys - 1, in.span, b.width));
    if (lane >= last) continue;
    // All lanes from `begin` on see all of the strip, those before `end` still do.
    const int begin = std::min(last, strip_lane(from + keys - 1 + kStrip - 1));
    const std::int64_t past =
        in.span > 0 ? std::max<std::int64_t>(0, std::int64_t(from) + in.span) / kStrip * kStrip : last;
    const int end = int(std::clamp<std::int64_t>(past, begin, last));
    const auto see_of = [&](int c) HWY_ATTR { return SeenFrom<T>{c, from, in.span}; };
    weights_where_seen(b, keys, e.key + j0 * in.key_stride, lane, last, begin, end, see_of,
                       b.weights + std::ptrdiff_t(j0) * b.width, ahead);
  }
  if (stands(b, e.first, e.end)) return true;
  ++b.misses;
  restore_sums(b, e.first, e.end);
  return false;
}

/// The same in several passes, for any edge: hidden logits become -infinity before references are chosen. Rows whose
/// reference stays get the same bits as above.
template <class T>
HWY_INLINE void edge_weights_in_passes(const ForwardBlock<T>& b, const EdgeTile<T>& e, Upcoming* ahead) {
  constexpr int kL = kLaneCount<T>;
  const PlainForward<T>& in = b.in;
  const Vec<T> hidden = set(-std::numeric_limits<T>::infinity());
  for (int c = e.first; c < e.end; c += kL) {
    store(hidden, b.before + c);           // the largest of each row
    store(load(b.sum + c), b.factor + c);  // the sum, if the reference stays
  }
  for (int j0 = 0; j0 < e.keys; j0 += kStrip) {
    const int j1 = std::min(e.keys, j0 + kStrip);
    const int lane = strip_lane(e.from + j0), lane_end = strip_end(e.from + j1 - 1, in.span, b.width);
    if (lane >= lane_end) continue;
    T* x = b.weights + std::ptrdiff_t(j0) * b.width;
    product_into<Into::begin, true>(j1 - j0, lane_end - lane, in.head_dim, e.key + j0 * in.key_stride, in.key_stride, 1,
                                    b.queries + lane, b.width, x + lane, b.width, b.start + lane, ahead);
    for (int c = lane; c < lane_end; c += kL) {
      const bool all = all_see<T>(c, e.from + j0, e.from + j1 - 1, in.span);
      Vec<T> top = load(b.before + c), total = load(b.factor + c);
      const bool fresh = hn::AllFalse(Lanes<T>(), hn::Gt(load(b.sum + c), zero<T>()));
      T* at = x + c;
      for (int j = j0; j < j1; ++j, at += b.width) {
        Vec<T> logit = load(at);
        if (!all) {
          logit = hn::IfThenElse(sees<T>(c, e.from + j, in.span), logit, hidden);
          store(logit, at);
        }
        top = hn::Max(top, logit);
        if (!fresh) total = hn::Add(total, exp2(logit));
      }
      store(top, b.before + c);
      store(total, b.factor + c);
    }
  }
  for (int c = e.first; c < e.end; c += kL) {
    const Vec<T> top = load(b.before + c), start = load(b.start + c);
    const auto stays = hn::And(hn::Gt(load(b.sum + c), zero<T>()), hn::Le(load(b.factor + c), set(T(kMostSum))));
    choose_reference<T>(b, c, start, top, hn::Or(stays, hn::Not(is_number<T>(top))));
  }
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
