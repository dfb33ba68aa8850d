// How much a final loss depends on the learning rate, in a few numbers. "Small-scale proxies for large-scale
// Transformer training instabilities", arXiv:2309.14322.
//
//   LRS    = mean over the grid of  min(loss(rate), loss at the start) - smallest loss;   a diverged run counts as the
//   start LRS->  = the same mean over rates from the best one on: short budgets make the left side dominate LRS width
//   = decades of rate around the best in which loss <= smallest + 5 % (start - smallest), interpolated in log rate
#pragma once
#include <optional>
#include <span>

namespace attune::train {

/// The end of one run. A grid is even in the logarithm of its rates.
struct RateOutcome {
  double learning_rate = 0;
  double loss = 0;  // at the end, nats; NaN or infinite where the run diverged
  bool diverged = false;
};

struct LrSensitivity {
  double lrs = 0, lrs_right = 0;          // nats
  double width = 0;                       // decades
  double usable_from = 0, usable_to = 0;  // rates at the ends of that width
  double best_learning_rate = 0, best_loss = 0;
  std::optional<double> first_diverged;  // the smallest rate at which a run diverged
};

/// outcomes in increasing order of rate, initial_loss that of the untrained model.
/// Throws Error unless there are two or more, rates are positive and increasing and one run has not diverged.
LrSensitivity lr_sensitivity(std::span<const RateOutcome> outcomes, double initial_loss);

}  // namespace attune::train
