// What masks made of two masks share (both.hpp, either.hpp).
#pragma once
#include <algorithm>
#include <type_traits>

#include "attune/attention/any_stage.hpp"

namespace attune::detail {

/// A mask, wrapped or not: what & and | take.
template <class M>
concept IsAnyOrMask = std::is_same_v<M, AnyMask> || IsMask<M>;

/// rows = combine(what a shows, what b shows), word by word.
template <class Combine>
void join_visible(const AnyMask& a, const AnyMask& b, const Area& area, std::uint64_t* rows, Combine combine) {
  constexpr int kPiece = 128;  // keys at a time, so that the second opinion fits on the stack
  for (int first = 0; first < area.keys; first += kPiece) {
    Area part = area;
    part.key += first;
    part.keys = std::min(kPiece, area.keys - first);
    std::uint64_t other[kPiece];
    a->visible(part, rows + first);
    b->visible(part, other);
    for (int j = 0; j < part.keys; ++j) rows[first + j] = combine(rows[first + j], other[j]);
  }
}

}  // namespace attune::detail
