// What this machine can do at best, measured in the same run as the kernels: every figure is read as a share of it.
//
//   multiply-add   twelve independent chains in registers, no memory: float32, float64, bfloat16 pairs into float32
//   exp2           2^x as kernels need it: round, a polynomial of degree 5, put the exponent in; data in L1
//   reading        a buffer in L2, or one that no cache holds
//
// One measurement takes 1 to 10 ms, so that it can stand right before each sample of what is read against it.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <memory>
#include <new>
#include <vector>

#include "attune/base/cpu.hpp"
#include "attune/base/parallel.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

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

/// Processor seconds of all threads of this process together.
inline double process_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

#if defined(__x86_64__)
// Inline assembly: a compiler may neither merge the chains nor drop them.
#define ATTUNE_CHAINS(NAME, TARGET, VECTOR, CONSTRAINT, INSTRUCTION)                                 \
  [[gnu::target(TARGET), gnu::noinline]] inline void NAME(std::int64_t rounds) {                     \
    VECTOR a0{}, a1{}, a2{}, a3{}, a4{}, a5{}, a6{}, a7{}, a8{}, a9{}, a10{}, a11{}, x{}, y{};       \
    for (std::int64_t i = 0; i < rounds; ++i) {                                                      \
      asm volatile(INSTRUCTION " %6, %7, %0\n\t" INSTRUCTION " %6, %7, %1\n\t" INSTRUCTION           \
                               " %6, %7, %2\n\t" INSTRUCTION " %6, %7, %3\n\t" INSTRUCTION           \
                               " %6, %7, %4\n\t" INSTRUCTION " %6, %7, %5"                           \
                   : "+" CONSTRAINT(a0), "+" CONSTRAINT(a1), "+" CONSTRAINT(a2), "+" CONSTRAINT(a3), \
                     "+" CONSTRAINT(a4), "+" CONSTRAINT(a5)                                          \
                   : CONSTRAINT(x), CONSTRAINT(y));                                                  \
      asm volatile(INSTRUCTION " %6, %7, %0\n\t" INSTRUCTION " %6, %7, %1\n\t" INSTRUCTION           \
                               " %6, %7, %2\n\t" INSTRUCTION " %6, %7, %3\n\t" INSTRUCTION           \
                               " %6, %7, %4\n\t" INSTRUCTION " %6, %7, %5"                           \
                   : "+" CONSTRAINT(a6), "+" CONSTRAINT(a7), "+" CONSTRAINT(a8), "+" CONSTRAINT(a9), \
                     "+" CONSTRAINT(a10), "+" CONSTRAINT(a11)                                        \
                   : CONSTRAINT(x), CONSTRAINT(y));                                                  \
    }                                                                                                \
  }
namespace detail {
typedef float Float16Lanes __attribute__((vector_size(64)));
typedef float Float8Lanes __attribute__((vector_size(32)));
ATTUNE_CHAINS(chains_avx512, "avx512f", Float16Lanes, "v", "vfmadd231ps")
ATTUNE_CHAINS(chains_avx2, "avx2,fma", Float8Lanes, "x", "vfmadd231ps")
ATTUNE_CHAINS(chains_avx512_f64, "avx512f", Float16Lanes, "v", "vfmadd231pd")
ATTUNE_CHAINS(chains_avx2_f64, "avx2,fma", Float8Lanes, "x", "vfmadd231pd")
ATTUNE_CHAINS(chains_avx512_bf16, "avx512f,avx512bf16", Float16Lanes, "v", "vdpbf16ps")
}  // namespace detail
#undef ATTUNE_CHAINS
#endif

/// What multiply-adds work on: `bf16` multiplies pairs of bfloat16 into float32.
enum class Fma { f32, f64, bf16 };

/// One core's multiply-add rate now, GFLOP/s (a multiply-add counts two), with the instruction set of cpu_target().
/// About 2 ms. 0 where there is nothing to measure (the scalar target; bf16 without its instruction).
inline double fma_peak_once(Fma type) {
#if defined(__x86_64__)
  const CpuTarget target = cpu_target();
  if (target == CpuTarget::scalar) return 0;
  const bool wide = target == CpuTarget::avx512;
  if (type == Fma::bf16 && !(wide && cpu_info().avx512_bf16)) return 0;
  const std::int64_t rounds = wide ? 300000 : 600000;
  const double start = thread_seconds();
  if (type == Fma::bf16)
    detail::chains_avx512_bf16(rounds);
  else if (type == Fma::f64)
    wide ? detail::chains_avx512_f64(rounds) : detail::chains_avx2_f64(rounds);
  else
    wide ? detail::chains_avx512(rounds) : detail::chains_avx2(rounds);
  const double flops = double(rounds) * 12 * 2 * (wide ? 16 : 8);
  return flops * (type == Fma::f64 ? 0.5 : type == Fma::bf16 ? 2 : 1) / (thread_seconds() - start) * 1e-9;
#else
  (void)type;
  return 0;
#endif
}
inline double fma_peak_once(bool f64 = false) { return fma_peak_once(f64 ? Fma::f64 : Fma::f32); }

#if defined(__x86_64__)
namespace detail {
// 2^x: t = x + 1.5 * 2^23 rounds to the nearest integer, r = x - (t - 1.5 * 2^23) lies in [-1/2, 1/2], and the integer
// part of t, shifted to where exponents are, is added to the bits of the polynomial.
typedef std::uint32_t Bits16 __attribute__((vector_size(64)));
typedef std::uint32_t Bits8 __attribute__((vector_size(32)));
constexpr float kExp2[] = {1.3333558e-3f, 9.6181291e-3f, 5.5504109e-2f, 2.4022651e-1f, 6.9314718e-1f, 1.f};

[[gnu::target("avx512f"), gnu::noinline]] inline void exp2_avx512(const float* x, int n, int passes) {
  const __m512 magic = _mm512_set1_ps(12582912.f);
  for (int pass = 0; pass < passes; ++pass) {
    for (int i = 0; i < n; i += 64) {
      __m512 p[4];
      for (int c = 0; c < 4; ++c) {
        const __m512 v = _mm512_loadu_ps(x + i + c * 16), t = _mm512_add_ps(v, magic);
        const __m512 r = _mm512_sub_ps(v, _mm512_sub_ps(t, magic));
        p[c] = _mm512_set1_ps(kExp2[0]);
        for (int k = 1; k < 6; ++k) p[c] = _mm512_fmadd_ps(p[c], r, _mm512_set1_ps(kExp2[k]));
        p[c] = __m512(Bits16(p[c]) + (Bits16(t) << 23));
      }
      asm volatile("" ::"v"(p[0]), "v"(p[1]), "v"(p[2]), "v"(p[3]));  // used, so that nothing is dropped
    }
  }
}
[[gnu::target("avx2,fma"), gnu::noinline]] inline void exp2_avx2(const float* x, int n, int passes) {
  const __m256 magic = _mm256_set1_ps(12582912.f);
  for (int pass = 0; pass < passes; ++pass) {
    for (int i = 0; i < n; i += 32) {
      __m256 p[4];
      for (int c = 0; c < 4; ++c) {
        const __m256 v = _mm256_loadu_ps(x + i + c * 8), t = _mm256_add_ps(v, magic);
        const __m256 r = _mm256_sub_ps(v, _mm256_sub_ps(t, magic));
        p[c] = _mm256_set1_ps(kExp2[0]);
        for (int k = 1; k < 6; ++k) p[c] = _mm256_fmadd_ps(p[c], r, _mm256_set1_ps(kExp2[k]));
        p[c] = __m256(Bits8(p[c]) + (Bits8(t) << 23));
      }
      asm volatile("" ::"x"(p[0]), "x"(p[1]), "x"(p[2]), "x"(p[3]));
    }
  }
}
[[gnu::target("avx512f"), gnu::noinline]] inline void read_avx512(const float* x, std::size_t n) {
  __m512 sum[4] = {};
  for (std::size_t i = 0; i < n; i += 64) {
    for (int c = 0; c < 4; ++c) sum[c] = _mm512_add_ps(sum[c], _mm512_loadu_ps(x + i + c * 16));
  }
  asm volatile("" ::"v"(sum[0]), "v"(sum[1]), "v"(sum[2]), "v"(sum[3]));
}
[[gnu::target("avx2"), gnu::noinline]] inline void read_avx2(const float* x, std::size_t n) {
  __m256 sum[8] = {};
  for (std::size_t i = 0; i < n; i += 64) {
    for (int c = 0; c < 8; ++c) sum[c] = _mm256_add_ps(sum[c], _mm256_loadu_ps(x + i + c * 8));
  }
  for (const __m256& s : sum) asm volatile("" ::"x"(s));
}
}  // namespace detail
#endif

namespace detail {
/// Reads n floats, a multiple of 64, as fast as a loop can.
inline void read_floats(const float* x, std::size_t n) {
#if defined(__x86_64__)
  if (cpu_target() == CpuTarget::avx512) return read_avx512(x, n);
  if (cpu_target() == CpuTarget::avx2) return read_avx2(x, n);
#endif
  float sum[32] = {};
  for (std::size_t i = 0; i < n; i += 32) {
    for (std::size_t l = 0; l < 32; ++l) sum[l] += x[i + l];
  }
  for (float v : sum) asm volatile("" ::"m"(v));
}
}  // namespace detail

/// One core's rate of exp2, 10^9 numbers a second, about 1 ms; 0 for the scalar target.
inline double exp2_rate_once() {
#if defined(__x86_64__)
  if (cpu_target() == CpuTarget::scalar) return 0;
  constexpr int kCount = 4096, kPasses = 2000;
  const std::vector<float> x(kCount, -1.3f);
  const double start = thread_seconds();
  cpu_target() == CpuTarget::avx512 ? detail::exp2_avx512(x.data(), kCount, kPasses)
                                    : detail::exp2_avx2(x.data(), kCount, kPasses);
  return double(kCount) * kPasses / (thread_seconds() - start) * 1e-9;
#else
  return 0;
#endif
}

/// GB/s at which one core reads half of its second-level cache again and again, about 1 ms.
inline double l2_read_once() {
  const std::size_t n = std::size_t(cpu_info().l2_bytes) / 2 / sizeof(float) / 64 * 64;
  const std::vector<float> x(n, 1.f);
  detail::read_floats(x.data(), n);
  const int passes = int(100e6 / (4.0 * double(n))) + 1;
  const double start = thread_seconds();
  for (int pass = 0; pass < passes; ++pass) detail::read_floats(x.data(), n);
  return 4.0 * double(n) * passes / (thread_seconds() - start) * 1e-9;
}

namespace detail {
/// n ones in huge pages, where the system has them.
struct FreeHuge {
  void operator()(float* p) const { ::operator delete[](p, std::align_val_t(std::size_t(2) << 20)); }
};
using HugeFloats = std::unique_ptr<float[], FreeHuge>;
inline HugeFloats huge_floats(std::size_t n) {
  HugeFloats x(static_cast<float*>(::operator new[](n * sizeof(float), std::align_val_t(std::size_t(2) << 20))));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  madvise(x.get(), n * sizeof(float), MADV_HUGEPAGE);
#endif
  std::fill(x.get(), x.get() + n, 1.f);
  return x;
}
}  // namespace detail

/// GB/s at which all threads together read 128 MiB that no cache holds, about 20 ms: the better of reading from one
/// place at a time and from four. Which one wins differs with pages and machine.
inline double memory_read_once(int threads) {
  constexpr std::size_t kCount = std::size_t(128) << 18;
  static const detail::HugeFloats x = detail::huge_floats(kCount);
  const auto clock = threads == 1 ? thread_seconds : now;
  double best = 0;
  for (std::size_t places : {1, 4}) {
    const std::size_t share = kCount / std::size_t(threads) / (places * 64) * (places * 64), part = share / places;
    constexpr std::size_t kTurn = 64;  // floats read at a place before the next
    const double start = clock();
    parallel_for(threads, [&](std::int64_t t) {
      const float* mine = x.get() + std::size_t(t) * share;
      for (std::size_t i = 0; i < part; i += kTurn) {
        for (std::size_t p = 0; p < places; ++p) detail::read_floats(mine + p * part + i, std::min(kTurn, part - i));
      }
    });
    best = std::max(best, 4.0 * double(share) * threads / (clock() - start) * 1e-9);
  }
  return best;
}

inline double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

}  // namespace attune::bench
