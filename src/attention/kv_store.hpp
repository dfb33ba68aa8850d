// Inside of KvCache: where the numbers of a block lie, and who holds which block.
//
// A block of t tokens, for all heads: keys [Hkv][t][D], values [Hkv][t][Dv], and where int8 is stored the scales of
// keys and of values, float [Hkv][t] each.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "attune/attention/kv_cache.hpp"

namespace attune {

struct KvCache::Store {
  struct Free {
    void operator()(std::byte* p) const;
  };
  struct Sequence {
    bool alive = false;
    std::int64_t length = 0;
    std::vector<int> blocks;
  };

  KvCacheOptions options;
  // Bytes: of a number; from a block's start to its values and scales; of the whole block.
  std::ptrdiff_t number = 4, values = 0, key_scales = 0, value_scales = 0, block_bytes = 0;
  std::int64_t blocks_per_slab = 1, in_use = 0;
  std::vector<std::unique_ptr<std::byte[], Free>> slabs;
  std::vector<std::byte*> blocks;  // where each block is
  std::vector<int> holders;        // of each block: sequences that hold it
  std::vector<int> unused;         // blocks that nobody holds; the last is taken first
  std::vector<Sequence> sequences;
  std::vector<int> removed;

  explicit Store(const KvCacheOptions&);
  /// The sequence of that number; throws Error if there is none.
  const Sequence& at(const char* function, int sequence) const;
  Sequence& at(const char* function, int sequence) {
    return const_cast<Sequence&>(static_cast<const Store&>(*this).at(function, sequence));
  }
  /// Throws Error unless `more` blocks can be taken.
  void expect_room(const char* function, std::int64_t more) const;
  int take();
  void give_back(int block);
};

}  // namespace attune
