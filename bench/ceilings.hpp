// What this machine can do at best, measured in the same run as the kernels: every figure is read as a share of it.
// The multiply-add peak is taken with twelve independent chains in registers, no memory.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <vector>

#include "attune/base/cpu.hpp"

namespace attune::bench {

/// Seconds since some fixed moment.
inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Processor seconds of the calling thread: what other programs on the machine take does not count.
inline double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

#if defined(__x86_64__)
// Inline assembly: a compiler may neither merge the chains nor drop them.
#define ATTUNE_FMA_CHAINS(NAME, TARGET, VECTOR, CONSTRAINT, SUFFIX)                                       \
  [[gnu::target(TARGET), gnu::noinline]] inline void NAME(std::int64_t rounds) {                          \
    VECTOR a0{}, a1{}, a2{}, a3{}, a4{}, a5{}, a6{}, a7{}, a8{}, a9{}, a10{}, a11{}, x{}, y{};            \
    for (std::int64_t i = 0; i < rounds; ++i) {                                                           \
      asm volatile("vfmadd231" SUFFIX " %6, %7, %0\n\tvfmadd231" SUFFIX " %6, %7, %1\n\tvfmadd231" SUFFIX \
                   " %6, %7, %2\n\tvfmadd231" SUFFIX " %6, %7, %3\n\tvfmadd231" SUFFIX                    \
                   " %6, %7, %4\n\tvfmadd231" SUFFIX " %6, %7, %5"                                        \
                   : "+" CONSTRAINT(a0), "+" CONSTRAINT(a1), "+" CONSTRAINT(a2), "+" CONSTRAINT(a3),      \
                     "+" CONSTRAINT(a4), "+" CONSTRAINT(a5)                                               \
                   : CONSTRAINT(x), CONSTRAINT(y));                                                       \
      asm volatile("vfmadd231" SUFFIX " %6, %7, %0\n\tvfmadd231" SUFFIX " %6, %7, %1\n\tvfmadd231" SUFFIX \
                   " %6, %7, %2\n\tvfmadd231" SUFFIX " %6, %7, %3\n\tvfmadd231" SUFFIX                    \
                   " %6, %7, %4\n\tvfmadd231" SUFFIX " %6, %7, %5"                                        \
                   : "+" CONSTRAINT(a6), "+" CONSTRAINT(a7), "+" CONSTRAINT(a8), "+" CONSTRAINT(a9),      \
                     "+" CONSTRAINT(a10), "+" CONSTRAINT(a11)                                             \
                   : CONSTRAINT(x), CONSTRAINT(y));                                                       \
    }                                                                                                     \
  }
namespace detail {
typedef float Float16Lanes __attribute__((vector_size(64)));
typedef float Float8Lanes __attribute__((vector_size(32)));
ATTUNE_FMA_CHAINS(chains_avx512, "avx512f", Float16Lanes, "v", "ps")
ATTUNE_FMA_CHAINS(chains_avx2, "avx2,fma", Float8Lanes, "x", "ps")
ATTUNE_FMA_CHAINS(chains_avx512_f64, "avx512f", Float16Lanes, "v", "pd")
ATTUNE_FMA_CHAINS(chains_avx2_f64, "avx2,fma", Float8Lanes, "x", "pd")
}  // namespace detail
#undef ATTUNE_FMA_CHAINS
#endif

/// One core's multiply-add rate now, GFLOP/s (a multiply-add counts two), with the instruction set of cpu_target().
/// About 2 ms. 0 where there is nothing to measure (the scalar target).
inline double fma_peak_once(bool f64 = false) {
#if defined(__x86_64__)
  const CpuTarget target = cpu_target();
  if (target == CpuTarget::scalar) return 0;
  const bool wide = target == CpuTarget::avx512;
  const std::int64_t rounds = wide ? 300000 : 600000;
  const double start = thread_seconds();
  if (f64)
    wide ? detail::chains_avx512_f64(rounds) : detail::chains_avx2_f64(rounds);
  else
    wide ? detail::chains_avx512(rounds) : detail::chains_avx2(rounds);
  const double flops = double(rounds) * 12 * 2 * (wide ? 16 : 8) / (f64 ? 2 : 1);
  return flops / (thread_seconds() - start) * 1e-9;
#else
  (void)f64;
  return 0;
#endif
}

inline double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

}  // namespace attune::bench
