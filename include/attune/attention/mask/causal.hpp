// Causal: query i sees key j iff j <= i + offset. Where the diagonal lies (top left, bottom right, behind a past) is
// the call's alignment or offset, not the mask's.
#pragma once
#include <string_view>

#include "attune/attention/mask/window.hpp"

namespace attune {

struct Causal {
  static constexpr std::string_view name = "causal";
  static constexpr std::string_view source = "arXiv:1706.03762", cost = "the visible half of the pairs";
  static constexpr Window window{.left = -1, .right = 0};

  Range keys(const Area& a) const { return window.keys(a); }
  Cover cover(const Area& a) const { return window.cover(a); }
  void visible(const Area& a, std::uint64_t* rows) const { window.visible(a, rows); }
};

}  // namespace attune
