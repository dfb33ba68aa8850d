// LAMB, "Large batch optimization for deep learning: training BERT in 76 minutes", arXiv:1904.00962, as timm defines
// it: Adam's direction, its length set by the weights' (t counts from 1).
//
//   u = m / (1 - b1^t) / (sqrt(v) / sqrt(1 - b2^t) + epsilon) + weight_decay w
//   update = lr |w| / |u| u   of each parameter; the ratio is 1 where either norm is 0, and in groups without decay
#pragma once
#include "attune/optim/adaptive.hpp"

namespace attune::optim {

struct LambOptions {
  double learning_rate = 1e-3;
  Schedule schedule;
  std::array<double, 2> betas{0.9, 0.999};
  double epsilon = 1e-6;
  double weight_decay = 0.01;
  bool always_adapt = false;  // also without weight decay
  bool clip_ratio = false;    // |w| / |u| at most 1
  double clip_norm = 0, clip_value = 0, clip_adaptive = 0, clip_zscore = 0;
};

class Lamb : public Adaptive {
 public:
  Lamb(std::vector<ParameterGroup> groups, const LambOptions& options);
  Lamb(const std::vector<Tensor>& parameters, const LambOptions& options)
      : Lamb(std::vector<ParameterGroup>{{parameters}}, options) {}
  std::string_view kind() const override { return "lamb"; }

 protected:
  void propose_range(const Range& range) override;

 private:
  LambOptions own_;
};

}  // namespace attune::optim
