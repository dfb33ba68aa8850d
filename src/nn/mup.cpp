// muP: what changes with the width, but for the learning rates.
#include "attune/nn/mup.hpp"

#include <cmath>
#include <string>

#include "attune/attention/score/scaled_dot.hpp"
#include "attune/base/error.hpp"

namespace attune::nn {

double Mup::ratio(std::int64_t width) const {
  if (!(std::isfinite(base_width) && base_width >= 0)) {
    fail("Mup", "a finite `base_width` of 0 or more", "got " + std::to_string(base_width));
  }
  return base_width > 0 ? double(width) / base_width : 1;
}

Initializer Mup::hidden(Initializer init, std::int64_t width) const {
  if (init.kind == Init::normal || init.kind == Init::uniform) init.gain /= std::sqrt(ratio(width));
  return init;
}

TransformerOptions Mup::stack(TransformerOptions o) const {
  const double m = ratio(o.model_dim);
  o.init = hidden(o.init, o.model_dim);
  const ScaledDot* const dot = o.score.as<ScaledDot>();
  // sqrt(D / m) / D. "Attention is all you need" divides by sqrt(D), the spread of a sum of D unrelated products;
  // learned queries and keys are related, and their sum grows with D.
  if (m != 1 && dot && !dot->scale) {
    o.score = ScaledDot{.scale = 1 / std::sqrt(m * double(o.model_dim) / double(o.num_heads))};
  }
  return o;
}

}  // namespace attune::nn
