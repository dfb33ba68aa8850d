// LayerNorm and RMSNorm over the last axis (autograd/ops/norm.hpp has the formulas).
#pragma once
#include "attune/nn/module.hpp"

namespace attune::nn {

struct NormOptions {
  std::int64_t dim = 0;
  double epsilon = 1e-5;
  bool bias = true;  // LayerNorm's
};

/// weight [dim] starts at 1, bias [dim] at 0.
class LayerNorm : public Module {
 public:
  explicit LayerNorm(const NormOptions&);
  /// [..., dim] -> [..., dim]
  Tensor operator()(const Tensor& x) const;

  Tensor weight, bias;

 private:
  double epsilon_;
};

/// weight [dim] starts at 1.
class RMSNorm : public Module {
 public:
  explicit RMSNorm(const NormOptions&);
  Tensor operator()(const Tensor& x) const;

  Tensor weight;

 private:
  double epsilon_;
};

}  // namespace attune::nn
