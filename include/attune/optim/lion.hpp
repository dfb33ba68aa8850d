// Lion, "Symbolic discovery of optimization algorithms", arXiv:2302.06675: every weight moves by the same amount.
//
//   update = lr sign(b1 m + (1 - b1) g);   m = b2 m + (1 - b2) g;   w = w (1 - lr weight_decay) - update
//
// Learning rates are 3 to 10 times smaller than AdamW's, weight decays larger by as much.
#pragma once
#include <array>

#include "attune/optim/optimizer.hpp"

namespace attune::optim {

struct LionOptions {
  double learning_rate = 1e-4;
  Schedule schedule;
  std::array<double, 2> betas{0.9, 0.99};
  double weight_decay = 0.01;
  double clip_norm = 0, clip_value = 0, clip_adaptive = 0, clip_zscore = 0;
};

class Lion : public Optimizer {
 public:
  Lion(std::vector<ParameterGroup> groups, const LionOptions& options);
  Lion(const std::vector<Tensor>& parameters, const LionOptions& options)
      : Lion(std::vector<ParameterGroup>{{parameters}}, options) {}
  std::string_view kind() const override { return "lion"; }

 protected:
  void propose_range(const Range& range) override;
  std::vector<std::pair<std::string, Tensor*>> arrays() override { return {{"momentum", &momentum_}}; }

 private:
  LionOptions own_;
  Tensor momentum_;  // [n]
};

}  // namespace attune::optim
