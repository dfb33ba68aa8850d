// Linear: y = activation(x weight^T + bias), one product with its bias and activation inside.
#include "attune/nn/linear.hpp"

#include <string>

#include "attune/base/error.hpp"

namespace attune::nn {

Linear::Linear(const LinearOptions& options) : activation_(options.activation) {
  if (options.in < 1 || options.out < 1) {
    fail("Linear", "in and out of at least 1",
         "got " + std::to_string(options.in) + " and " + std::to_string(options.out));
  }
  weight = add_parameter("weight", make_parameter({options.out, options.in}, options.init));
  if (options.bias) bias = add_parameter("bias", Tensor::zeros({options.out}));
}

Tensor Linear::operator()(const Tensor& x) const { return linear(x, weight, bias, activation_); }

}  // namespace attune::nn
