// What a value of a recipe may be. Private.
#pragma once
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

namespace attune::train::detail {

/// Numbers: low .. high, bounds included unless open. Texts: one of `choices`, or any if empty.
struct Rule {
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
  bool above_low = false, below_high = false;  // the bound itself is excluded
  std::vector<std::string_view> choices;
  std::string_view mechanism;  // texts: a kind of `attune info --mechanisms`; `choices` then come on top
};
inline Rule at_least(double low) { return {.low = low}; }
inline Rule above(double low) { return {.low = low, .above_low = true}; }
inline Rule between(double low, double high) { return {.low = low, .high = high}; }
inline Rule share() { return {.low = 0, .high = 1, .below_high = true}; }  // [0, 1)
inline Rule one_of(std::vector<std::string_view> choices) { return {.choices = std::move(choices)}; }
inline Rule any() { return {}; }

}  // namespace attune::train::detail
