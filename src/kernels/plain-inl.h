// What the forward and the backward of the plain path share: which keys a block of queries sees, and the rules for a
// tile that only some of its queries see. Included once per target.
#if defined(ATTUNE_KERNELS_PLAIN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_PLAIN_INL_H_
#undef ATTUNE_KERNELS_PLAIN_INL_H_
#else
#define ATTUNE_KERNELS_PLAIN_INL_H_
#endif

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

/// What a block of queries sees: keys before `full` by all of them, keys up to `end` by some. Where there is a
/// diagonal, `full` is rounded down to whole strips, so that strips and tiles of all blocks start at multiples of
/// kStrip.
struct Visible {
  int full, end;
};
HWY_INLINE Visible visible_keys(bool causal, int position, int queries, int num_keys) {
  if (!causal || position >= num_keys - 1) return {num_keys, num_keys};
  const std::int64_t end = std::int64_t(position) + queries;
  return {position < 0 ? 0 : (position + 1) / kStrip * kStrip, int(end < 0 ? 0 : end < num_keys ? end : num_keys)};
}

/// The first query, rounded down to strips, that sees key `from` places after the first query's own.
HWY_INLINE int strip_lane(int from) { return from > 0 ? from / kStrip * kStrip : 0; }

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

/// All ones where lane index + first >= visible_from.
template <class T>
HWY_INLINE auto sees(int first, int visible_from) {
  return hn::Ge(hn::Iota(Lanes<T>(), T(first)), set(T(visible_from)));
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
