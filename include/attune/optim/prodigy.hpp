// Prodigy, "Prodigy: an expeditiously adaptive parameter-free learner", arXiv:2306.06101: Adam whose step size d is an
// estimate of the distance to the solution. The base learning rate stays near 1 and follows the schedule.
//
//   a = d lr c,  c = sqrt(1 - b2^t) / (1 - b1^t) with bias correction, else 1;   b3 = sqrt(b2)
//   r = b3 r + d / d0 a <g, w_0 - w>;   s = b3 s + d / d0 a g   (safeguard: d instead of a)
//   m = b1 m + (1 - b1) d g;   v = b2 v + (1 - b2) d^2 g^2
//   e = coefficient r / |s|_1;   d = max(d, e) at first;   d_max = max(d_max, e);   d = min(d_max, growth d)
//   update = a m / (sqrt(v) + d epsilon), with the new d;   w = w (1 - a weight_decay) - update
//
// d is one number for all parameters: factors of groups and rows must be 0 or 1. A guard that scales the staged update
// multiplies after the estimate, which does not see it.
#pragma once
#include <array>
#include <limits>

#include "attune/optim/optimizer.hpp"

namespace attune::optim {

struct ProdigyOptions {
  double learning_rate = 1;
  Schedule schedule;
  std::array<double, 2> betas{0.9, 0.999};
  double epsilon = 1e-8;
  double weight_decay = 0;
  bool decoupled_decay = true;
  bool bias_correction = false;
  bool safeguard_warmup = false;                            // keeps the warm-up's rate out of the estimate
  double first_distance = 1e-6;                             // d0
  double coefficient = 1;                                   // of the estimate
  double growth = std::numeric_limits<double>::infinity();  // d grows at most by this factor a step
  double clip_norm = 0, clip_value = 0, clip_adaptive = 0, clip_zscore = 0;
};

class Prodigy : public Optimizer {
 public:
  Prodigy(std::vector<ParameterGroup> groups, const ProdigyOptions& options);
  Prodigy(const std::vector<Tensor>& parameters, const ProdigyOptions& options)
      : Prodigy(std::vector<ParameterGroup>{{parameters}}, options) {}
  std::string_view kind() const override { return "prodigy"; }
  /// The estimate d.
  double distance() const { return distance_; }
  void set_row_factors(const std::vector<RowFactor>& factors) override;

 protected:
  void begin_step(double learning_rate) override;
  void propose_range(const Range& range) override;
  void apply_range(const Range& range, double decay) override;
  std::vector<std::pair<std::string, Tensor*>> arrays() override;
  std::vector<std::pair<std::string, double*>> numbers() override;
  std::vector<RateFactor> own_factors() const override { return {{"distance", rate_share_}}; }

 private:
  ProdigyOptions own_;
  Tensor first_, second_, sum_, start_;  // m, v, s, w_0: [n]
  double distance_, largest_, numerator_ = 0;
  double rate_share_ = 0;  // d c of this step, before the estimate moved: what multiplies the learning rate
};

}  // namespace attune::optim
