// Padding: keys j >= valid_keys[batch] are hidden. It never moves the causal diagonal.
#pragma once
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "attune/attention/stage.hpp"

namespace attune {

/// valid_keys [B], each 0 .. Tk.
struct Padding {
  static constexpr std::string_view name = "padding";
  static constexpr std::string_view source = "", cost = "the valid keys";
  static constexpr bool by_name = false;
  std::vector<int> valid_keys;

  void check(const AttendShape&) const;
  Range keys(const Area& a) const { return {0, valid_keys[std::size_t(a.batch)]}; }
  Cover cover(const Area& a) const {
    const int n = valid_keys[std::size_t(a.batch)];
    return a.key >= n ? Cover::none : a.key + a.keys <= n ? Cover::full : Cover::partial;
  }
  void visible(const Area& a, std::uint64_t* rows) const {
    const int n = valid_keys[std::size_t(a.batch)];
    for (int j = 0; j < a.keys; ++j) rows[j] = a.key + j < n ? ~std::uint64_t(0) : 0;
  }
};

}  // namespace attune
