// Dilated sliding window: query at position p sees keys p + n * dilation for n = -left .. right. With dilation 1 it is
// Window. Longformer, arXiv:2004.05150 (section 3.1)
#pragma once
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

/// left, right >= 0 steps of `dilation` keys, inclusive; -1: unbounded on that side. dilation >= 1 keys.
struct Dilated {
  static constexpr std::string_view name = "dilated";
  static constexpr std::string_view source = "arXiv:2004.05150",
                                    cost = "1 key in `dilation`; beside other stages all tiles between";
  int left = -1, right = -1, dilation = 2;

  void options(StageOptions& visit) { visit("left", left), visit("right", right), visit("dilation", dilation); }
  void check(const AttendShape&) const;
  Range keys(const Area&) const;
  Cover cover(const Area&) const;
  void visible(const Area&, std::uint64_t* rows) const;
};

}  // namespace attune
