// FeedForward: contract(dropout(activation(expand(x)))), applied to every token alone.
#pragma once
#include "attune/nn/dropout.hpp"
#include "attune/nn/linear.hpp"

namespace attune::nn {

struct FeedForwardOptions {
  std::int64_t model_dim = 0, hidden_dim = 0;
  Activation activation = Activation::relu;
  double dropout = 0;  // after the activation
  bool bias = true;
  Initializer init = {Init::xavier_uniform, 1};  // of both weights
};

class FeedForward : public Module {
 public:
  explicit FeedForward(const FeedForwardOptions&);
  /// [..., model_dim] -> [..., model_dim]
  Tensor operator()(const Tensor& x) const;
  std::vector<ParameterRows> own_roles() const override;

  Linear expand, contract;
  Dropout dropout;
};

}  // namespace attune::nn
