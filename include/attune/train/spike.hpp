// Running means, z-scores and trends of numbers that training produces, and the detector of spikes that is made of
// them.
//
//   z(x) = (x - mean) / max(deviation, least);   means over about the last 50 updates, of what is not itself a spike
//   a spike: the loss or the gradient is not finite,
//            or z(loss) > 6 in three updates one after the other,
//            or the gradient's norm is a hundred times its mean: clipped or not, it would spoil the optimizer's
//            moments.
#pragma once
#include <cstdint>
#include <string>

#include "attune/train/guard_event.hpp"

namespace attune::train {

/// Mean and deviation of a series, exponentially forgotten.
class RunningScore {
 public:
  /// least: of the deviation, as a share of |mean| and in itself, so that a flat series is not all spikes.
  RunningScore(double least_share, double least) : least_share_(least_share), least_(least) {}
  /// How many deviations above the mean a number is; 0 before the first add() and while there is no deviation.
  double z(double x) const;
  /// Takes a finite number in; what lies more than `most` deviations above the mean enters as that, once eight are in.
  void add(double x, double most);
  double mean() const { return mean_; }
  std::int64_t count() const { return count_; }
  void save(GuardNumbers& to, const std::string& name) const;
  void load(const GuardNumbers& from, const std::string& name);

 private:
  double least_share_, least_;
  double mean_ = 0, variance_ = 0;
  std::int64_t count_ = 0;
};

/// Whether a series rises: its mean over about 10 updates against that over about 50.
class Trend {
 public:
  void add(double x);
  double fast() const { return fast_; }
  bool rising() const { return fast_ > slow_; }
  bool falling() const { return fast_ < slow_; }
  void save(GuardNumbers& to, const std::string& name) const;
  void load(const GuardNumbers& from, const std::string& name);

 private:
  double fast_ = 0, slow_ = 0;
  bool begun_ = false;
};

struct SpikeOptions {
  double loss_z = 6;
  std::int64_t patience = 3;    // updates in a row with such a loss
  double gradient_ratio = 100;  // of the gradient's norm over its mean
  std::int64_t settle = 25;     // updates before which only what is not finite is a spike
};

enum class Spike : std::uint8_t { none, not_finite, loss, gradient };
/// "not_finite".
std::string_view name_of(Spike);

class SpikeDetector {
 public:
  /// Throws Error for options out of range.
  explicit SpikeDetector(const SpikeOptions& options);
  /// Takes in one update's mean loss and the norm of its gradient before clipping.
  Spike observe(double loss, double gradient_norm);
  /// Of the last observe(), against what was known before it.
  double loss_z() const { return loss_z_; }
  double gradient_z() const { return gradient_z_; }
  double gradient_ratio() const { return gradient_ratio_; }
  void save(GuardNumbers& to) const;
  void load(const GuardNumbers& from);

 private:
  SpikeOptions options_;
  RunningScore loss_, gradient_;
  std::int64_t high_ = 0;  // updates in a row
  double loss_z_ = 0, gradient_z_ = 0, gradient_ratio_ = 0;
};

}  // namespace attune::train
