// The signs that symptoms are made of: series of a run's log and their trends. Private to the doctor.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "attune/train/doctor.hpp"

namespace attune::train {

/// Middle of the finite values; NaN if there are none.
double middle(std::vector<double> values);

/// A stretch of a series: indices first .. end-1.
struct Stretch {
  std::size_t first = 0, end = 0;
  std::size_t size() const { return end - first; }
};
/// The last `share` of n lines, four at least where there are as many.
Stretch last_part(std::size_t n, double share);

/// Medians of the two halves of a stretch.
struct Change {
  double before = 0, after = 0;
};
Change change_of(std::span<const double> values, Stretch where);
/// Slope of the least-squares line, units a step; NaN for fewer than three finite values.
double slope_of(std::span<const std::int64_t> steps, std::span<const double> values, Stretch where);

/// One head over time; in logs without heads, the whole model.
struct HeadSeries {
  HeadPlace place;
  std::vector<std::int64_t> steps;
  std::vector<double> score, logit, entropy;
};
struct RunSigns {
  std::vector<StepLine> lines;  // those that stand
  std::vector<std::int64_t> steps;
  std::vector<double> loss, gradient;
  std::vector<double> output_lse;  // NaN in older logs
  std::vector<HeadSeries> heads;
  double untrained = 0;  // the loss at first, nats
  double reach = 0;      // how far the loss has come down from there, nats; above 0

  enum class Trend { falling, flat, rising };
  /// Of the loss, against what it has come down in all.
  Trend loss_trend(Stretch where) const;
  /// The same between two steps.
  Trend loss_trend(std::int64_t first_step, std::int64_t last_step) const;
};
RunSigns read_signs(const RunHistory& history);

/// "layer1.attention head 3"; "all heads" for a place without a name.
std::string place_text(const HeadPlace& place);

/// Drift, explosion, collapse, uniform attention, a cap that is saturated (doctor_attention.cpp).
std::vector<Finding> attention_findings(const RunSigns& signs, const DoctorOptions& options);

}  // namespace attune::train
