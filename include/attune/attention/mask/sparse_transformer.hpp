// The two factorised patterns of "Generating long sequences with sparse transformers", arXiv:1904.10509, section 4.3.
// Both are causal; position p sees
//
//     strided, local   p - stride .. p                fixed, local   its own block of `stride` keys, up to p
//     strided, summary keys j with (p - j) % stride   fixed, summary keys j <= p that are among the last `summary`
//                      == 0, j <= p                                  of their block
#pragma once
#include <array>
#include <span>
#include <string_view>

#include "attune/attention/mask/dilated.hpp"
#include "attune/attention/mask/window.hpp"

namespace attune {

/// Which of the two sets: both, one of them (for layers that take turns), or local in even heads and summary in odd
/// ones.
enum class SparsePart : std::uint8_t { both, local, summary, by_head };
inline std::span<const std::string_view> option_names(SparsePart) {
  static constexpr std::array<std::string_view, 4> names = {"both", "local", "summary", "by_head"};
  return names;
}

struct SparseStrided {
  static constexpr std::string_view name = "sparse_strided";
  static constexpr std::string_view source = "arXiv:1904.10509", cost = "stride + T / stride keys a query";
  int stride = 128;
  SparsePart part = SparsePart::both;

  void options(StageOptions& visit) { visit("stride", stride), visit("part", part); }
  void check(const AttendShape&) const;
  Range keys(const Area&) const;
  Cover cover(const Area&) const;
  void visible(const Area&, std::uint64_t* rows) const;
};

/// summary: 1 .. stride keys.
struct SparseFixed {
  static constexpr std::string_view name = "sparse_fixed";
  static constexpr std::string_view source = "arXiv:1904.10509", cost = "stride + summary T / stride keys a query";
  int stride = 128, summary = 8;
  SparsePart part = SparsePart::both;

  void options(StageOptions& visit) { visit("stride", stride), visit("summary", summary), visit("part", part); }
  void check(const AttendShape&) const;
  Range keys(const Area&) const;
  Cover cover(const Area&) const;
  void visible(const Area&, std::uint64_t* rows) const;
};

}  // namespace attune
