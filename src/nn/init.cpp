// Initialisers: spreads from the extents of [out, in], and their names.
#include "attune/nn/init.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "attune/attention/attend.hpp"
#include "attune/base/error.hpp"
#include "attune/base/nearest.hpp"

namespace attune::nn {
namespace {

constexpr std::array<std::string_view, 8> kNames = {
    "zeros", "ones", "normal", "uniform", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"};

}  // namespace

std::string_view name_of(Init init) { return kNames[std::size_t(init)]; }

Init init_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return Init(i);
  }
  const std::vector<std::string> known(kNames.begin(), kNames.end());
  std::string finding = "got \"";
  finding.append(name).append("\"; the nearest is ").append(nearest(name, known));
  fail("init_from_name", "an initialiser", finding);
}

void initialize(Tensor& x, const Initializer& init, Generator& generator, std::int64_t fan_out) {
  const double in = double(x.rank() == 0 ? 1 : x.shape().back());
  const double out = fan_out > 0 ? double(fan_out) : x.rank() < 2 ? in : double(x.size()) / std::max(in, 1.0);
  const auto normal = [&](double deviation) {
    Tensor z = Tensor::randn(x.shape(), generator, DType::float64);
    for (double& v : std::span(z.data<double>(), std::size_t(z.size()))) v *= deviation;
    x.copy_from(z);
  };
  const auto uniform = [&](double bound) {
    x.copy_from(Tensor::uniform(x.shape(), -bound, bound, generator, DType::float64));
  };
  switch (init.kind) {
    case Init::zeros:
      return x.fill(0);
    case Init::ones:
      return x.fill(1);
    case Init::normal:
      return normal(init.gain);
    case Init::uniform:
      return uniform(init.gain);
    case Init::xavier_uniform:
      return uniform(init.gain * std::sqrt(6 / (in + out)));
    case Init::xavier_normal:
      return normal(init.gain * std::sqrt(2 / (in + out)));
    case Init::kaiming_uniform:
      return uniform(init.gain * std::sqrt(3 / in));
    case Init::kaiming_normal:
      return normal(init.gain / std::sqrt(in));
  }
}

Tensor make_parameter(const Shape& shape, const Initializer& init, std::int64_t fan_out) {
  Tensor x = Tensor::empty(shape);
  initialize(x, init, default_generator(), fan_out);
  return x;
}

Tensor make_parameter(const AttendParameter& p) {
  Tensor x = Tensor::empty(p.shape);
  switch (p.start.kind) {
    case Start::Kind::matrix:  // [copies, out, in]: out of one copy
      initialize(x, {Init::xavier_uniform, 1}, default_generator(), x.rank() >= 2 ? x.shape().back(1) : 0);
      break;
    case Start::Kind::uniform:
      initialize(x, {Init::uniform, p.start.size}, default_generator());
      break;
    case Start::Kind::normal:
      initialize(x, {Init::normal, p.start.size}, default_generator());
      break;
    case Start::Kind::numbers: {
      const std::vector<double>& numbers = p.start.numbers;
      const auto parts = std::int64_t(numbers.size());
      if (parts < 1 || x.size() % parts != 0) {
        fail(p.stage, "numbers for equal parts of " + p.name + " " + p.shape.text() + " to start at",
             "got " + std::to_string(parts));
      }
      const std::int64_t part = x.size() / parts;
      for (std::int64_t i = 0; i < x.size(); ++i) x.data<float>()[i] = float(numbers[std::size_t(i / part)]);
    }
  }
  return x;
}

}  // namespace attune::nn
