// Cuts what a mask shows of a block of queries into dense pieces for the plain path (kernels/plain_cut.hpp).
#pragma once
#include <cstdint>
#include <vector>

#include "attention/problem.hpp"
#include "kernels/plain_cut.hpp"

namespace attune::engine {

/// Keys of a block are sorted by the strips of queries that see some of them, since those are what kernels multiply:
///
///     window, 64 queries        global keys           one key a query, far apart
///     k  1000 1100 1110 1111    k 7, 512: 1111        k 3, 131: 1000, k 20, 148: 0100, ...
///        0111 0011 0001         gathered              gathered
///
/// so that a tile costs the pairs of its strips, 16 queries each, whatever the mask. Keys that all of their strips'
/// queries see need no bits. A thread keeps one cut, for its memory.
class MaskCut final : public kernels::PlainCut {
 public:
  /// What the mask shows of head (b, h), of queries from `first_query` on; `offset`: of the batch entry.
  void bind(const Mask& mask, const AttendShape& shape, int b, int h, int first_query, int offset);
  std::span<const kernels::PlainPiece> pieces(int head, int query, int queries, int first_key, int end_key,
                                              int most) override;

 private:
  struct Key {
    std::int32_t key, kind;  // kind: which strips see some of it, and whether all of it
    std::uint64_t bits;
  };
  /// Notes that all queries see so many keys from `key` on.
  void add_whole(int key, int keys);
  /// Pieces of what was noted.
  void take_whole(int most);

  const Mask* mask_ = nullptr;
  Area head_;
  int first_query_ = 0;
  std::vector<Range> whole_;        // keys that all queries see
  std::vector<Key> found_;          // keys that some see, in order
  std::vector<std::int32_t> rows_;  // of pieces
  std::vector<std::uint64_t> bits_;
  std::vector<kernels::PlainPiece> pieces_;
};

/// counts[i] = keys that query `query` + i sees, `queries` of them.
void count_visible(const Mask& mask, const AttendShape& shape, int b, int h, int offset, int* counts);

}  // namespace attune::engine
