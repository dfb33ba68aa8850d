// The conjunction of two masks: a pair is visible where both say so. Written Causal{} & Window{.left = 256}.
#pragma once
#include <algorithm>
#include <functional>
#include <string_view>
#include <utility>

#include "attune/attention/mask/joined.hpp"

namespace attune {

struct Both {
  static constexpr std::string_view name = "both";
  static constexpr std::string_view source = "", cost = "what both cost";
  static constexpr bool by_name = false;
  AnyMask a, b;

  void check(const AttendShape& shape) const {
    a->check(shape);
    b->check(shape);
  }
  Range keys(const Area& area) const {
    const Range x = a->keys(area), y = b->keys(area);
    return {std::max(x.begin, y.begin), std::min(x.end, y.end)};
  }
  Cover cover(const Area& area) const { return std::min(a->cover(area), b->cover(area)); }
  void visible(const Area& area, std::uint64_t* rows) const {
    detail::join_visible(a, b, area, rows, std::bit_and<>{});
  }
};

/// Visible where both masks say so. A missing mask hides nothing.
template <detail::IsAnyOrMask A, detail::IsAnyOrMask B>
AnyMask operator&(A a, B b) {
  AnyMask x(std::move(a)), y(std::move(b));
  if (x.get() == nullptr) return y;
  if (y.get() == nullptr) return x;
  return Both{std::move(x), std::move(y)};
}

}  // namespace attune
