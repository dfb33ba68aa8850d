// Stochastic gradient descent, with momentum as PyTorch defines it:
//
//   g = gradient + weight_decay w;   m = momentum m + (1 - dampening) g  (m = g at first);   w -= lr (nesterov ? g +
//   momentum m : m)
#pragma once
#include "attune/optim/optimizer.hpp"

namespace attune::optim {

struct SgdOptions {
  double learning_rate = 1e-2;
  Schedule schedule;
  double momentum = 0;
  double dampening = 0;
  bool nesterov = false;    // needs momentum and no dampening
  double weight_decay = 0;  // an L2 penalty: part of the gradient
  double clip_norm = 0, clip_value = 0, clip_adaptive = 0, clip_zscore = 0;
};

class Sgd : public Optimizer {
 public:
  Sgd(const std::vector<Tensor>& parameters, const SgdOptions& options);
  Sgd(std::vector<ParameterGroup> groups, const SgdOptions& options);
  std::string_view kind() const override { return "sgd"; }

 protected:
  void propose_range(const Range& range) override;
  std::vector<std::pair<std::string, Tensor*>> arrays() override;

 private:
  SgdOptions own_;
  Tensor momentum_;  // [n]; undefined without momentum
};

}  // namespace attune::optim
