// Which instruction set attune's kernels run with: chosen once, at run time, from what the processor has.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace attune {

/// The targets that kernels are compiled for, weakest first. `scalar` is the compiler's baseline for the architecture;
/// on 64-bit ARM that is NEON, and its name is "neon".
enum class CpuTarget : std::uint8_t { scalar, avx2, avx512 };

struct CpuInfo {
  std::string model;  // as the system names it; empty if it does not
  bool avx2 = false, avx512 = false, avx512_bf16 = false, avx512_vnni = false;
  std::int64_t l1d_bytes = 0,
               l2_bytes = 0;  // per core, read from the system; a default of 32 KiB / 1 MiB where it is silent
  int cores = 1;              // processors that this process may use
};

/// What was detected. Read once.
const CpuInfo& cpu_info();
/// The best target that the processor has, or the one that the environment variable ATTUNE_CPU names (scalar, avx2,
/// avx512, avx512_bf16). Throws Error if that names none or one that the processor lacks: it never falls back.
CpuTarget cpu_target();
/// True if kernels may multiply bfloat16 numbers in pairs: the target is avx512, the processor has AVX-512 BF16, and
/// ATTUNE_CPU is not set or names avx512_bf16; avx512 by name means without.
bool cpu_uses_bf16();
/// The same for products of four 8-bit integers (AVX-512 VNNI).
bool cpu_uses_vnni();
/// "scalar", "avx2", "avx512"; on 64-bit ARM "neon".
std::string_view name_of(CpuTarget target);

}  // namespace attune
