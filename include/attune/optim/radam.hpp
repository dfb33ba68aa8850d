// RAdam, "On the variance of the adaptive learning rate and beyond", arXiv:1908.03265, as PyTorch defines it (t counts
// from 1). While the second moment rests on too few gradients it moves along the momentum alone: a warm-up of its own.
//
//   rho_inf = 2 / (1 - b2) - 1;   rho_t = rho_inf - 2 t b2^t / (1 - b2^t);   m^ = m / (1 - b1^t)
//   rho_t > 5   update = lr m^ r_t sqrt(1 - b2^t) / (sqrt(v) + epsilon)
//               r_t = sqrt((rho_t - 4) (rho_t - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho_t))
//   else        update = lr m^
#pragma once
#include "attune/optim/adaptive.hpp"

namespace attune::optim {

struct RAdamOptions {
  double learning_rate = 1e-3;
  Schedule schedule;
  std::array<double, 2> betas{0.9, 0.999};
  double epsilon = 1e-8;
  double weight_decay = 0;
  bool decoupled_decay = false;  // AdamW's decay instead of Adam's
  double clip_norm = 0, clip_value = 0, clip_adaptive = 0, clip_zscore = 0;
};

class RAdam : public Adaptive {
 public:
  RAdam(std::vector<ParameterGroup> groups, const RAdamOptions& options);
  RAdam(const std::vector<Tensor>& parameters, const RAdamOptions& options)
      : RAdam(std::vector<ParameterGroup>{{parameters}}, options) {}
  std::string_view kind() const override { return "radam"; }

 protected:
  void propose_range(const Range& range) override;

 private:
  RAdamOptions own_;
};

}  // namespace attune::optim
