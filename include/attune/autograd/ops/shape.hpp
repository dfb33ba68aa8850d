// Operators that move numbers or only rename their places.
#pragma once
#include <vector>

#include "attune/autograd/tensor.hpp"

namespace attune {

/// The same memory in another shape; one extent may be -1 and is then worked out.
Tensor reshape(const Tensor& x, const Shape&);
Tensor reshape(const Tensor& x, std::initializer_list<std::int64_t> extents);
/// Elements begin .. end-1 of an axis; of axis 0 it shares the memory, else it copies. Negative axis: from the end.
Tensor slice(const Tensor& x, int axis, std::int64_t begin, std::int64_t end);
/// Side by side along an axis; all other extents are equal.
Tensor concat(const std::vector<Tensor>& parts, int axis);
/// Two axes exchanged; copies.
Tensor transpose(const Tensor& x, int a, int b);
/// [B, T, H * D] -> [B, H, T, D] and back; copies. attend_packed() needs neither.
Tensor split_heads(const Tensor& x, std::int64_t num_heads);
Tensor merge_heads(const Tensor& x);
/// Rows of axis 0, in the order given; rows may repeat. For beams and batches.
Tensor take_rows(const Tensor& x, const Ids& rows);

}  // namespace attune
