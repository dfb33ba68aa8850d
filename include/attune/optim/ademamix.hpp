// AdEMAMix, "The AdEMAMix optimizer: better, faster, older", arXiv:2409.03137 (t counts from 1): a second, slow average
// of the gradients beside Adam's.
//
//   slow = b3_t slow + (1 - b3_t) g;   d = sqrt(v) / sqrt(1 - b2^t) + epsilon
//   update = lr (m / (1 - b1^t) + alpha_t slow) / d;   w = w (1 - lr weight_decay) - update
//   warmup W > 0:  alpha_t = min(alpha, alpha t / W);
//                  b3_t = min(b3, exp(log b1 log b3 / ((1 - t/W) log b3 + t/W log b1)))
#pragma once
#include "attune/optim/adaptive.hpp"

namespace attune::optim {

struct AdEMAMixOptions {
  double learning_rate = 1e-3;
  Schedule schedule;
  std::array<double, 2> betas{0.9, 0.999};
  double beta3 = 0.9999;        // of the slow average
  double alpha = 5;             // weight of the slow average
  std::int64_t mix_warmup = 0;  // W, steps until alpha and b3 are reached: usually all of a training; 0: none
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  double clip_norm = 0, clip_value = 0, clip_adaptive = 0, clip_zscore = 0;
};

class AdEMAMix : public Adaptive {
 public:
  AdEMAMix(std::vector<ParameterGroup> groups, const AdEMAMixOptions& options);
  AdEMAMix(const std::vector<Tensor>& parameters, const AdEMAMixOptions& options)
      : AdEMAMix(std::vector<ParameterGroup>{{parameters}}, options) {}
  std::string_view kind() const override { return "ademamix"; }

 protected:
  void propose_range(const Range& range) override;
  std::vector<std::pair<std::string, Tensor*>> arrays() override;

 private:
  AdEMAMixOptions own_;
  Tensor slow_;  // [n]
};

}  // namespace attune::optim
