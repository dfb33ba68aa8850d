// Plateau: cuts the learning rate when a metric stops improving. It listens, so it has a state and is no function of
// the step; its factor multiplies whatever the schedule says.
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

class Plateau {
 public:
  /// Throws Error for options that make no sense.
  explicit Plateau(const PlateauOptions& options = {});
  /// Takes in a metric, such as the loss of a validation, and returns the factor from now on.
  double observe(double metric);
  double factor() const { return state_.factor; }

  const PlateauState& state() const { return state_; }
  /// Throws Error, and changes nothing, for a state that no Plateau of these options could have.
  void load_state(const PlateauState& state);

 private:
  PlateauOptions options_;
  PlateauState state_;
};

}  // namespace attune::optim::schedule
