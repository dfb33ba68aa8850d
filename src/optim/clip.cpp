// Clipping: by norm, by value, by rows against the weights, and by what norms are usual.
#include "attune/optim/clip.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "attune/base/error.hpp"
#include "kernels/ranges.hpp"
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
    detail::typed("clip_by_norm", gradients.dtype(),
                  [&]<class T>(T) { kernels::scale<T>(gradients.size(), factor, gradients.data<T>()); });
  }
  return norm;
}

void clip_by_value(Tensor& gradients, double limit) {
  check_limit("clip_by_value", limit);
  detail::typed("clip_by_value", gradients.dtype(),
                [&]<class T>(T) { kernels::clamp<T>(gradients.size(), T(-limit), T(limit), gradients.data<T>()); });
}

void clip_adaptively(const Tensor& weights, Tensor& gradients, double factor) {
  constexpr double kLeastWeight = 1e-3, kLeastGradient = 1e-6;  // of norms
  if (!(factor > 0)) fail("clip_adaptively", "a factor above 0", fmt::format("got {}", factor));
  if (weights.shape() != gradients.shape() || weights.dtype() != gradients.dtype()) {
    fail("clip_adaptively", fmt::format("gradients of shape {}", weights.shape().text()),
         fmt::format("got {}", gradients.shape().text()));
  }
  const std::int64_t rows = weights.rank() >= 2 ? weights.shape()[0] : 1;
  if (weights.size() == 0) return;
  const std::int64_t width = weights.size() / rows;
  detail::typed("clip_adaptively", weights.dtype(), [&]<class T>(T) {
    const auto clip = [&](std::int64_t first, std::int64_t end) {
      for (std::int64_t i = first; i < end; ++i) {
        const T* w = weights.data<T>() + i * width;
        T* g = gradients.data<T>() + i * width;
        const double limit = factor * std::max(std::sqrt(kernels::sum_of_squares<T>(width, w)), kLeastWeight);
        const double norm = std::sqrt(kernels::sum_of_squares<T>(width, g));
        if (norm >= limit) kernels::scale<T>(width, limit / std::max(norm, kLeastGradient), g);
      }
    };
    // A row that is long enough to be shared by threads leaves nothing to share among rows.
    if (width > kernels::kAloneElements) {
      clip(0, rows);
    } else {
      kernels::over_rows(rows, width, clip);
    }
  });
}

double ZClip::factor(double norm, double threshold, double limit) {
  constexpr double kTiny = 1e-6;
  if (!(std::isfinite(norm) && norm >= 0)) fail("ZClip", "a finite norm", fmt::format("got {}", norm));
  if (!(threshold > 0)) fail("ZClip", "a threshold above 0", fmt::format("got {}", threshold));
  double* s = state.data<double>();
  double &seen = s[0], &mean = s[1], &variance = s[2];
  if (seen < double(kWarmup)) {
    double* norms = s + 3;
    norms[std::int64_t(seen)] = norm;
    if (++seen == double(kWarmup)) {
      for (std::int64_t i = 0; i < kWarmup; ++i) mean += norms[i] / double(kWarmup);
      for (std::int64_t i = 0; i < kWarmup; ++i) variance += (norms[i] - mean) * (norms[i] - mean) / double(kWarmup);
    }
    return limit > 0 ? detail::clip_factor(norm, limit) : 1;
  }
  const double deviation = std::sqrt(variance), z = (norm - mean) / (deviation + kTiny);
  const double allowed = z > threshold ? mean + threshold * deviation / (z / threshold) : norm;
  mean = kKeep * mean + (1 - kKeep) * allowed;
  variance = kKeep * variance + (1 - kKeep) * (allowed - mean) * (allowed - mean);
  const double most = limit > 0 ? std::min(allowed, limit) : allowed;
  return norm > most ? most / (norm + kTiny) : 1;
}

}  // namespace attune::optim
