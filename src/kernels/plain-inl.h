// What the forward and the backward of the plain path share: which keys a block of queries sees, and the rules for a
// tile that only some of its queries see. Included once per target.
#if defined(ATTUNE_KERNELS_PLAIN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_PLAIN_INL_H_
#undef ATTUNE_KERNELS_PLAIN_INL_H_
#else
#define ATTUNE_KERNELS_PLAIN_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "kernels/plain_attention.hpp"
#include "kernels/product-inl.h"
#include "kernels/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

constexpr double kLog2E = 1.4426950408889634074, kLn2 = 0.69314718055994530942;

/// The diagonal is cut into squares of this side: products skip the squares that are hidden throughout. A multiple of
/// the lanes on every target.
constexpr int kStrip = 16;

/// Rounds up to whole vectors.
template <class T>
constexpr int whole_vectors(int n) {
  return (n + kLaneCount<T> - 1) / kLaneCount<T> * kLaneCount<T>;
}

/// What a block of queries sees: keys begin .. end-1, of them full_begin .. full_end-1 by all of its rows. Edges inside
/// of the keys are rounded to whole strips, so that strips and tiles of all blocks start at multiples of kStrip. Where
/// no key is seen by all, full_begin = full_end = end.
struct Visible {
  int begin, full_begin, full_end, end;
};
/// Row i sees key j iff (j <= position + i where causal) and (j > position + i - span where span > 0).
HWY_INLINE Visible visible_keys(bool causal, int position, int queries, int num_keys, int span = 0) {
  Visible v{0, 0, num_keys, num_keys};
  if (causal && position < num_keys - 1) {
    v.end = int(std::clamp<std::int64_t>(std::int64_t(position) + queries, 0, num_keys));
    v.full_end = position < 0 ? 0 : (position + 1) / kStrip * kStrip;
  }
  if (span > 0) {
    const std::int64_t low = std::int64_t(position) - span + 1;  // the first row's first key
    if (low >= v.end) return {v.end, v.end, v.end, v.end};
    v.begin = low > 0 ? int(low) / kStrip * kStrip : 0;
    v.full_begin = int(std::clamp<std::int64_t>((low + queries + kStrip - 2) / kStrip * kStrip, 0, v.end));
  }
  if (v.full_begin >= v.full_end) v.full_begin = v.full_end = v.end;
  if (v.full_begin == v.end) v.full_end = v.end;
  return v;
}

/// The first query, rounded down to strips, that sees key `from` places after the first query's own.
HWY_INLINE int strip_lane(int from) { return from > 0 ? from / kStrip * kStrip : 0; }

/// Past the last query, rounded up to strips but at most `width`, that sees the key `from` places after the first
/// query's own.
HWY_INLINE int strip_end(int from, int span, int width) {
  if (span <= 0 || std::int64_t(from) + span >= width) return width;
  return std::min(width, std::max(0, (from + span + kStrip - 1) / kStrip * kStrip));
}

/// True if rows x cols numbers hold no NaN and no infinity: x - x is 0 for all others.
template <class T>
HWY_INLINE bool rows_finite(const T* x, int rows, int cols, std::ptrdiff_t stride) {
  constexpr int kL = kLaneCount<T>;
  Vec<T> sum = zero<T>();
  for (int r = 0; r < rows; ++r) {
    const T* row = x + r * stride;
    int c = 0;
    for (; c + kL <= cols; c += kL) {
      const Vec<T> v = load(row + c);
      sum = hn::Add(sum, hn::Sub(v, v));
    }
    if (c < cols) {
      const Vec<T> v = load_first(row + c, cols - c);
      sum = hn::Add(sum, hn::Sub(v, v));
    }
  }
  T lane[HWY_LANES(T)];
  store(sum, lane);
  for (int i = 1; i < kL; ++i) lane[0] += lane[i];
  return lane[0] == T(0);
}

/// True for the queries first, first + 1, ... that see the key `from` places after the first query's own.
template <class T>
HWY_INLINE auto sees(int first, int from, int span) {
  const Vec<T> query = hn::Iota(Lanes<T>(), T(first));
  const auto reached = hn::Ge(query, set(T(from)));
  return span > 0 ? hn::And(reached, hn::Lt(query, set(T(std::int64_t(from) + span)))) : reached;
}

/// True if the kLanes queries from `first` on all see the keys `from` .. `last` places after the first query's own.
template <class T>
HWY_INLINE bool all_see(int first, int from, int last, int span) {
  return first >= last && (span <= 0 || first + kLaneCount<T> <= std::int64_t(from) + span);
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
