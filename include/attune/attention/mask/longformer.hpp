// Longformer: a window, which may be dilated, and global tokens that see all and are seen by all.  arXiv:2004.05150
#pragma once
#include <string_view>
#include <vector>

#include "attune/attention/mask/dilated.hpp"

namespace attune {

/// Position p sees p + n * dilation for n = -half_window .. half_window, and the global tokens; a global token sees
/// everything. (The paper's w is 2 half_window.) global_tokens: positions, rising. For a decoder: & Causal{}.
struct Longformer {
  static constexpr std::string_view name = "longformer";
  static constexpr std::string_view source = "arXiv:2004.05150",
                                    cost = "2 half_window + 1 keys a query, and rows and columns of global tokens";
  int half_window = 256, dilation = 1;
  std::vector<int> global_tokens;

  void options(StageOptions& visit) {
    visit("half_window", half_window), visit("dilation", dilation), visit("global_tokens", global_tokens);
  }
  void check(const AttendShape&) const;
  Range keys(const Area&) const;
  Cover cover(const Area&) const;
  void visible(const Area&, std::uint64_t* rows) const;
  /// Without global tokens.
  Dilated local() const { return {half_window, half_window, dilation}; }
};

}  // namespace attune
