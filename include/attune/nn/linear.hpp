// Linear: y = activation(x weight^T + bias).
#pragma once
#include "attune/autograd/ops/matmul.hpp"
#include "attune/nn/init.hpp"
#include "attune/nn/module.hpp"

namespace attune::nn {

struct LinearOptions {
  std::int64_t in = 0, out = 0;
  bool bias = true;
  Activation activation = Activation::none;
  Initializer init = {Init::xavier_uniform, 1};  // of the weight; the bias starts at 0
};

/// weight [out, in], bias [out].
class Linear : public Module {
 public:
  explicit Linear(const LinearOptions&);
  /// [..., in] -> [..., out]
  Tensor operator()(const Tensor& x) const;

  Tensor weight, bias;

 private:
  Activation activation_;
};

}  // namespace attune::nn
