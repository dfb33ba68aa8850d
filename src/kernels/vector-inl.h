// The vocabulary of all kernels: vectors of float or double, partial loads and stores, and powers of two.
// Included once per target (see dispatch.hpp); everything lives in attune::kernels::HWY_NAMESPACE.
#if defined(ATTUNE_KERNELS_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_VECTOR_INL_H_
#undef ATTUNE_KERNELS_VECTOR_INL_H_
#else
#define ATTUNE_KERNELS_VECTOR_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"

// Loops over accumulators must unroll fully, or these stay in memory instead of registers.
#define ATTUNE_UNROLL _Pragma("GCC unroll 32")

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// A full register of T: 16 / 8 / 4 floats or 1.
template <class T>
using Lanes = hn::ScalableTag<T>;
template <class T>
using Vec = hn::Vec<Lanes<T>>;

template <class T>
constexpr int kLaneCount = int(HWY_LANES(T));

template <class T>
HWY_INLINE Vec<T> load(const T* p) {
  return hn::LoadU(Lanes<T>(), p);
}
template <class T>
HWY_INLINE void store(Vec<T> v, T* p) {
  hn::StoreU(v, Lanes<T>(), p);
}
template <class T>
HWY_INLINE Vec<T> zero() {
  return hn::Zero(Lanes<T>());
}
template <class T>
HWY_INLINE Vec<T> set(T x) {
  return hn::Set(Lanes<T>(), x);
}

/// The first n lanes from memory, 0 elsewhere; reads nothing past them. 0 <= n <= lanes.
template <class T>
HWY_INLINE Vec<T> load_first(const T* p, int n) {
  const Lanes<T> d;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  return hn::MaskedLoad(hn::FirstN(d, std::size_t(n)), d, p);
#else
  T buffer[HWY_LANES(T)] = {};
  for (int i = 0; i < n; ++i) buffer[i] = p[i];
  return hn::LoadU(d, buffer);
#endif
}
/// Writes the first n lanes and nothing past them.
template <class T>
HWY_INLINE void store_first(Vec<T> v, T* p, int n) {
  const Lanes<T> d;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  hn::BlendedStore(v, hn::FirstN(d, std::size_t(n)), d, p);
#else
  T buffer[HWY_LANES(T)];
  hn::StoreU(v, d, buffer);
  for (int i = 0; i < n; ++i) p[i] = buffer[i];
#endif
}

/// Keeps v in a register: without it g++ repeats a broadcast from memory in every multiply-add that uses it, and a
/// block of 4 x 4 accumulators needs 20 loads for 16 multiply-adds instead of 8 (76 % instead of 95 % of the peak).
template <class V>
HWY_INLINE void keep_in_register([[maybe_unused]] V& v) {
#if HWY_COMPILER_GCC_ACTUAL && (HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2)
  asm("" : "+v"(v.raw));
#endif
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
