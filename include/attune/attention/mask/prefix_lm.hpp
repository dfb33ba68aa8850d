// Prefix LM: every query sees the keys of the prefix, in both directions, and behind it what is not in its future:
//     key j is visible to position p iff j < prefix or j <= p.
// "Exploring the limits of transfer learning with a unified text-to-text transformer", arXiv:1910.10683 (figure 4)
#pragma once
#include <string_view>
#include <vector>

#include "attune/attention/stage.hpp"

namespace attune {

/// prefix: tokens, one number for all batch entries or one for each; none: 0, which is Causal.
struct PrefixLm {
  static constexpr std::string_view name = "prefix_lm";
  static constexpr std::string_view source = "arXiv:1910.10683", cost = "the prefix and the visible half of the rest";
  std::vector<int> prefix;

  void options(StageOptions& visit) { visit("prefix", prefix); }
  void check(const AttendShape&) const;
  Range keys(const Area&) const;
  Cover cover(const Area&) const;
  void visible(const Area&, std::uint64_t* rows) const;

 private:
  int prefix_of(const Area& a) const {
    return prefix.empty() ? 0 : prefix[prefix.size() == 1 ? 0 : std::size_t(a.batch)];
  }
};

}  // namespace attune
