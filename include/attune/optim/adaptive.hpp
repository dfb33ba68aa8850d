// What Adam's relatives share: two moments, [n], and one fused pass over them.
//
//   m = b1 m + (1 - b1) g;   v = b2 v + (1 - b2) g^2
#pragma once
#include <array>
#include <span>

#include "attune/optim/optimizer.hpp"

namespace attune::kernels {
struct AdaptiveStep;
}

namespace attune::optim {

class Adaptive : public Optimizer {
 public:
  EpsilonCount epsilon_count(std::size_t i, std::int64_t first, std::int64_t end) const override;

 protected:
  /// Throws Error unless all betas lie in [0, 1) and epsilon is above 0. has_first: whether m is kept.
  Adaptive(std::vector<ParameterGroup> groups, OptimizerOptions options, Manner manner, std::span<const double> betas,
           double epsilon, bool has_first = true);
  /// Fills update_[range] and moves the moments; `slow` is [n] or undefined.
  void propose_with(const Range& range, kernels::AdaptiveStep step, Tensor slow = {});
  /// 1 - beta^(updates applied, this one included).
  double correction(double beta) const;
  std::vector<std::pair<std::string, Tensor*>> arrays() override;

  Tensor first_, second_;   // m, v: [n]
  double beta2_, epsilon_;  // 0: the update has no epsilon
};

}  // namespace attune::optim
