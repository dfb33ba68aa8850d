// [optimizer] of a recipe as typed values, and the optimizer that they describe. An optimizer takes the keys that its
// options have (optim/*.hpp); another key is an Error that names those that there are. Defaults are those of the kind.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attune/nn/module.hpp"
#include "attune/optim/optimizer.hpp"

namespace attune::train {

struct OptimizerConfig {
  std::string kind = "adamw";  // one of optimizer_kinds()
  double learning_rate = 1e-3;
  std::array<double, 2> betas{0.9, 0.999};
  double epsilon = 1e-8;
  double momentum = 0;  // sgd, muon
  bool nesterov = false;
  double dampening = 0;  // sgd
  double weight_decay = 0.01;
  std::string decay = "all";     // "all", "matrices": what weight decay applies to
  bool decoupled_decay = false;  // nadam, radam, prodigy: AdamW's decay
  double clip_norm = 1;          // 0: no clipping
  double clip_value = 0;
  double clip_adaptive = 0, clip_zscore = 0;

  double atan2_scale = 0;                         // adam, adamw
  double momentum_decay = 4e-3;                   // nadam
  double beta3 = 0.9999, alpha = 5;               // ademamix
  std::int64_t mix_warmup = 0;                    // ademamix, steps
  bool always_adapt = false, clip_ratio = false;  // lamb
  double beta2_decay = -0.8, least_square = 0;    // adafactor
  double threshold = 1;                           // adafactor
  std::int64_t iterations = 5;                    // muon
  std::string scale = "original";                 // muon
  double average_power = 0, rate_power = 2;       // schedule_free
  bool bias_correction = false;                   // prodigy
  bool safeguard_warmup = false;                  // prodigy
  double first_distance = 1e-6, coefficient = 1;  // prodigy
  double growth = 0;                              // prodigy; 0: without limit

  double average = 0,
         average_warmup = 0;   // decay and warm-up power of an average of the weights to evaluate with; 0: none
  optim::GroupOptions groups;  // [optimizer.groups]

  friend bool operator==(const OptimizerConfig&, const OptimizerConfig&) = default;
};

/// "sgd", "adam", "adamw", ...
std::vector<std::string> optimizer_kinds();
/// The defaults of a kind. Throws Error, naming the nearest, if there is none of that name.
OptimizerConfig optimizer_defaults(std::string_view kind);

/// The kinds whose options have a key of that name.
std::vector<std::string> optimizers_with(std::string_view key);

/// The optimizer over these parameters. `schedule` may be replaced later. Throws Error for what needs roles: factors of
/// groups.
std::unique_ptr<optim::Optimizer> make_optimizer(const OptimizerConfig& config, const optim::Schedule& schedule,
                                                 const std::vector<Tensor>& parameters);
/// The same over a model's parameters, whose rows have roles (nn/roles.hpp).
std::unique_ptr<optim::Optimizer> make_optimizer(const OptimizerConfig& config, const optim::Schedule& schedule,
                                                 nn::Module& model);

}  // namespace attune::train
