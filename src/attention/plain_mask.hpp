// What the plain paths know of masks.
#pragma once
#include "attune/attention/any_stage.hpp"
#include "attune/attention/mask/padding.hpp"
#include "attune/attention/mask/window.hpp"

namespace attune::engine {

/// A window (causal is one without a left bound) and how many keys from the front are visible.
struct PlainMask {
  bool fits = true;  // false: a mask of another kind
  Window window;
  const Padding* padding = nullptr;
  int visible_keys(const AttendShape& s, int batch) const {
    return padding ? padding->valid_keys[std::size_t(batch)] : s.num_keys;
  }
  bool is_causal() const { return window.left < 0 && window.right == 0; }
  bool has_window() const { return window.left >= 0 || window.right > 0; }
};
PlainMask plain_mask(const AnyMask&);

}  // namespace attune::engine
