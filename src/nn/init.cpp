#include "attune/nn/init.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>

#include "attune/base/error.hpp"

namespace attune::nn {
namespace {

constexpr std::array<std::string_view, 8> kNames = {
    "zeros", "ones", "normal", "uniform", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"};

/// Insertions, deletions and replacements between two words.
int edit_distance(std::string_view a, std::string_view b) {
  std::array<int, 32> row{};  // names are shorter
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = int(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = int(i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string_view name_of(Init init) { return kNames[std::size_t(init)]; }

Init init_from_name(std::string_view name) {
  std::size_t nearest = 0;
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return Init(i);
    if (edit_distance(name, kNames[i]) < edit_distance(name, kNames[nearest])) nearest = i;
  }
  fail("init_from_name", "an initialiser",
       "got \"" + std::string(name) + "\"; the nearest is " + std::string(kNames[nearest]));
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

}  // namespace attune::nn
