// Rows of a tile [keys][queries] against its diagonals: row j and lane i lie on diagonal m = keys - 1 - j + i. Included
// once per target.
//
// Ladder of the sums, 64 x 64 pairs, in multiply-adds' time for 16 pairs (plain attention of width 64: 350 backward):
//   rows as far apart as a vector is long, which meet the same vectors                                     9
//   of four vectors a row, three stay in registers for the next                                            6
// (One row after the other, each load meets halves of the stores of the row before and waits for them.) The same order
// for what adds to the rows is slower, 6 instead of 4.4: such rows are 4 KiB apart, and a load waits for the store
// before it that seems to be its own.
#if defined(ATTUNE_KERNELS_DIAGONALS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_DIAGONALS_INL_H_
#undef ATTUNE_KERNELS_DIAGONALS_INL_H_
#else
#define ATTUNE_KERNELS_DIAGONALS_INL_H_
#endif

#include <algorithm>

#include "kernels/columns-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// Sums on their way: the last vector of a row is met by no later one.
template <class T, class C>
struct DiagonalSums {
  Vec<T> at[C::kCount];
  HWY_INLINE void begin() { ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) at[v] = zero<T>(); }
  static HWY_INLINE void add(C c, Vec<T> x, T* of_row, int v) { c.write(hn::Add(c.read(of_row, v), x), of_row, v); }
  HWY_INLINE void next(C c, T* of_row) {
    add(c, at[C::kCount - 1], of_row, C::kCount - 1);
    ATTUNE_UNROLL for (int v = C::kCount - 1; v > 0; --v) at[v] = at[v - 1];
    at[0] = zero<T>();
  }
  HWY_INLINE void end(C c, T* of_row) const {
    ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) add(c, at[v], of_row, v);
  }
};
/// Calls begin(), then row(j) and next(j) in turn, then row(j) and end(j), for rows a vector apart, until all are done.
template <class T, class Begin, class Row, class Next, class End>
HWY_INLINE void each_row_by_diagonals(int keys, Begin begin, Row row, Next next, End end) {
  for (int phase = 0; phase < std::min(keys, kLaneCount<T>); ++phase) {
    int j = phase;
    begin();
    for (; j + kLaneCount<T> < keys; j += kLaneCount<T>) row(j), next(j);
    row(j), end(j);
  }
}

/// x[j][i] += value[m].
template <class T, class C>
HWY_NOINLINE void add_diagonal_columns(C c, T* x, std::ptrdiff_t stride, int keys, const T* value) {
  for (int j = 0; j < keys; ++j) {
    T* row = x + j * stride;
    const T* of_row = value + keys - 1 - j;
    ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) c.write(hn::Add(c.read(row, v), c.read(of_row, v)), row, v);
  }
}

/// sum[m] += x[j][i].
template <class T, class C>
HWY_NOINLINE void sum_diagonal_columns(C c, const T* x, std::ptrdiff_t stride, int keys, T* sum) {
  T* first = sum + keys - 1;
  DiagonalSums<T, C> sums;
  each_row_by_diagonals<T>(
      keys, [&]() HWY_ATTR { sums.begin(); },
      [&](int j) HWY_ATTR {
        const T* row = x + j * stride;
        ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) sums.at[v] = hn::Add(sums.at[v], c.read(row, v));
      },
      [&](int j) HWY_ATTR { sums.next(c, first - j); }, [&](int j) HWY_ATTR { sums.end(c, first - j); });
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
