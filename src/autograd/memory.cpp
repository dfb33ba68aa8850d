// The block cache: size classes with a free list each, one lock, counters.
#include "attune/autograd/memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

#include "attune/base/error.hpp"

namespace attune {
namespace {

constexpr std::int64_t kAlign = 64;  // a cache line, and the widest vector
constexpr int kClasses = 8 * 56;     // up to 2^64 bytes

/// Rounds up to a multiple of an eighth of the power of two below (64 bytes at least).
std::int64_t class_size(std::int64_t bytes) {
  if (bytes <= 512) return std::max(kAlign, (bytes + kAlign - 1) / kAlign * kAlign);
  const std::int64_t step = std::int64_t(1) << (std::bit_width(std::uint64_t(bytes - 1)) - 4);
  return (bytes + step - 1) / step * step;
}
/// Neighbouring sizes have neighbouring numbers. `size` is a class_size.
int class_index(std::int64_t size) {
  if (size < 512) return int(size / kAlign);
  const int e = std::bit_width(std::uint64_t(size)) - 1;  // size = 2^e * (1 + m / 8)
  return 8 * (e - 8) + int((size >> (e - 3)) & 7);
}

/// Memory from the system, or null. Large blocks ask for huge pages: strided walks (packing a matrix, heads of a token)
/// then find their addresses, and the first touch costs one fault instead of 512.
void* from_system(std::int64_t size) {
  constexpr std::int64_t kHuge = 2 << 20;
  if (size < kHuge) return std::aligned_alloc(std::size_t(kAlign), std::size_t(size));
  void* memory = std::aligned_alloc(std::size_t(kHuge), std::size_t(size));
#if defined(MADV_HUGEPAGE)
  // The whole pages alone: a part of one would take memory that nobody asked for. A refusal changes nothing.
  if (memory != nullptr) madvise(memory, std::size_t(size / kHuge * kHuge), MADV_HUGEPAGE);
#endif
  return memory;
}

struct Cache {
  struct Block {
    void* memory;
    std::int64_t capacity;
  };
  std::mutex mutex;
  std::array<std::vector<Block>, kClasses> free;
  MemoryUse use;

  void drop_all() {
    for (auto& list : free) {
      for (const Block& b : list) std::free(b.memory);
      list.clear();
    }
    use.cached = 0;
  }
};

// Never destroyed: tensors with static lifetime may outlive every other object.
Cache& cache() {
  static Cache& c = *new Cache;
  return c;
}

}  // namespace

void* detail::take_block(std::int64_t bytes, std::int64_t& capacity) {
  if (bytes < 0 || bytes > (std::int64_t(1) << 46)) {
    fail("tensor memory", "a size of at most 2^46 bytes", "asked for " + std::to_string(bytes));
  }
  const std::int64_t size = class_size(bytes);
  const int first = class_index(size);
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  for (int i = first; i < std::min(first + 3, kClasses); ++i) {
    auto& list = c.free[std::size_t(i)];
    if (list.empty()) continue;
    const Cache::Block b = list.back();
    list.pop_back();
    c.use.cached -= b.capacity;
    c.use.in_use += b.capacity;
    c.use.peak = std::max(c.use.peak, c.use.in_use);
    capacity = b.capacity;
    return b.memory;
  }
  void* memory = from_system(size);
  if (memory == nullptr) {  // what is cached in other classes may be what is missing
    c.drop_all();
    memory = from_system(size);
  }
  if (memory == nullptr) {
    fail("tensor memory", "that much free memory",
         "asked for " + std::to_string(bytes) + " bytes with " + std::to_string(c.use.in_use) + " in use");
  }
  ++c.use.system_requests;
  c.use.in_use += size;
  c.use.peak = std::max(c.use.peak, c.use.in_use);
  capacity = size;
  return memory;
}

void detail::return_block(void* block, std::int64_t capacity) noexcept {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  c.use.in_use -= capacity;
  try {
    c.free[std::size_t(class_index(capacity))].push_back({block, capacity});
    c.use.cached += capacity;
  } catch (...) {
    std::free(block);  // no memory for the list: the system may have the block
  }
}

MemoryUse memory_use() {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  return c.use;
}

void reset_peak_memory() {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  c.use.peak = c.use.in_use;
}

void release_cached_memory() {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  c.drop_all();
}

}  // namespace attune
