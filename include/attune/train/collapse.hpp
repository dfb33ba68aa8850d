// Malignant collapse: a layer whose attention looks at single keys while its scores still grow and training gets no
// better. A sharp head alone is not sick (arXiv:2505.21910): all three signs have to hold, for a while.
//
//   enters  entropy < 0.05, scores rising, loss or gradient not falling    20 updates in a row
//   leaves  entropy > 0.10, or scores no longer rising                      20 updates in a row
#pragma once
#include <cstdint>
#include <string>

#include "attune/train/spike.hpp"

namespace attune::train {

struct CollapseOptions {
  double entropy = 0.05;    // normalised, mean over the layer's heads; twice that to leave
  std::int64_t steps = 20;  // updates in a row, to enter and to leave
};

class CollapseDetector {
 public:
  /// Throws Error for options out of range.
  explicit CollapseDetector(const CollapseOptions& options);
  /// One update: the layer's mean entropy, its largest |score|, and whether loss or gradient norm fail to fall.
  void observe(double entropy, double score, bool no_better);
  bool malignant() const { return malignant_; }
  /// The entropy that was judged: the mean over about ten updates.
  double entropy() const { return entropy_.fast(); }
  void save(GuardNumbers& to, const std::string& name) const;
  void load(const GuardNumbers& from, const std::string& name);

 private:
  CollapseOptions options_;
  Trend entropy_, score_;
  std::int64_t in_a_row_ = 0;  // updates that speak for changing sides
  bool malignant_ = false;
};

}  // namespace attune::train
