// Loops over the columns of a tile [keys][queries]: up to four vectors of queries at a time, the last one partial, so
// that what belongs to a query (a maximum, a sum) stays in registers while the keys pass. Included once per target.
#if defined(ATTUNE_KERNELS_COLUMNS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_COLUMNS_INL_H_
#undef ATTUNE_KERNELS_COLUMNS_INL_H_
#else
#define ATTUNE_KERNELS_COLUMNS_INL_H_
#endif

#include "kernels/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// kVectors vectors of columns from `first` on; where kPartial, there is one and it has `lanes` lanes.
template <class T, int kVectors, bool kPartial>
struct Columns {
  static constexpr int kCount = kVectors;
  int first, lanes;
  HWY_INLINE Vec<T> read(const T* row, int v) const {
    if constexpr (kPartial)
      return load_first(row + first, lanes);
    else
      return load(row + first + v * kLaneCount<T>);
  }
  HWY_INLINE void write(Vec<T> x, T* row, int v) const {
    if constexpr (kPartial)
      store_first(x, row + first, lanes);
    else
      store(x, row + first + v * kLaneCount<T>);
  }
};

/// Calls f(Columns) until all n columns are done.
template <class T, class F>
HWY_INLINE void over_vectors(int n, F f) {
  constexpr int kL = kLaneCount<T>;
  int c = 0;
  for (; c + 4 * kL <= n; c += 4 * kL) f(Columns<T, 4, false>{c, kL});
  for (; c + kL <= n; c += kL) f(Columns<T, 1, false>{c, kL});
  if (c < n) f(Columns<T, 1, true>{c, n - c});
}

/// The same for loops that fill the registers with one vector.
template <class F>
HWY_INLINE void over_single_vectors(int n, F f) {
  constexpr int kL = kLaneCount<float>;
  int c = 0;
  for (; c + kL <= n; c += kL) f(Columns<float, 1, false>{c, kL});
  if (c < n) f(Columns<float, 1, true>{c, n - c});
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
