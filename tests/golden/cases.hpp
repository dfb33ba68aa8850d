// How golden cases are read: arrays with their shapes, options of mechanisms, and how far results may be away.
#pragma once
#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attune/attention/mechanisms.hpp"
#include "attune/base/view.hpp"

namespace attune::golden {

/// tests/golden/<name>.json.
inline nlohmann::json read_cases(const std::string& name) {
  std::ifstream file(std::string(ATTUNE_SOURCE_DIR) + "/tests/golden/" + name + ".json");
  return nlohmann::json::parse(file);
}

/// {"shape": [...], "numbers": [...]}.
struct Numbers {
  Shape shape;
  std::vector<double> numbers;
  explicit Numbers(const nlohmann::json& j) : numbers(j["numbers"].get<std::vector<double>>()) {
    const auto extents = j["shape"].get<std::vector<std::int64_t>>();
    shape = Shape(extents.data(), int(extents.size()));
  }
  ConstView view() const { return ConstView(numbers.data(), shape); }
  double largest() const {
    double most = 0;
    for (const double x : numbers) most = std::max(most, std::abs(x));
    return most;
  }
};

/// max |x - reference| / max |reference|.
inline double error_of(const std::vector<double>& x, const std::vector<double>& reference) {
  double worst = x.size() == reference.size() ? 0 : INFINITY, largest = 0;
  for (std::size_t n = 0; n < std::min(x.size(), reference.size()); ++n) {
    worst = std::max(worst, std::abs(x[n] - reference[n]));
    largest = std::max(largest, std::abs(reference[n]));
  }
  return worst / largest;
}

/// {"cap": 30, "learned": true, ...}.
inline OptionValues options_of(const nlohmann::json& j) {
  OptionValues values;
  for (const auto& [name, value] : j.items()) {
    if (value.is_string())
      values[name] = value.get<std::string>();
    else if (value.is_boolean())
      values[name] = value.get<bool>();
    else
      values[name] = value.get<double>();
  }
  return values;
}

}  // namespace attune::golden
