// The disjunction of two masks: a pair is visible where one of them says so. Written Window{.left = 64} | Padding{...}.
#pragma once
#include <algorithm>
#include <functional>
#include <string_view>
#include <utility>

#include "attune/attention/mask/joined.hpp"

namespace attune {

struct Either {
  static constexpr std::string_view name = "either";
  static constexpr std::string_view source = "", cost = "the pairs that one of the two shows";
  static constexpr bool by_name = false;
  AnyMask a, b;

  void check(const AttendShape& shape) const {
    a->check(shape);
    b->check(shape);
  }
  Range keys(const Area& area) const {
    const Range x = a->keys(area), y = b->keys(area);
    if (x.begin >= x.end) return y;
    if (y.begin >= y.end) return x;
    return {std::min(x.begin, y.begin), std::max(x.end, y.end)};
  }
  Cover cover(const Area& area) const { return std::max(a->cover(area), b->cover(area)); }
  void visible(const Area& area, std::uint64_t* rows) const { detail::join_visible(a, b, area, rows, std::bit_or<>{}); }
};

/// Visible where one of the masks says so. A missing mask hides nothing, so nothing is hidden beside it.
template <detail::IsAnyOrMask A, detail::IsAnyOrMask B>
AnyMask operator|(A a, B b) {
  AnyMask x(std::move(a)), y(std::move(b));
  if (x.get() == nullptr || y.get() == nullptr) return {};
  return Either{std::move(x), std::move(y)};
}

}  // namespace attune
