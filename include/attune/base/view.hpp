// View: somebody's memory, seen as a strided array. It owns nothing.
#pragma once
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "attune/base/dtype.hpp"
#include "attune/base/shape.hpp"

namespace attune {

/// Elements between neighbours along each axis.
using Strides = std::array<std::int64_t, Shape::kMaxRank>;
/// Strides of row-major memory without gaps.
Strides contiguous_strides(const Shape& shape);

/// A strided array of one DType over the caller's memory, which must outlive it. Pointer is void or const void.
template <class Pointer>
struct BasicView {
  Pointer* data = nullptr;
  DType dtype = DType::float32;
  Shape shape;
  Strides strides{};

  BasicView() = default;
  BasicView(Pointer* memory, DType type, const Shape& extents)
      : data(memory), dtype(type), shape(extents), strides(contiguous_strides(extents)) {}
  BasicView(Pointer* memory, DType type, const Shape& extents, const Strides& steps)
      : data(memory), dtype(type), shape(extents), strides(steps) {}
  /// From typed memory: View(floats, {2, 3}).
  template <class T>
  requires(!std::is_void_v<T>) BasicView(T* memory, const Shape& extents)
      : BasicView(memory, dtype_of<std::remove_const_t<T>>(), extents) {}
  /// A mutable view is a constant view.
  template <class Other>
  requires(std::is_const_v<Pointer>&& std::is_same_v<Other, void>) BasicView(const BasicView<Other>& other)
      : data(other.data), dtype(other.dtype), shape(other.shape), strides(other.strides) {}

  /// No memory at all: how an optional argument is left out.
  bool empty() const { return data == nullptr; }
  explicit operator bool() const { return data != nullptr; }

  /// Two axes exchanged: how [B, T, H, D] memory becomes a [B, H, T, D] view without a copy.
  BasicView transposed(int a, int b) const {
    std::int64_t extents[Shape::kMaxRank];
    for (int i = 0; i < shape.rank(); ++i) extents[i] = shape[i];
    std::swap(extents[a], extents[b]);
    BasicView v = *this;
    v.shape = Shape(extents, shape.rank());
    std::swap(v.strides[std::size_t(a)], v.strides[std::size_t(b)]);
    return v;
  }
};

using View = BasicView<void>;
using ConstView = BasicView<const void>;

}  // namespace attune
