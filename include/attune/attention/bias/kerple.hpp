// KERPLE: a kernel of the distance d = |position of query - key|, learned for every head. arXiv:2205.09921
//
//     log:    logits -= scale log(1 + rate d)
//     power:  logits -= scale d^power,  power in (0, 2]
#pragma once
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "attune/attention/bias/by_distance.hpp"
#include "attune/attention/bias/lane_log.hpp"

namespace attune {

enum class KerpleKernel : std::uint8_t { log, power };
/// "log", "power".
std::span<const std::string_view> option_names(KerpleKernel);

/// Parameters: scale [H], and rate [H] (log) or power [H] (power). Their magnitudes count, so that no step of an
/// optimizer leaves the kernels; a power above 2 counts as 2 and has no gradient. The paper starts them at random in
/// (0, 2) and (0, 1).
struct Kerple {
  static constexpr std::string_view name = "kerple";
  static constexpr std::string_view source = "arXiv:2205.09921", cost = "1 addition a pair, 1 log a diagonal of a tile";
  KerpleKernel kernel = KerpleKernel::log;

  void options(StageOptions& visit) { visit("kernel", kernel); }
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const {
    std::vector<double> scales(std::size_t(shape.num_heads));  // spread over (0, 2), from which the paper draws
    for (std::size_t h = 0; h < scales.size(); ++h) scales[h] = double(2 * h + 1) / double(scales.size());
    return {{"scale", {1}, Per::head, Start::each_at(std::move(scales))},
            {kernel == KerpleKernel::log ? "rate" : "power", {1}, Per::head, Start::at(0.5)}};
  }
  template <class T>
  void apply(Tile<T>& x, Tile<T>*, Call<T>& call) const {
    const T scale = abs(*call.parameter[0].value), second = abs(*call.parameter[1].value);
    if (kernel == KerpleKernel::log) {
      detail::add_by_distance(x, call,
                              [=](int r) { return -scale * detail::lane_log(T(1) + second * T(std::abs(r))); });
    } else {
      const T power = minimum(second, T(2));
      detail::add_by_distance(x, call, [=](int r) { return r ? -scale * power_of(r, power) : T(0); });
    }
  }
  template <class T>
  void backward(const Tile<T>*, Tile<T>& dx, Call<T>& call) const {
    const T first = *call.parameter[0].value, second = *call.parameter[1].value, scale = abs(first);
    T dscale(0), dsecond(0);
    if (kernel == KerpleKernel::log) {
      const T rate = abs(second);
      detail::each_distance(dx, call, [&](T sum, int r) {
        const T d = T(std::abs(r)), z = T(1) + rate * d;
        dscale -= sum * detail::lane_log(z);
        dsecond -= sum * scale * d / z;
      });
    } else {
      // d(d^p)/dp = d^p log d.
      const T power = minimum(abs(second), T(2));
      detail::each_distance(dx, call, [&](T sum, int r) {
        if (r == 0) return;
        const T y = power_of(r, power);
        dscale -= sum * y;
        dsecond -= sum * scale * y * detail::lane_log(T(std::abs(r)));
      });
      if (abs(second) > T(2)) dsecond = T(0);
    }
    *call.parameter[0].grad += first < T(0) ? -dscale : dscale;
    *call.parameter[1].grad += second < T(0) ? -dsecond : dsecond;
  }

 private:
  template <class T>
  static T power_of(int r, T power) {
    return exp(power * detail::lane_log(T(std::abs(r))));
  }
};

}  // namespace attune
