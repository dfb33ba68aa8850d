// Clipping by norm and by value, over a flat gradient [n].
#include "attune/optim/clip.hpp"

#include <fmt/format.h>

#include <cmath>

#include "attune/base/error.hpp"
#include "kernels/update.hpp"
#include "optim/typed.hpp"

namespace attune::optim {
namespace {

void check_limit(std::string_view function, double limit) {
  if (!(limit > 0)) fail(function, "a limit above 0", fmt::format("got {}", limit));
}

}  // namespace

double norm_of(const Tensor& gradients) {
  return detail::typed("norm_of", gradients.dtype(), [&]<class T>(T) {
    return std::sqrt(kernels::sum_of_squares<T>(gradients.size(), gradients.data<T>()));
  });
}

double clip_by_norm(Tensor& gradients, double limit) {
  check_limit("clip_by_norm", limit);
  const double norm = norm_of(gradients);
  const double factor = detail::clip_factor(norm, limit);
  if (std::isfinite(norm) && factor < 1) {
    detail::typed("clip_by_norm", gradients.dtype(), [&]<class T>(T) {
      T* g = gradients.data<T>();
      for (std::int64_t i = 0; i < gradients.size(); ++i) g[i] *= T(factor);
    });
  }
  return norm;
}

void clip_by_value(Tensor& gradients, double limit) {
  check_limit("clip_by_value", limit);
  detail::typed("clip_by_value", gradients.dtype(),
                [&]<class T>(T) { kernels::clamp<T>(gradients.size(), T(-limit), T(limit), gradients.data<T>()); });
}

}  // namespace attune::optim
