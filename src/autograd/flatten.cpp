// flatten: the numbers and gradients of many leaves, side by side.
#include <algorithm>
#include <cstring>
#include <string>
#include <unordered_set>

#include "autograd/impl.hpp"

namespace attune {

FlatParameters flatten(const std::vector<Tensor>& tensors) {
  constexpr std::int64_t kAlign = 16;  // elements: a cache line of float32
  if (tensors.empty()) fail("flatten", "at least one tensor", "got none");
  FlatParameters flat;
  std::int64_t n = 0;
  std::unordered_set<const void*> seen;
  for (const Tensor& t : tensors) {
    detail::check_defined("flatten", t);
    detail::check_same_dtype("flatten", t, tensors[0]);
    if (!t.is_leaf())
      fail("flatten", "leaves that want a gradient", "tensor of shape " + t.shape().text() + " is none");
    if (!seen.insert(t.impl().get()).second) {
      fail("flatten", "each tensor once", "one of shape " + t.shape().text() + " comes twice");
    }
    flat.offsets.push_back(n);
    n += (t.size() + kAlign - 1) / kAlign * kAlign;
  }
  flat.values = Tensor::zeros(Shape{n}, tensors[0].dtype());
  flat.gradients = Tensor::zeros(Shape{n}, tensors[0].dtype());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    detail::TensorImpl& impl = *tensors[i].impl();
    Tensor value = detail::alias(flat.values, impl.shape, flat.offsets[i]);
    Tensor gradient = detail::alias(flat.gradients, impl.shape, flat.offsets[i]);
    value.copy_from(tensors[i]);
    if (impl.grad) gradient.copy_from(impl.grad);
    impl.storage = flat.values.impl()->storage;
    impl.offset = flat.offsets[i];
    impl.grad = gradient;
  }
  return flat;
}

}  // namespace attune
