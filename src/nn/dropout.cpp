// Dropout: draws in training from the generator of the tree, does nothing in evaluation.
#include "attune/nn/dropout.hpp"

#include <string>

#include "attune/autograd/ops/dropout.hpp"
#include "attune/autograd/ops/elementwise.hpp"
#include "attune/base/error.hpp"

namespace attune::nn {

Dropout::Dropout(double p) : p_(p) {
  if (!(p >= 0 && p < 1)) fail("Dropout", "0 <= p < 1", "got " + std::to_string(p));
}
Tensor Dropout::operator()(const Tensor& x) const { return training() ? dropout(x, p_, generator()) : x; }
Tensor Dropout::residual(const Tensor& x, const Tensor& h) const {
  return training() ? add_dropout(x, h, p_, generator()) : add(x, h);
}

}  // namespace attune::nn
