// From a dtype at run time to a type, for the two that optimizers compute in; the factor of clipping by norm; and what
// the options of all optimizers have in common.
#pragma once
#include <algorithm>
#include <span>
#include <string>
#include <string_view>

#include "attune/base/dtype.hpp"
#include "attune/base/error.hpp"
#include "attune/optim/optimizer.hpp"

namespace attune::optim::detail {

/// f(T{}) with T float or double.
template <class F>
auto typed(std::string_view function, DType dtype, F&& f) {
  if (dtype == DType::float32) return f(float{});
  if (dtype != DType::float64) fail(function, "float32 or float64", "got " + std::string(name_of(dtype)));
  return f(double{});
}

/// min(1, limit / (norm + 1e-6)).
inline double clip_factor(double norm, double limit) { return std::min(1.0, limit / (norm + 1e-6)); }

/// What Optimizer itself wants to know of an optimizer's options.
template <class Options>
OptimizerOptions shared_options(const Options& o) {
  return {o.learning_rate, o.schedule, o.weight_decay, o.clip_norm, o.clip_value, o.clip_adaptive, o.clip_zscore};
}

inline void check_betas(std::span<const double> betas) {
  for (const double beta : betas) {
    if (!(beta >= 0 && beta < 1)) fail("Optimizer", "`betas` in [0, 1)", "got " + std::to_string(beta));
  }
}

}  // namespace attune::optim::detail
