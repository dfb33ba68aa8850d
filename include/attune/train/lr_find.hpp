// Finding a learning rate before training: the rate rises from step to step, exponentially, until the loss says stop.
// "Cyclical learning rates for training neural networks", arXiv:1506.01186.
//
//   rate_i = low (high / low)^(i / (n - 1));   smoothed loss = bias-corrected mean, each step weighing 1 - smoothing
//   valley           a tenth of the rate at which the smoothed loss is smallest: there it has stopped falling
//   attention limit  the first rate whose update would move a head's scores (train/trust_region.hpp) by more than
//                    `move_limit`
//   suggestion       min(valley, attention limit / 3)
//
// Model, optimizer, generator and data stand afterwards where they stood before, bit for bit.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "attune/train/trainer.hpp"

namespace attune::train {

struct LrFindOptions {
  double low = 1e-6, high = 1;
  std::int64_t iterations = 150;
  double smoothing = 0.9;   // 0 .. 1, 1 excluded
  double give_up = 4;       // stops where the smoothed loss exceeds the smallest so many times
  double move_limit = 0.5;  // nats an update
};

/// One step at one rate.
struct LrFindPoint {
  double learning_rate = 0;
  double loss = 0, smooth_loss = 0;  // nats a token
  double max_logit = 0, entropy = 0;
  double move = 0;   // largest predicted move of a head's scores, nats
  std::string site;  // of that head
  std::int64_t head = 0;
};

struct LrFindResult {
  std::vector<LrFindPoint> points;
  std::optional<double> valley;           // none if the loss fell no more than by chance
  std::optional<double> attention_limit;  // none if no head would move so far
  std::string limiting_site;
  std::int64_t limiting_head = 0;
  bool diverged = false;  // stopped before `high`
  std::optional<double> suggestion() const;
};

/// Throws Error for options out of range.
LrFindResult find_learning_rate(Learner& learner, optim::Optimizer& optimizer, const TrainerOptions& trainer,
                                const LrFindOptions& options = {});

/// Over seeds: the mean of the suggestions' logarithms, since rates compare as ratios; none if there is no suggestion.
std::optional<double> mean_suggestion(std::span<const LrFindResult> seeds);

/// Writes lr_find.json (all seeds), three pictures of the first seed (loss, logits, entropy, over the rate) and
/// index.html with them; returns the path of index.html. Throws Error if a file cannot be written or no seed took a
/// step.
std::filesystem::path write_lr_find_report(std::string_view recipe, std::span<const LrFindResult> seeds,
                                           const std::filesystem::path& folder);

}  // namespace attune::train
