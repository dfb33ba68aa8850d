// Sliding window: query at position p sees keys p - left .. p + right. arXiv:2004.05150
#pragma once
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

namespace detail {
/// Bits begin .. end-1 of a word, clipped to 0 .. 63.
inline std::uint64_t lane_bits(std::int64_t begin, std::int64_t end) {
  if (begin < 0) begin = 0;
  if (end > kLanes) end = kLanes;
  return begin >= end ? 0 : (~std::uint64_t(0) >> (kLanes - (end - begin))) << begin;
}
}  // namespace detail

/// left, right >= 0 keys, inclusive; -1: unbounded on that side.
struct Window {
  static constexpr std::string_view name = "window";
  static constexpr std::string_view source = "arXiv:2004.05150", cost = "left + right + 1 keys a query";
  int left = -1, right = -1;

  void options(StageOptions& visit) { visit("left", left), visit("right", right); }
  void check(const AttendShape&) const;
  Range keys(const Area& a) const {
    const int p = a.query + a.offset, last = p + a.queries - 1;
    return {left < 0 ? 0 : p - left, right < 0 ? a.shape->num_keys : last + right + 1};
  }
  Cover cover(const Area& a) const {
    const int p = a.query + a.offset, last = p + a.queries - 1, last_key = a.key + a.keys - 1;
    if ((left >= 0 && last_key < p - left) || (right >= 0 && a.key > last + right)) return Cover::none;
    return (left < 0 || a.key >= last - left) && (right < 0 || last_key <= p + right) ? Cover::full : Cover::partial;
  }
  void visible(const Area& a, std::uint64_t* rows) const {
    const int p = a.query + a.offset;
    for (int j = 0; j < a.keys; ++j) {
      const int k = a.key + j;  // seen by positions k - right .. k + left
      rows[j] = detail::lane_bits(right < 0 ? 0 : k - right - p, left < 0 ? kLanes : k + left - p + 1);
    }
  }
};

}  // namespace attune
