// How golden cases are read: arrays with their shapes, options of mechanisms, and how far results may be away.
#pragma once
#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attune/attention/attend.hpp"
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

/// A list of them: query, key, value, then learned arrays.
inline std::vector<Numbers> all_numbers(const nlohmann::json& list) {
  std::vector<Numbers> all;
  for (const auto& array : list) all.emplace_back(array);
  return all;
}

/// A call's output and all its gradients in float64, given dout [B, H, Tq, Dv].
struct Ran {
  std::vector<double> out;
  std::vector<std::vector<double>> gradient;  // of each input
};
inline Ran run(const std::vector<Numbers>& in, const Numbers& dout, const AttendOptions& options) {
  const Shape& q = in[0].shape;
  const Shape rows{q[0], q[1], q[2]};
  Ran r{.out = std::vector<double>(dout.numbers.size()), .gradient = {}};
  std::vector<double> lse(std::size_t(rows.size()));
  for (const Numbers& array : in) r.gradient.emplace_back(array.numbers.size());
  const auto to = [&](std::size_t n) { return View(r.gradient[n].data(), in[n].shape); };
  AttendInputs inputs{in[0].view(), in[1].view(), in[2].view(), {}};
  AttendGradients gradients{to(0), to(1), to(2), {}};
  for (std::size_t n = 3; n < in.size(); ++n) {
    inputs.parameters.push_back(in[n].view());
    gradients.parameters.push_back(to(n));
  }
  attend_forward(inputs, {.out = View(r.out.data(), dout.shape), .lse = View(lse.data(), rows)}, options);
  attend_backward(inputs,
                  {.out = ConstView(r.out.data(), dout.shape), .lse = ConstView(lse.data(), rows), .dout = dout.view()},
                  gradients, options);
  return r;
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
