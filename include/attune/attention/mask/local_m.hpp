// Local attention with monotonic alignment (local-m): query t sees the keys within half_width of its centre p_t = t.
// "Effective approaches to attention-based neural machine translation", arXiv:1508.04025 (section 3.2). Its local-p,
// whose centre is learned, is a score.
#pragma once
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

/// half_width keys on each side. The centre of query t is its position; `stretched` sets it to floor(t Tk / Tq), for
/// sources and targets of different lengths: then it is the query's index that counts, not its offset.
struct LocalM {
  static constexpr std::string_view name = "local_m";
  static constexpr std::string_view source = "arXiv:1508.04025", cost = "2 half_width + 1 keys a query";
  int half_width = 10;
  bool stretched = false;

  void options(StageOptions& visit) { visit("half_width", half_width), visit("stretched", stretched); }
  void check(const AttendShape&) const;
  Range keys(const Area&) const;
  Cover cover(const Area&) const;
  void visible(const Area&, std::uint64_t* rows) const;

 private:
  int centre(const Area&, int lane) const;
};

}  // namespace attune
