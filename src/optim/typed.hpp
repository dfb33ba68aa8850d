// From a dtype at run time to a type, for the two that optimizers compute in; and the factor of clipping by norm.
#pragma once
#include <algorithm>
#include <string>
#include <string_view>

#include "attune/base/dtype.hpp"
#include "attune/base/error.hpp"

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

}  // namespace attune::optim::detail
