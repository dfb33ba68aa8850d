#include "attune/base/cpu.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>

#include "attune/base/error.hpp"

namespace attune {
namespace {
#if defined(__aarch64__)
constexpr std::array<std::string_view, 1> kTargetNames = {"neon"};  // the compiler's baseline has it
#else
constexpr std::array<std::string_view, 3> kTargetNames = {"scalar", "avx2", "avx512"};
#endif
constexpr std::string_view kBf16Name = "avx512_bf16";  // CpuTarget::avx512 and the product of bfloat16 pairs

std::string all_names() {
  std::string names(kTargetNames[0]);
  for (std::size_t i = 1; i < kTargetNames.size(); ++i) names += ", " + std::string(kTargetNames[i]);
  return kTargetNames.size() > 1 ? names + " or " + std::string(kBf16Name) : names;
}

CpuInfo detect() {
  CpuInfo info;
#if defined(__x86_64__)
  __builtin_cpu_init();  // checks the operating system's support for the registers too
  info.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  info.avx512 = info.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("avx512cd");
  info.avx512_bf16 = info.avx512 && __builtin_cpu_supports("avx512bf16");
  info.avx512_vnni = info.avx512 && __builtin_cpu_supports("avx512vnni");
#endif
  const long l1 = sysconf(_SC_LEVEL1_DCACHE_SIZE), l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
  info.l1d_bytes = l1 > 0 ? l1 : 32 * 1024;
  info.l2_bytes = l2 > 0 ? l2 : 1024 * 1024;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) info.cores = std::max(1, CPU_COUNT(&set));
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) {
      const auto colon = line.find(": ");
      if (colon != std::string::npos) info.model = line.substr(colon + 2);
      break;
    }
  }
  return info;
}

CpuTarget choose() {
  const CpuInfo& info = cpu_info();
  const CpuTarget best = info.avx512 ? CpuTarget::avx512 : info.avx2 ? CpuTarget::avx2 : CpuTarget::scalar;
  const char* text = std::getenv("ATTUNE_CPU");
  if (!text || !*text) return best;
  if (text == kBf16Name && info.avx512_bf16) return CpuTarget::avx512;
  for (std::size_t i = 0; i < kTargetNames.size(); ++i) {
    if (kTargetNames[i] != text) continue;
    if (CpuTarget(i) > best) {
      fail("ATTUNE_CPU", "an instruction set that this processor has",
           "got \"" + std::string(text) + "\", the best here is " + std::string(name_of(best)));
    }
    return CpuTarget(i);
  }
  if (text == kBf16Name) {
    fail("ATTUNE_CPU", "an instruction set that this processor has",
         "got \"" + std::string(text) + "\", the best here is " + std::string(name_of(best)));
  }
  fail("ATTUNE_CPU", all_names(), "got \"" + std::string(text) + "\"");
}
}  // namespace

const CpuInfo& cpu_info() {
  static const CpuInfo info = detect();
  return info;
}

CpuTarget cpu_target() {
  static const CpuTarget target = choose();
  return target;
}

namespace {
/// AVX-512 was not asked for by its bare name.
bool uses_more_than_avx512() {
  const char* text = std::getenv("ATTUNE_CPU");
  const bool named = text && *text;
  return cpu_target() == CpuTarget::avx512 && (!named || text == kBf16Name);
}
}  // namespace

bool cpu_uses_bf16() {
  static const bool uses = uses_more_than_avx512() && cpu_info().avx512_bf16;
  return uses;
}

bool cpu_uses_vnni() {
  static const bool uses = uses_more_than_avx512() && cpu_info().avx512_vnni;
  return uses;
}

std::string_view name_of(CpuTarget target) { return kTargetNames[std::size_t(target)]; }

}  // namespace attune
