// Loops over arrays, one vector at a time: y = f(x), y = f(a, b), y = f(a, b, c) and sums. The last vector is partial;
// nothing outside of the arrays is read or written. Results may overwrite inputs element by element.
// Included once per target (see dispatch.hpp).
#if defined(ATTUNE_KERNELS_MAP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_MAP_INL_H_
#undef ATTUNE_KERNELS_MAP_INL_H_
#else
#define ATTUNE_KERNELS_MAP_INL_H_
#endif

#include "kernels/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// y[i] = f(x[i]).
template <class T, class F>
HWY_INLINE void map(std::int64_t n, const T* x, T* y, F f) {
  constexpr int kL = kLaneCount<T>;
  std::int64_t i = 0;
  for (; i + kL <= n; i += kL) store(f(load(x + i)), y + i);
  if (i < n) store_first(f(load_first(x + i, int(n - i))), y + i, int(n - i));
}
/// y[i] = f(a[i], b[i]).
template <class T, class F>
HWY_INLINE void map(std::int64_t n, const T* a, const T* b, T* y, F f) {
  constexpr int kL = kLaneCount<T>;
  std::int64_t i = 0;
  for (; i + kL <= n; i += kL) store(f(load(a + i), load(b + i)), y + i);
  if (i < n) {
    const int rest = int(n - i);
    store_first(f(load_first(a + i, rest), load_first(b + i, rest)), y + i, rest);
  }
}
/// y[i] = f(a[i], b[i], c[i]).
template <class T, class F>
HWY_INLINE void map(std::int64_t n, const T* a, const T* b, const T* c, T* y, F f) {
  constexpr int kL = kLaneCount<T>;
  std::int64_t i = 0;
  for (; i + kL <= n; i += kL) store(f(load(a + i), load(b + i), load(c + i)), y + i);
  if (i < n) {
    const int rest = int(n - i);
    store_first(f(load_first(a + i, rest), load_first(b + i, rest), load_first(c + i, rest)), y + i, rest);
  }
}

/// The sum of all lanes of v, in a fixed order.
template <class T>
HWY_INLINE T sum_of_lanes(Vec<T> v) {
  return hn::GetLane(hn::SumOfLanes(Lanes<T>(), v));
}
template <class T>
HWY_INLINE T max_of_lanes(Vec<T> v) {
  return hn::GetLane(hn::MaxOfLanes(Lanes<T>(), v));
}

/// s = f(s, a[i], b[i]) over all i, from 0, then the sum over the lanes; a and b are 0 past the end and f(s, 0, 0) = s.
/// Four running sums, so that additions do not wait for each other.
template <class T, class F>
HWY_INLINE T sum_map(std::int64_t n, const T* a, const T* b, F f) {
  constexpr int kL = kLaneCount<T>;
  Vec<T> s0 = zero<T>(), s1 = s0, s2 = s0, s3 = s0;
  std::int64_t i = 0;
  for (; i + 4 * kL <= n; i += 4 * kL) {
    s0 = f(s0, load(a + i), load(b + i));
    s1 = f(s1, load(a + i + kL), load(b + i + kL));
    s2 = f(s2, load(a + i + 2 * kL), load(b + i + 2 * kL));
    s3 = f(s3, load(a + i + 3 * kL), load(b + i + 3 * kL));
  }
  for (; i + kL <= n; i += kL) s0 = f(s0, load(a + i), load(b + i));
  if (i < n) s1 = f(s1, load_first(a + i, int(n - i)), load_first(b + i, int(n - i)));
  return sum_of_lanes<T>(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
