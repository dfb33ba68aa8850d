// Schedule-Free AdamW, "The road less scheduled", arXiv:2405.15682 (k counts from 0). Gradients are taken at y, weights
// to evaluate with are x, the average of z.
//
//   d = sqrt(v / (1 - b2^(k+1))) + epsilon;   u = lr (g / d + weight_decay y)
//   weight_k = (k + 1)^power lr_max^2;   c = weight_k / (weight_0 + ... + weight_k)
//   z' = z - u;   x' = (1 - c) x + c z';   y' = b1 x' + (1 - b1) z'
//
// There are only y, which is in the model while training, and z. The schedule is for warm-up alone: constant after it.
// The staged update is z's, lr g / d; y moves by the share 1 - b1 (1 - c) of it, beside its move towards z.
// eval() puts x into the model; who evaluates in training calls require_eval() and is refused.
#pragma once
#include "attune/optim/adaptive.hpp"

namespace attune::optim {

struct ScheduleFreeOptions {
  double learning_rate = 2.5e-3;
  Schedule schedule;
  std::array<double, 2> betas{0.9, 0.999};  // b1 is between y's ends, no momentum
  double epsilon = 1e-8;
  double weight_decay = 0;
  double average_power = 0;  // of k + 1 in the average's weights: 0 weights all steps alike
  double rate_power = 2;     // of lr_max
  double clip_norm = 0, clip_value = 0, clip_adaptive = 0, clip_zscore = 0;
};

class ScheduleFree : public Adaptive {
 public:
  ScheduleFree(std::vector<ParameterGroup> groups, const ScheduleFreeOptions& options);
  ScheduleFree(const std::vector<Tensor>& parameters, const ScheduleFreeOptions& options)
      : ScheduleFree(std::vector<ParameterGroup>{{parameters}}, options) {}
  std::string_view kind() const override { return "schedule_free"; }

 protected:
  void begin_step(double learning_rate) override;
  void propose_range(const Range& range) override;
  void apply_range(const Range& range, double decay) override;
  bool averages() const override { return true; }
  void fill_average(Tensor& weights) const override;
  std::vector<std::pair<std::string, Tensor*>> arrays() override;
  std::vector<std::pair<std::string, double*>> numbers() override;

 private:
  ScheduleFreeOptions own_;
  Tensor base_;                            // z: [n]
  double largest_rate_ = 0, weights_ = 0;  // lr_max; the sum of weight_k
  double share_ = 0;                       // c of this step
};

}  // namespace attune::optim
