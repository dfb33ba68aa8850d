// Adam, arXiv:1412.6980, and AdamW, arXiv:1711.05101, as PyTorch defines them (t counts from 1):
//
//   m = b1 m + (1 - b1) g;   v = b2 v + (1 - b2) g^2
//   update = lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + epsilon)
//   Adam   g = gradient + weight_decay w (an L2 penalty);        w -= update
//   AdamW  g = gradient;                    w = w (1 - lr weight_decay) - update
//
// With `atan2_scale` the quotient becomes an angle, which no scale of the gradient changes: Adam-atan2,
// arXiv:2407.05872.
#pragma once
#include "attune/optim/adaptive.hpp"

namespace attune::optim {

struct AdamOptions {
  double learning_rate = 1e-3;
  Schedule schedule;
  std::array<double, 2> betas{0.9, 0.999};
  double epsilon = 1e-8;
  double weight_decay = 0;
  double clip_norm = 0, clip_value = 0;
  double atan2_scale = 0;  // a > 0: Adam-atan2's update, lr a atan2(m^, sqrt(v^)), without an epsilon; usually 1.27
  double clip_adaptive = 0, clip_zscore = 0;
};

struct AdamWOptions {
  double learning_rate = 1e-3;
  Schedule schedule;
  std::array<double, 2> betas{0.9, 0.999};
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  double clip_norm = 0, clip_value = 0;
  double atan2_scale = 0;  // a > 0: Adam-atan2's update, lr a atan2(m^, sqrt(v^)), without an epsilon; usually 1.27
  double clip_adaptive = 0, clip_zscore = 0;
};

class Adam : public Adaptive {
 public:
  Adam(const std::vector<Tensor>& parameters, const AdamOptions& options);
  Adam(std::vector<ParameterGroup> groups, const AdamOptions& options);
  std::string_view kind() const override { return "adam"; }

 protected:
  Adam(std::vector<ParameterGroup> groups, const AdamOptions& options, bool decoupled_decay);
  void propose_range(const Range& range) override;

 private:
  AdamOptions own_;
};

class AdamW : public Adam {
 public:
  AdamW(const std::vector<Tensor>& parameters, const AdamWOptions& options);
  AdamW(std::vector<ParameterGroup> groups, const AdamWOptions& options);
  std::string_view kind() const override { return "adamw"; }
};

}  // namespace attune::optim
