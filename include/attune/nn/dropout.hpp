// Dropout: in training, numbers become 0 with probability p; in evaluation, nothing happens.
#pragma once
#include "attune/nn/module.hpp"

namespace attune::nn {

class Dropout : public Module {
 public:
  /// 0 <= p < 1.
  explicit Dropout(double p);
  Tensor operator()(const Tensor& x) const;
  /// x + dropout(h) in one pass: a residual connection.
  Tensor residual(const Tensor& x, const Tensor& h) const;
  double p() const { return p_; }

 private:
  double p_;
};

}  // namespace attune::nn
