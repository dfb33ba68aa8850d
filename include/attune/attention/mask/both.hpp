// The conjunction of two masks: a pair is visible where both say so. Written Causal{} & Window{.left = 256}.
#pragma once
#include <algorithm>
#include <string_view>
#include <utility>

#include "attune/attention/any_stage.hpp"

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
    constexpr int kPiece = 128;  // keys at a time, so that the second opinion fits on the stack
    for (int first = 0; first < area.keys; first += kPiece) {
      Area part = area;
      part.key += first;
      part.keys = std::min(kPiece, area.keys - first);
      std::uint64_t other[kPiece];
      a->visible(part, rows + first);
      b->visible(part, other);
      for (int j = 0; j < part.keys; ++j) rows[first + j] &= other[j];
    }
  }
};

/// Visible where both masks say so. A missing mask hides nothing.
inline AnyMask operator&(const AnyMask& a, const AnyMask& b) {
  if (a.get() == nullptr) return b;
  if (b.get() == nullptr) return a;
  return Both{a, b};
}
template <IsMask A, IsMask B>
AnyMask operator&(A a, B b) {
  return AnyMask(std::move(a)) & AnyMask(std::move(b));
}
template <IsMask A>
AnyMask operator&(A a, const AnyMask& b) {
  return AnyMask(std::move(a)) & b;
}
template <IsMask B>
AnyMask operator&(const AnyMask& a, B b) {
  return a & AnyMask(std::move(b));
}

}  // namespace attune
