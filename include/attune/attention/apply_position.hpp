// A position applied to rows by itself, outside of a call: to keys that are kept, so that no later call does it again.
#pragma once
#include <span>

#include "attune/attention/any_stage.hpp"
#include "attune/base/view.hpp"

namespace attune {

/// out = position(rows). rows and out [B, H, T, D], each in a type of its own and with any strides whose last is 1, or
/// one and the same view; row t of batch entry b stands at position first[b] + t. Computed in float64 where rows are,
/// else in float32. Throws  Error if extents differ, if the position has learned arrays or another width, or if what it
/// does to a row
///         changes with the number of keys (Rotary with scaling dynamic).
void apply_position(const AnyPosition& position, Side side, const ConstView& rows, std::span<const int> first,
                    const View& out);

/// Throws Error, as said above, unless the position can be applied to keys of so many heads and numbers once and for
/// all. function: who asks.
void expect_lasting_position(const char* function, const AnyPosition& position, int num_kv_heads, int head_dim);
/// Whether that would not throw for what the position is.
bool is_lasting_position(const AnyPosition& position, int num_kv_heads, int head_dim);

}  // namespace attune
