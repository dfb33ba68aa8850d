// What the plain paths know of masks.
#pragma once
#include <algorithm>

#include "attune/attention/any_stage.hpp"
#include "attune/attention/mask/padding.hpp"
#include "attune/attention/mask/window.hpp"

namespace attune::engine {

/// A window (causal is one without a left bound) of every `dilation`-th key, and how many keys from the front are
/// visible; or any other mask.
struct PlainMask {
  bool fits = true;  // false: the stages must say
  Window window;     // in steps of `dilation` keys
  int dilation = 1;
  const Padding* padding = nullptr;
  const Mask* other = nullptr;  // instead of all these: cut into pieces (mask_cut.hpp)
  int visible_keys(const AttendShape& s, int batch) const {
    return padding ? padding->valid_keys[std::size_t(batch)] : s.num_keys;
  }
  bool is_causal() const { return window.left < 0 && window.right == 0; }
  bool has_window() const { return window.left >= 0 || window.right > 0; }
  /// Causal, windows and padding: nothing that needs a walk of its own.
  bool is_range() const { return fits && dilation == 1 && other == nullptr; }
};
PlainMask plain_mask(const AnyMask&);

/// The window as the kernels take it, for rows at p, p + 1, ...: row i sees key j iff
/// p - left + i <= j <= p + right + i.
struct Edges {
  bool causal;
  int position, span;
};
inline Edges edges(const Window& w, int p, int num_queries, int num_keys) {
  // Bounds past the ends say nothing; drawn in to where they begin to speak, they cannot overflow.
  const std::int64_t low = w.left < 0 ? -std::int64_t(num_queries) : std::int64_t(p) - w.left;
  std::int64_t high = w.right < 0 ? std::int64_t(num_keys) : std::int64_t(p) + w.right;
  if (low <= -std::int64_t(num_queries)) return {w.right >= 0, int(std::min<std::int64_t>(high, num_keys)), 0};
  high = std::max(low, std::min<std::int64_t>(high, num_keys));
  return {true, int(high), int(high - low + 1)};
}

}  // namespace attune::engine
