// Numbers in JSON, as this layer writes them: those that are not finite stand as texts (train/event_log.hpp). Private.
// The whole layer uses ordered_json: each JSON type that a unit uses is compiled once more.
#pragma once
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

namespace attune::train {

/// A number or such a text; NaN for anything else.
inline double number_of(const nlohmann::ordered_json& value) {
  if (value.is_number()) return value.get<double>();
  if (value == "inf") return std::numeric_limits<double>::infinity();
  if (value == "-inf") return -std::numeric_limits<double>::infinity();
  return std::numeric_limits<double>::quiet_NaN();
}

/// The number of that name; NaN if there is none.
inline double number_of(const nlohmann::ordered_json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? std::numeric_limits<double>::quiet_NaN() : number_of(*found);
}

/// The list of numbers of that name; empty if there is none.
inline std::vector<double> numbers_of(const nlohmann::ordered_json& object, const char* key) {
  std::vector<double> list;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array()) return list;
  for (const nlohmann::ordered_json& value : *found) list.push_back(number_of(value));
  return list;
}

/// The reverse.
inline nlohmann::ordered_json number_or_text(double x) {
  if (std::isfinite(x)) return x;
  return std::isnan(x) ? "nan" : x > 0 ? "inf" : "-inf";
}

}  // namespace attune::train
