// What the bodies of the masks share: where an area's queries and keys stand. `first` and `last` are the positions of
// an area's first and last query throughout.
#pragma once
#include <algorithm>
#include <cstdint>

#include "attune/attention/stage.hpp"

namespace attune::areas {

/// A word that every query of an area sees.
constexpr std::uint64_t kAllLanes = ~std::uint64_t(0);

inline int first_of(const Area& a) { return a.query + a.offset; }
inline int last_of(const Area& a) { return a.query + a.offset + a.queries - 1; }
inline int last_key_of(const Area& a) { return a.key + a.keys - 1; }

/// floor(x / n), n > 0.
inline std::int64_t floor_div(std::int64_t x, std::int64_t n) { return x >= 0 ? x / n : -((-x + n - 1) / n); }
inline std::int64_t modulo(std::int64_t x, std::int64_t n) { return x - floor_div(x, n) * n; }

inline Cover cover_of(bool any, bool all) { return !any ? Cover::none : all ? Cover::full : Cover::partial; }
inline bool is_empty(Range r) { return r.begin >= r.end; }
inline Range hull(Range a, Range b) {
  if (is_empty(a)) return b;
  if (is_empty(b)) return a;
  return {std::min(a.begin, b.begin), std::max(a.end, b.end)};
}

}  // namespace attune::areas
