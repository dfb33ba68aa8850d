// What biases check when a call is made, and the names of their enumerators.
#include <fmt/format.h>

#include <array>
#include <cmath>

#include "attune/attention/bias/all.hpp"
#include "attune/base/error.hpp"

namespace attune {

namespace {
void above_zero(const char* bias, const char* option, double value) {
  if (!(value > 0) || !std::isfinite(value)) {
    fail(bias, fmt::format("{} above 0", option), fmt::format("got {}", value));
  }
}
}  // namespace

void RelativeBuckets::check(const AttendShape&) const {
  const int least = causal ? 2 : 4;
  if (num_buckets < least || (!causal && num_buckets % 2 != 0)) {
    fail("relative_buckets", causal ? "num_buckets of 2 or more" : "an even num_buckets of 4 or more",
         fmt::format("got {}", num_buckets));
  }
  const int exact = (causal ? num_buckets : num_buckets / 2) / 2;
  if (max_distance <= exact) {
    fail("relative_buckets",
         fmt::format("a max_distance above the {} distances that have a bucket each of {} buckets", exact, num_buckets),
         fmt::format("got {}", max_distance));
  }
}
void Temperature::check(const AttendShape&) const {
  if (!learned) above_zero("temperature", "a temperature", temperature);
}
void LogLength::check(const AttendShape&) const {
  if (!std::isfinite(scale)) fail("log_n", "a finite scale", fmt::format("got {}", scale));
}
void GumbelNoise::check(const AttendShape&) const { above_zero("gumbel", "a temperature", temperature); }
void Fire::check(const AttendShape&) const {
  if (hidden_dim < 1) fail("fire", "hidden_dim of 1 or more", fmt::format("got {}", hidden_dim));
  above_zero("fire", "a length", length);
}

std::span<const std::string_view> option_names(KerpleKernel) {
  static constexpr std::array<std::string_view, 2> names = {"log", "power"};
  return names;
}
std::span<const std::string_view> option_names(LengthOf) {
  static constexpr std::array<std::string_view, 2> names = {"position", "keys"};
  return names;
}
std::span<const std::string_view> option_names(FireActivation) {
  static constexpr std::array<std::string_view, 2> names = {"relu", "tanh"};
  return names;
}

}  // namespace attune
