// Whose turn it is where parts of one head pass over the same blocks of queries, each adding to what the part before
// left: the sums are taken in the order of the parts whoever computes them, one block behind the other.
#pragma once
#include <atomic>
#include <cstdint>
#include <limits>
#include <thread>

namespace attune::kernels {

/// Blocks of one part that are done, counted over all heads of its group.
using Passed = std::atomic<std::int64_t>;

/// One part's view. The part before must have been begun first, which parallel_for's rising order gives.
struct Turn {
  const Passed* before = nullptr;  // null: no part comes before
  Passed* own = nullptr;           // null: no part comes after

  void await(std::int64_t block) const {
    if (!before) return;
    for (int spin = 0; before->load(std::memory_order_acquire) <= block; ++spin) {
      if (spin > kSpins) std::this_thread::yield();
    }
  }
  void pass(std::int64_t block) const {
    if (own) own->store(block + 1, std::memory_order_release);
  }
  /// Nothing is left to wait for, also where a task failed.
  void leave() const { pass(std::numeric_limits<std::int64_t>::max() - 1); }

 private:
  static constexpr int kSpins = 1000;  // some microseconds, less than a block takes
};

}  // namespace attune::kernels
