// Central differences and the Taylor test; see the header for both formulas.
#include "attune/autograd/gradcheck.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"

namespace attune {
namespace {

/// <w, f(x)> without a graph.
double loss_of(const Tensor& out, const std::vector<double>& w) {
  const double* y = out.data<double>();
  double sum = 0;
  for (std::int64_t i = 0; i < out.size(); ++i) sum += w[std::size_t(i)] * y[i];
  return sum;
}

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", x);
  return text;
}

}  // namespace

GradcheckReport gradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& function, std::vector<Tensor> inputs,
                          const GradcheckOptions& options) {
  for (Tensor& x : inputs) {
    if (x.dtype() != DType::float64) fail("gradcheck", "float64 inputs", "got " + std::string(name_of(x.dtype())));
    x.requires_grad();
    x.set_grad(Tensor::zeros(x.shape(), DType::float64));
  }
  Generator generator(options.seed);
  const Tensor out = function(inputs);
  const Tensor weights = Tensor::randn(out.shape(), generator, DType::float64);
  const std::vector<double> w = weights.to_vector();
  out.backward(weights);
  NoGrad no_grad;
  const auto loss = [&] { return loss_of(function(inputs), w); };
  const double here = loss_of(out, w);

  GradcheckReport report;
  report.passed = true;
  const auto reject = [&](const std::string& text) {
    if (report.passed) report.text = text;
    report.passed = false;
  };
  // The gradients are read before anything moves: `function` may be given the same tensor twice.
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    double* x = inputs[i].data<double>();
    const std::vector<double> g = inputs[i].grad().to_vector();
    const std::int64_t n = inputs[i].size(), step = std::max<std::int64_t>(1, n / options.most_elements);
    for (std::int64_t k = 0; k < n; k += step) {
      const double before = x[k];
      x[k] = before + options.epsilon;
      const double up = loss();
      x[k] = before - options.epsilon;
      const double down = loss();
      x[k] = before;
      const double difference = (up - down) / (2 * options.epsilon), off = std::abs(difference - g[std::size_t(k)]);
      report.worst_difference = std::max(report.worst_difference, off);
      if (!(off <= options.absolute + options.relative * std::abs(g[std::size_t(k)]))) {
        reject("input " + std::to_string(i) + ", element " + std::to_string(k) + ": gradient " +
               number(g[std::size_t(k)]) + ", central difference " + number(difference));
      }
    }
  }

  // Taylor, over all inputs jointly.
  std::vector<std::vector<double>> start, direction;
  double slope_along = 0;  // <g, v>
  for (const Tensor& x : inputs) {
    start.push_back(x.to_vector());
    direction.push_back({});
    const std::vector<double> g = x.grad().to_vector();
    for (double gk : g) {
      const double v =
          options.taylor_length * generator.normal() / std::sqrt(double(std::max<std::int64_t>(1, x.size())));
      direction.back().push_back(v);
      slope_along += gk * v;
    }
  }
  // The least h's remainder is closest to pure h^2, the largest h's is furthest above rounding: pairs of neighbours are
  // taken from the small end, and the first whose both remainders count decides.
  double remainder[10] = {};
  for (int e = 3; e <= 9; ++e) {
    const double h = std::ldexp(1.0, -e);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      double* x = inputs[i].data<double>();
      for (std::size_t k = 0; k < start[i].size(); ++k) x[k] = start[i][k] + h * direction[i][k];
    }
    remainder[e] = std::abs(loss() - here - h * slope_along);
    if (!std::isfinite(remainder[e])) reject("the function is not finite near its inputs");
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) std::copy(start[i].begin(), start[i].end(), inputs[i].data<double>());
  for (int e = 8; e >= 3; --e) {
    if (remainder[e + 1] <= options.skip_remainder * std::max(1.0, std::abs(here))) continue;
    report.taylor_slope = std::log2(remainder[e] / remainder[e + 1]);
    // A slope of 3 is a function without curvature along v; only a fall slower than h^2 means a wrong gradient.
    if (!(report.taylor_slope >= 1.95)) reject("Taylor slope " + number(report.taylor_slope) + ", not 2");
    break;
  }
  if (report.passed) report.text = "passed";
  return report;
}

}  // namespace attune
