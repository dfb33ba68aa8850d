// Plateau: cuts the learning rate when a metric stops improving. It listens, so it has a state and is no function of
// the step; its factor multiplies whatever the schedule says.
//
//     ReduceOnPlateau   the schedule `plateau` of recipes: a warm-up, then 1, and the options of what listens. The
//                       optimizer that has it keeps a Plateau, which Optimizer::observe() feeds (a run does so with
//                       each validation loss); the Plateau's state is part of the optimizer's.
//     Plateau           what listens, also for use on its own
//
//     better:  a < best (1 - threshold) (min, relative), a < best - threshold (min, absolute), the mirror images for
//     max not better for more than `patience` observations: factor := max(factor cut, min_ratio), if that is a change
//     of more than `epsilon`; then `cooldown` observations during which nothing is counted as bad.
// A relative threshold makes no sense for a metric that reaches 0 or changes its sign: take the absolute one.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

enum class PlateauMode : std::uint8_t { min, max };
enum class PlateauThreshold : std::uint8_t { relative, absolute };
/// What becomes of a metric that is not finite.
enum class PlateauNan : std::uint8_t {
  error,  // observe() throws Error and changes nothing: that is a matter for who guards against spikes
  bad     // counts as not better, as NaN does in the reference
};

struct PlateauOptions {
  PlateauMode mode = PlateauMode::min;
  double cut = 0.1;            // what a cut multiplies by, below 1
  std::int64_t patience = 10;  // observations
  double threshold = 1e-4;
  PlateauThreshold threshold_mode = PlateauThreshold::relative;
  std::int64_t cooldown = 0;  // observations
  double min_ratio = 0;       // the factor never falls below
  double epsilon = 1e-8;      // smallest change of the factor that is made
  PlateauNan nan = PlateauNan::error;
};

/// All that a Plateau carries from one observation to the next: finite numbers, so that a checkpoint can hold them.
struct PlateauState {
  double factor = 1;
  bool observed = false;           // whether there is a best
  double best = 0;                 // the best metric so far
  std::int64_t bad = 0;            // observations in a row that were not better
  std::int64_t cooldown_left = 0;  // observations
  friend bool operator==(const PlateauState&, const PlateauState&) = default;
};

std::span<const std::string_view> choices_of(PlateauThreshold);

/// The part of it that is a function of the step. The metric is a loss: less is better, and what is not finite is an
/// Error. It stands alone, or once in a chained.
struct ReduceOnPlateau {
  static constexpr std::string_view name = "plateau";
  double cut = 0.1;            // as in PlateauOptions
  std::int64_t patience = 10;  // observations
  double threshold = 1e-4;
  PlateauThreshold threshold_mode = PlateauThreshold::relative;
  std::int64_t cooldown = 0;  // observations
  double min_ratio = 0;
  double epsilon = 1e-8;
  double warmup = 0;       // share of the total, or steps
  std::int64_t total = 0;  // steps; 0: no end
  WarmupStart warmup_start = WarmupStart::nonzero;
  double warmup_from = 0;
  PastEnd past_end = PastEnd::hold;

  /// Without what has been heard.
  double factor(std::int64_t t) const;
  void check() const;
  PlateauOptions listener() const;
  void fields(FieldVisitor& visit) {
    visit("cut", cut), visit("patience", patience), visit("threshold", threshold);
    visit("threshold_mode", threshold_mode), visit("cooldown", cooldown), visit("min_ratio", min_ratio);
    visit("epsilon", epsilon), visit("warmup", length(warmup)), visit("total", length(total));
    visit("warmup_start", warmup_start), visit("warmup_from", warmup_from), visit("past_end", past_end);
  }
};

class Plateau {
 public:
  /// Throws Error for options that make no sense.
  explicit Plateau(const PlateauOptions& options = {});
  /// Takes in a metric, such as the loss of a validation, and returns the factor from now on.
  double observe(double metric);
  double factor() const { return state_.factor; }

  const PlateauOptions& options() const { return options_; }
  const PlateauState& state() const { return state_; }
  /// Throws Error, and changes nothing, for a state that no Plateau of these options could have.
  void load_state(const PlateauState& state);

 private:
  PlateauOptions options_;
  PlateauState state_;
};

}  // namespace attune::optim::schedule
