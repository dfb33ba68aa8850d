// What kernels in x86 intrinsics share (bfloat16 pairs, int8 digits): how functions are compiled for instructions that
// the rest of the program may not use, and what both do with sixteen lanes of 32 bits. Included only where the compiler
// targets x86-64, in sources that check the processor at run time.
#pragma once
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // g++ 12 on its own header's undefined vectors
#endif
#include <immintrin.h>
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cstring>

// Functions between BEGIN and END are compiled for these instructions; what std:: headers define stays as it is for
// everybody else, so headers come before.
// clang-format off
#define ATTUNE_X86_PRAGMA(x) _Pragma(#x)
#if defined(__clang__)
#define ATTUNE_X86_BEGIN_OF(target) ATTUNE_X86_PRAGMA(clang attribute push(__attribute__((target)), apply_to = function))
#define ATTUNE_X86_BEGIN(target) ATTUNE_X86_BEGIN_OF(target)
#define ATTUNE_X86_END _Pragma("clang attribute pop")
#else
#define ATTUNE_X86_BEGIN_OF(target) ATTUNE_X86_PRAGMA(GCC push_options) ATTUNE_X86_PRAGMA(GCC target)
#define ATTUNE_X86_BEGIN(target) ATTUNE_X86_BEGIN_OF(target)
#define ATTUNE_X86_END _Pragma("GCC pop_options")
#endif
// clang-format on
#define ATTUNE_X86_INLINE static inline __attribute__((always_inline))
#define ATTUNE_X86_NOINLINE __attribute__((noinline)) static
#define ATTUNE_X86_UNROLL _Pragma("GCC unroll 32")

ATTUNE_X86_BEGIN(target("avx512f"))
namespace attune::kernels::x86 {

/// The 32 bits at p, which need no alignment, in all lanes. Kept in a register: g++ would read them again for every
/// product.
ATTUNE_X86_INLINE __m512i spread(const void* p) {
  int x;
  std::memcpy(&x, p, sizeof(x));
  __m512i v = _mm512_set1_epi32(x);
  asm("" : "+v"(v));
  return v;
}

/// Lane c of v[r] becomes lane r of v[c]: squares of 2, 4, 8 and 16 in turn.
ATTUNE_X86_INLINE void transpose(__m512i (&v)[16]) {
  __m512i w[16];
  ATTUNE_X86_UNROLL for (int i = 0; i < 16; i += 2) {
    w[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    w[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  ATTUNE_X86_UNROLL for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(w[i], w[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(w[i], w[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(w[i + 1], w[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(w[i + 1], w[i + 3]);
  }
  ATTUNE_X86_UNROLL for (int i = 0; i < 4; ++i) {
    w[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
    w[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
    w[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
    w[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
  }
  ATTUNE_X86_UNROLL for (int i = 0; i < 8; ++i) {
    v[i] = _mm512_shuffle_i32x4(w[i], w[i + 8], 0x88);
    v[i + 8] = _mm512_shuffle_i32x4(w[i], w[i + 8], 0xdd);
  }
}

}  // namespace attune::kernels::x86
ATTUNE_X86_END
