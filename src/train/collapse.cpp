// The three signs of malignant collapse, with hysteresis.
#include "attune/train/collapse.hpp"

#include <fmt/format.h>

#include "attune/base/error.hpp"

namespace attune::train {

CollapseDetector::CollapseDetector(const CollapseOptions& options) : options_(options) {
  if (!(options.entropy >= 0 && options.entropy < 0.5) || options.steps < 1) {
    fail("CollapseDetector", "an entropy of 0 or more and below 0.5, and at least one step",
         fmt::format("got {} and {}", options.entropy, options.steps));
  }
}

void CollapseDetector::observe(double entropy, double score, bool no_better) {
  entropy_.add(entropy);
  score_.add(score);
  const bool signs = entropy_.fast() < options_.entropy && score_.rising() && no_better;
  const bool well = entropy_.fast() > 2 * options_.entropy || !score_.rising();
  in_a_row_ = (malignant_ ? well : signs) ? in_a_row_ + 1 : 0;
  if (in_a_row_ < options_.steps) return;
  malignant_ = !malignant_;
  in_a_row_ = 0;
}

void CollapseDetector::save(GuardNumbers& to, const std::string& name) const {
  entropy_.save(to, name + "/entropy");
  score_.save(to, name + "/score");
  to[name] = {double(in_a_row_), double(malignant_)};
}
void CollapseDetector::load(const GuardNumbers& from, const std::string& name) {
  entropy_.load(from, name + "/entropy");
  score_.load(from, name + "/score");
  const auto& x = guard_numbers(from, name, 2);
  in_a_row_ = std::int64_t(x[0]), malignant_ = x[1] != 0;
}

}  // namespace attune::train
