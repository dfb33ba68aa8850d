// The memory of tensors: a cache of 64-byte aligned blocks in size classes, so that a training step after the first
// few asks the system for nothing and touches no new page.
//
// A size class is a power of two cut in eight (at most 12.5 % larger than what was asked for). A freed block goes to
// the list of its class; a request takes from its class or the two above. All functions may be called from any thread.
#pragma once
#include <cstdint>

namespace attune {

/// Bytes that tensors hold and held. A block counts with the size of its class.
struct MemoryUse {
  std::int64_t in_use = 0;           // held by live tensors now
  std::int64_t peak = 0;             // the largest `in_use` since the start or reset_peak_memory()
  std::int64_t cached = 0;           // freed by tensors, kept for the next ones
  std::int64_t system_requests = 0;  // blocks ever taken from the system
};

/// The counters at this moment.
MemoryUse memory_use();
/// Sets `peak` to `in_use`.
void reset_peak_memory();
/// Returns all cached blocks to the system.
void release_cached_memory();

namespace detail {
/// A block of at least `bytes` bytes, aligned to 64; not initialised. `capacity` receives its true size.
/// Throws Error when the system has no memory left.
void* take_block(std::int64_t bytes, std::int64_t& capacity);
/// Gives a block of take_block back to the cache.
void return_block(void* block, std::int64_t capacity) noexcept;
}  // namespace detail

}  // namespace attune
