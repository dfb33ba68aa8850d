// The negation of a mask: a pair is visible where the mask hides it. Written !Window{.left = 4, .right = 4}.
#pragma once
#include <string_view>
#include <type_traits>
#include <utility>

#include "attune/attention/any_stage.hpp"

namespace attune {

/// Without a mask inside (which would hide nothing) it hides everything.
struct Not {
  static constexpr std::string_view name = "not";
  static constexpr std::string_view source = "", cost = "the pairs that the mask hides";
  static constexpr bool by_name = false;
  AnyMask a;

  void check(const AttendShape& shape) const {
    if (a) a->check(shape);
  }
  Cover cover(const Area& area) const {
    const Cover c = a ? a->cover(area) : Cover::full;
    return c == Cover::none ? Cover::full : c == Cover::full ? Cover::none : Cover::partial;
  }
  void visible(const Area& area, std::uint64_t* rows) const {
    if (a)
      a->visible(area, rows);
    else
      for (int j = 0; j < area.keys; ++j) rows[j] = ~std::uint64_t(0);
    for (int j = 0; j < area.keys; ++j) rows[j] = ~rows[j];
  }
};

/// Visible where the mask hides. The result is a Not and no truth value, so that `if (!mask)` does not compile: whether
/// there is a mask is asked by `if (mask)`.
template <class M>
requires(std::is_same_v<M, AnyMask> || IsMask<M>) Not operator!(M a) { return {AnyMask(std::move(a))}; }

}  // namespace attune
