// Sums and means, over everything or along one axis. Sums run in a fixed order that depends on the shape alone.
#pragma once
#include "attune/autograd/tensor.hpp"

namespace attune {

/// The sum of all elements, shape [].
Tensor sum(const Tensor& x);
/// The mean of all elements, shape []. Throws Error for an empty tensor.
Tensor mean(const Tensor& x);
/// Along one axis, which disappears (or stays with extent 1); a negative axis counts from the end.
Tensor sum(const Tensor& x, int axis, bool keep_axis = false);
Tensor mean(const Tensor& x, int axis, bool keep_axis = false);
/// Along the axis; the gradient goes to the first of the largest elements.
Tensor max(const Tensor& x, int axis, bool keep_axis = false);

}  // namespace attune
