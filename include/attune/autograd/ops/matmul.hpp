// Matrix products, and the linear layer's product with its bias and activation in one pass.
#pragma once
#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/tensor.hpp"

namespace attune {

struct MatmulOptions {
  bool transpose_a = false;  // a is [..., K, M]
  bool transpose_b = false;  // b is [..., N, K]
};
/// out [..., M, N] = a [..., M, K] b [..., K, N]. The leading axes are equal, or b has none and serves all.
Tensor matmul(const Tensor& a, const Tensor& b, const MatmulOptions& = {});

/// out [..., out] = activation(x [..., in] weight^T + bias), weight [out, in], bias [out] or undefined.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, Activation = Activation::none);

}  // namespace attune
