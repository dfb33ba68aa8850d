// Block-sparse attention from a bitmap of blocks: which blocks of keys a block of queries sees is data. "Generating
// long sequences with sparse transformers", arXiv:1904.10509 (the kernels of its section 5.5).
#pragma once
#include <string_view>
#include <vector>

#include "attune/attention/stage.hpp"
#include "attune/base/shape.hpp"

namespace attune {

/// Position p lies in block p / block_queries, key j in block j / block_keys. A query whose position is in no block of
/// the bitmap sees nothing.
///
/// Cost    The visible blocks, if they are multiples of 16 queries and a few dozen keys; smaller ones are visited with
///         what lies between.
struct BlockSparse {
  static constexpr std::string_view name = "block_sparse";
  static constexpr std::string_view source = "arXiv:1904.10509", cost = "the visible blocks";
  static constexpr bool by_name = false;

  BlockSparse() = default;
  /// From bytes, nonzero = visible; blocks [rows, columns], or [H, rows, columns] with a bitmap for every query head.
  /// It keeps a copy. Throws Error for another rank or blocks of less than 1.
  BlockSparse(const std::uint8_t* visible, const Shape& blocks, int block_queries = 64, int block_keys = 64);

  /// Throws Error if the bitmap has another number of heads or does not reach to the last key.
  void check(const AttendShape&) const;
  Range keys(const Area&) const;
  Cover cover(const Area&) const;
  void visible(const Area&, std::uint64_t* rows) const;

 private:
  const std::uint8_t* row(const Area&, int row) const;
  int block_queries_ = 0, block_keys_ = 0, heads_ = 0, rows_ = 0, columns_ = 0;  // heads_ 0: one bitmap for all
  std::vector<std::uint8_t> blocks_;                                             // [heads][rows][columns]
  std::vector<Range> columns_of_;                                                // [heads][rows], in blocks
};

}  // namespace attune
