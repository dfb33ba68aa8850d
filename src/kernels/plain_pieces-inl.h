// Tiles that a mask cut out (plain_cut.hpp): rows gathered from where they lie and gradients brought back there, and
// the weights of keys that single bits hide. Included once per target.
#if defined(ATTUNE_KERNELS_PLAIN_PIECES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_PLAIN_PIECES_INL_H_
#undef ATTUNE_KERNELS_PLAIN_PIECES_INL_H_
#else
#define ATTUNE_KERNELS_PLAIN_PIECES_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "kernels/plain-inl.h"
#include "kernels/plain_cut.hpp"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

static_assert(kPieceStrip == kStrip);

/// Lanes first .. end-1 of 64.
HWY_INLINE std::uint64_t lanes_between(int first, int end) {
  return first >= end ? 0 : ~std::uint64_t(0) >> (64 - (end - first)) << first;
}

/// Which of a vector of lanes from c on see the j-th key.
template <class T>
struct SeenBits {
  const std::uint64_t* bits;
  int c;
  HWY_INLINE auto operator()(int j) const {
    const std::uint64_t word = bits[j] >> c;  // eight readable bytes, as LoadMaskBits wants them
    return hn::LoadMaskBits(Lanes<T>(), reinterpret_cast<const std::uint8_t*>(&word));
  }
};

/// to [n][cols] = the given rows of `from`.
template <class T>
HWY_NOINLINE void gather_rows(const T* from, std::ptrdiff_t stride, const std::int32_t* rows, int n, int cols, T* to) {
  constexpr int kL = kLaneCount<T>;
  for (int j = 0; j < n; ++j, to += cols) {
    const T* row = from + rows[j] * stride;
    int c = 0;
    for (; c + kL <= cols; c += kL) store(load(row + c), to + c);
    if (c < cols) store_first(load_first(row + c, cols - c), to + c, cols - c);
  }
}
/// The given rows of `to` += from [n][cols].
template <class T>
HWY_NOINLINE void scatter_rows(const T* from, const std::int32_t* rows, int n, int cols, T* to, std::ptrdiff_t stride) {
  constexpr int kL = kLaneCount<T>;
  for (int j = 0; j < n; ++j, from += cols) {
    T* row = to + rows[j] * stride;
    int c = 0;
    for (; c + kL <= cols; c += kL) store(hn::Add(load(row + c), load(from + c)), row + c);
    if (c < cols) {
      const int left = cols - c;
      store_first(hn::Add(load_first(row + c, left), load_first(from + c, left)), row + c, left);
    }
  }
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
