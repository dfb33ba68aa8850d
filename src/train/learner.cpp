// What learners share.
#include "attune/train/learner.hpp"

#include <fmt/format.h>

#include <cmath>

#include "attune/base/error.hpp"

namespace attune::train {

void check(const LossTerms& terms) {
  if (!(terms.label_smoothing >= 0 && terms.label_smoothing < 1))
    fail("Learner", "label_smoothing is 0 or more and less than 1", fmt::format("{}", terms.label_smoothing));
  if (!(terms.z_loss >= 0 && std::isfinite(terms.z_loss)))
    fail("Learner", "z_loss is finite and 0 or more", fmt::format("{}", terms.z_loss));
}

void foreign_batch() { fail("Learner::loss", "a batch from this learner's draw()", "it is of another kind"); }

}  // namespace attune::train
