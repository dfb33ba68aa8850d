// How a kernel source is compiled once per instruction set and chosen at run time.
//
// A source that holds kernels looks like this:
//
//     #undef HWY_TARGET_INCLUDE
//     #define HWY_TARGET_INCLUDE "kernels/name.cpp"  // this file: Highway includes it again for every target
//     #include "kernels/dispatch.hpp"                // first: says which targets
//     #include "hwy/foreach_target.h"
//     #include "kernels/vector-inl.h"                // or product-inl.h; both include hwy/highway.h
//
//     HWY_BEFORE_NAMESPACE();
//     namespace attune::kernels::HWY_NAMESPACE {
//     void twice_f32(float* x, int n) { ... }        // compiled for every target; no overloads, no templates at the
//     top
//     }
//     HWY_AFTER_NAMESPACE();
//
//     #if HWY_ONCE
//     namespace attune::kernels {
//     void twice(float* x, int n) { ATTUNE_DISPATCH(twice_f32)(x, n); }
//     }
//     #endif
//
// The choice is attune::cpu_target() and nothing else: Highway's own process-wide state is neither read nor changed, so
// a program that uses Highway itself is left alone. Only sources and -inl.h files of this folder include this file.
#pragma once

// One generation each is enough; scalable vectors cannot be kept in arrays of accumulators.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

#include "attune/base/cpu.hpp"

namespace attune::kernels {

/// The variant for this machine. `avx512` and `avx2` are null where the compiler's own flags leave a single target.
template <class Function>
Function choose(Function avx512, Function avx2, Function baseline) {
  const CpuTarget target = cpu_target();
  if (target == CpuTarget::avx512 && avx512) return avx512;
  if (target != CpuTarget::scalar && avx2) return avx2;
  return baseline;
}

}  // namespace attune::kernels

/// ATTUNE_DISPATCH(name)(arguments): calls name as compiled for attune::cpu_target().
#define ATTUNE_DISPATCH(name)                                                                                    \
  (::attune::kernels::choose<decltype(&HWY_STATIC_DISPATCH(name))>(HWY_CHOOSE_AVX3(name), HWY_CHOOSE_AVX2(name), \
                                                                   HWY_CHOOSE_FALLBACK(name)))
