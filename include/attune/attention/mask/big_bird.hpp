// BigBird: blocks of a window, global blocks and random blocks.  arXiv:2007.14062 (the construction of its section 2,
// by blocks as in its appendix D)
//
//     block r of queries sees block c of keys iff |r - c| <= window, or c or r is one of the first `global_blocks`, or
//     c is one of the `random_blocks` that r draws among all others.
#pragma once
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

/// Blocks have `block` tokens; window: blocks on each side. The random blocks are a function of (seed, head, block of
/// queries, number of blocks) alone. The number of blocks is that of the call's keys; `length` tokens say it where keys
/// are still to come (decoding), so that a query draws the same blocks in every call.
struct BigBird {
  static constexpr std::string_view name = "big_bird";
  static constexpr std::string_view source = "arXiv:2007.14062",
                                    cost = "2 window + 1 + random blocks a query, and the global ones";
  int block = 64, window = 1, global_blocks = 1, random_blocks = 3;
  int length = 0, seed = 0;

  void options(StageOptions& visit) {
    visit("block", block), visit("window", window), visit("global_blocks", global_blocks);
    visit("random_blocks", random_blocks), visit("length", length), visit("seed", seed);
  }
  void check(const AttendShape&) const;
  Cover cover(const Area&) const;
  void visible(const Area&, std::uint64_t* rows) const;

  static constexpr int kMostRandom = 64;
};

}  // namespace attune
