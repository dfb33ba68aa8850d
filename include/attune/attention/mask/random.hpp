// Random pairs: each is visible with a probability of its own, drawn once and for all. The random part of BigBird
// (arXiv:2007.14062) without its blocks; a baseline that every sparse pattern should beat.
#pragma once
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

/// keep: the probability that a pair is visible, above 0 and at most 1, rounded to a multiple of 2^-16. Which pairs are
/// is a function of (seed, head, position of the query, key) alone, the bits of base/dropout.hpp for batch entry 0; so
/// rows may be empty, and other tiles, threads, instruction sets, batches or a cache show the same pairs.
struct RandomMask {
  static constexpr std::string_view name = "random";
  static constexpr std::string_view source = "arXiv:2007.14062", cost = "all tiles; Philox, 0.2 ns a pair";
  double keep = 0.5;
  int seed = 0;

  void options(StageOptions& visit) { visit("keep", keep), visit("seed", seed); }
  void check(const AttendShape&) const;
  void visible(const Area&, std::uint64_t* rows) const;
};

}  // namespace attune
