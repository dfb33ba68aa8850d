// A mask given as numbers: true = visible. Broadcast from the right to [B, H, Tq, Tk], so rank 3 is [H, Tq, Tk]; a last
// extent shorter than Tk hides the keys beyond it.
#pragma once
#include <memory>
#include <string_view>
#include <vector>

#include "attune/attention/stage.hpp"
#include "attune/base/view.hpp"

namespace attune {

/// Holds its own bits (one per pair of the given shape), so the memory it was made from may go.
struct DenseMask {
  static constexpr std::string_view name = "dense";
  static constexpr std::string_view source = "ONNX Attention: a boolean mask", cost = "1 byte read a pair";
  static constexpr bool by_name = false;

  DenseMask() = default;
  /// From bytes, nonzero = visible; shape of rank 0 .. 4 whose extents are 1 or the call's (the last may be shorter).
  DenseMask(const std::uint8_t* visible, const Shape& shape);
  /// From a float mask that is added elsewhere (a dense bias): hides where it is -inf. Any dtype, contiguous.
  static DenseMask from_additive(ConstView mask);

  void check(const AttendShape&) const;
  void visible(const Area& a, std::uint64_t* rows) const;

  Shape shape;

 private:
  std::shared_ptr<const std::vector<std::uint8_t>> bytes_;
};

}  // namespace attune
