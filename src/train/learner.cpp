// What learners share.
#include "attune/train/learner.hpp"

#include <fmt/format.h>

#include "attune/base/error.hpp"

namespace attune::train {

void check(const LossTerms& terms) {
  if (!(terms.label_smoothing >= 0 && terms.label_smoothing < 1))
    fail("Learner", "label_smoothing is 0 or more and less than 1", fmt::format("{}", terms.label_smoothing));
}

void foreign_batch() { fail("Learner::loss", "a batch from this learner's draw()", "it is of another kind"); }

}  // namespace attune::train
