// Cells: a vector of neighbouring queries of one key, of a tile [keys][queries] where few pairs count. Included once
// per target.
#if defined(ATTUNE_KERNELS_CELLS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_CELLS_INL_H_
#undef ATTUNE_KERNELS_CELLS_INL_H_
#else
#define ATTUNE_KERNELS_CELLS_INL_H_
#endif

#include "kernels/columns-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// A bit a lane.
template <class M>
HWY_INLINE std::uint64_t bits_of(M mask) {
#if HWY_TARGET == HWY_AVX3
  return mask.raw;
#else
  std::uint8_t bytes[8] = {};
  hn::StoreMaskBits(Lanes<float>(), mask, bytes);
  return bytes[0];
#endif
}
/// Of a word of pairs, those of the vector of queries that begins at `first`.
HWY_INLINE std::uint64_t cell_of(std::uint64_t pairs, int first) {
  return pairs >> first & ((std::uint64_t(1) << kLaneCount<float>)-1);
}
/// Calls f(columns) for one vector of queries after the other.
template <class F>
HWY_INLINE void over_cells(int queries, F f) {
  constexpr int kL = kLaneCount<float>;
  int c = 0;
  for (; c + kL <= queries; c += kL) f(Columns<float, 1, false>{c, kL});
  if (c < queries) f(Columns<float, 1, true>{c, queries - c});
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
