// Medians over the seeds of a sweep. Private.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "attune/train/sweep.hpp"

namespace attune::train {

/// NaN counts as larger than any number: a median of three with two NaN is infinite. NaN of nothing.
double median(std::vector<double> x);

/// The rows of one recipe, remedy and value, one a seed.
std::vector<const SweepRow*> rows_of(const std::vector<SweepRow>& rows, std::string_view recipe,
                                     std::string_view remedy, double value);

template <class Get>
std::vector<double> each(const std::vector<const SweepRow*>& rows, Get get) {
  std::vector<double> out;
  for (const SweepRow* row : rows) out.push_back(get(*row));
  return out;
}

/// A diverged run's loss is that of the untrained model: what it counts as, and where it is drawn.
double counted_loss(const SweepRow& row);
/// Of the untrained model, median over all runs of a recipe.
double initial_loss(const std::vector<SweepRow>& rows, std::string_view recipe);
/// "BLEU 20.7, 0.003"; empty without a score.
std::string score_text(const SweepSummary& summary);

}  // namespace attune::train
