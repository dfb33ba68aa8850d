// NAdam, Adam with Nesterov's momentum, as PyTorch defines it (t counts from 1). Dozat 2016, "Incorporating Nesterov
// momentum into Adam".
//
//   mu_t = b1 (1 - 0.5 * 0.96^(t momentum_decay));   P_t = mu_1 ... mu_t;   d = sqrt(v / (1 - b2^t)) + epsilon
//   update = lr (1 - mu_t) / (1 - P_t) g / d + lr mu_{t+1} / (1 - P_{t+1}) m / d
#pragma once
#include "attune/optim/adaptive.hpp"

namespace attune::optim {

struct NAdamOptions {
  double learning_rate = 2e-3;
  Schedule schedule;
  std::array<double, 2> betas{0.9, 0.999};
  double epsilon = 1e-8;
  double momentum_decay = 4e-3;
  double weight_decay = 0;
  bool decoupled_decay = false;  // AdamW's decay instead of Adam's
  double clip_norm = 0, clip_value = 0, clip_adaptive = 0, clip_zscore = 0;
};

class NAdam : public Adaptive {
 public:
  NAdam(std::vector<ParameterGroup> groups, const NAdamOptions& options);
  NAdam(const std::vector<Tensor>& parameters, const NAdamOptions& options)
      : NAdam(std::vector<ParameterGroup>{{parameters}}, options) {}
  std::string_view kind() const override { return "nadam"; }

 protected:
  void begin_step(double learning_rate) override;
  void propose_range(const Range& range) override;
  std::vector<std::pair<std::string, double*>> numbers() override { return {{"momentum_product", &product_}}; }

 private:
  NAdamOptions own_;
  double product_ = 1;         // P_t
  double now_ = 0, next_ = 0;  // mu_t, mu_{t+1}
};

}  // namespace attune::optim
