// One toy call for check_stage.cpp: its numbers, and the engine on them, by the public functions or over tiles so small
// that a toy has many of them, for any scalar.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "attention/call.hpp"
#include "attune/attention/formula.hpp"
#include "attune/base/view.hpp"

namespace attune::checking {

using engine::BackwardInputs, engine::BackwardResult, engine::ForwardResult, engine::Problem, engine::Strided;

/// query, key, value, then learned arrays, as attend_parameters() lists them.
template <class S>
using Arrays = std::vector<std::vector<S>>;

struct ToyCall {
  AttendOptions options;
  formula::Problem plain;
  Arrays<double> in;
  std::vector<double> dout, dlse;  // dlse empty: the normalizer has no log-sum-exp
  const AttendShape& shape() const { return plain.shape; }
  std::size_t rows() const {
    return std::size_t(shape().batch_size) * std::size_t(shape().num_heads) * std::size_t(shape().num_queries);
  }
};

template <class T>
struct ToyResult {
  std::vector<T> out, lse;
  Arrays<T> gradient;
};

template <class To, class From>
std::vector<To> as(const std::vector<From>& v) {
  return std::vector<To>(v.begin(), v.end());
}
template <class To, class From>
Arrays<To> as(const Arrays<From>& arrays) {
  Arrays<To> r;
  for (const auto& array : arrays) r.push_back(as<To>(array));
  return r;
}
template <class T>
Arrays<T> zeros_like(const Arrays<T>& in) {
  Arrays<T> r;
  for (const auto& array : in) r.emplace_back(array.size(), T(0));
  return r;
}

/// attend_forward and attend_backward. `dout`, `dlse` of T.
template <class T>
ToyResult<T> run_public(const ToyCall& c, const Arrays<T>& in) {
  const AttendShape& s = c.shape();
  const Shape out{s.batch_size, s.num_heads, s.num_queries, s.value_dim}, row{s.batch_size, s.num_heads, s.num_queries};
  std::vector<Shape> shapes = {{s.batch_size, s.num_heads, s.num_queries, s.query_dim},
                               {s.batch_size, s.num_kv_heads, s.num_keys, s.key_dim},
                               {s.batch_size, s.num_kv_heads, s.num_keys, s.value_dim}};
  for (const AttendParameter& p : attend_parameters(c.options, s)) shapes.push_back(p.shape);
  ToyResult<T> r{std::vector<T>(std::size_t(out.size()), T(777)), std::vector<T>(c.rows(), T(777)), zeros_like(in)};
  const auto read = [&](std::size_t n) { return ConstView(in[n].data(), shapes[n]); };
  const auto add = [&](std::size_t n) { return View(r.gradient[n].data(), shapes[n]); };
  AttendInputs inputs{read(0), read(1), read(2), {}};
  AttendGradients gradients{add(0), add(1), add(2), {}};
  for (std::size_t n = 3; n < in.size(); ++n) {
    inputs.parameters.push_back(read(n));
    gradients.parameters.push_back(add(n));
  }
  attend_forward(inputs, {.out = View(r.out.data(), out), .lse = View(r.lse.data(), row)}, c.options);
  const std::vector<T> dout = as<T>(c.dout), dlse = as<T>(c.dlse);
  attend_backward(inputs,
                  {.out = ConstView(r.out.data(), out),
                   .lse = ConstView(r.lse.data(), row),
                   .dout = ConstView(dout.data(), out),
                   .dlse = dlse.empty() ? ConstView() : ConstView(dlse.data(), row)},
                  gradients, c.options);
  return r;
}

/// The tile loops over any scalar, in tiles of 4 x 3.
template <class T>
ToyResult<T> run_tiles(const ToyCall& c, const Arrays<T>& in) {
  const AttendShape& s = c.shape();
  Problem<T> p = engine::make_problem<T>(s, c.options);
  p.tile_queries = 4;
  p.tile_keys = 3;
  const auto strided = [](auto* data, int heads, int rows, int cols) {
    return Strided<std::remove_pointer_t<decltype(data)>>{data, std::ptrdiff_t(heads) * rows * cols,
                                                          std::ptrdiff_t(rows) * cols, cols};
  };
  ToyResult<T> r{std::vector<T>(c.dout.size(), T(777)), std::vector<T>(c.rows(), T(777)), zeros_like(in)};
  p.query = strided(in[0].data(), s.num_heads, s.num_queries, s.query_dim);
  p.key = strided(in[1].data(), s.num_kv_heads, s.num_keys, s.key_dim);
  p.value = strided(in[2].data(), s.num_kv_heads, s.num_keys, s.value_dim);
  std::size_t at = 3;
  const auto bind = [&](auto& arrays) {
    for (auto& array : arrays) {
      array.value = in[at].data();
      array.grad = r.gradient[at].data();
      ++at;
    }
  };
  bind(p.position.arrays);
  bind(p.score.arrays);
  for (auto& bias : p.bias) bind(bias.arrays);
  bind(p.normalizer.arrays);
  forward(p,
          ForwardResult<T>{.out = strided(r.out.data(), s.num_heads, s.num_queries, s.value_dim), .lse = r.lse.data()});
  const std::vector<T> dout = as<T>(c.dout), dlse = as<T>(c.dlse);
  const T* out = r.out.data();
  engine::backward(p,
                   BackwardInputs<T>{.out = strided(out, s.num_heads, s.num_queries, s.value_dim),
                                     .dout = strided(dout.data(), s.num_heads, s.num_queries, s.value_dim),
                                     .lse = r.lse.data(),
                                     .dlse = dlse.empty() ? nullptr : dlse.data()},
                   BackwardResult<T>{.query = strided(r.gradient[0].data(), s.num_heads, s.num_queries, s.query_dim),
                                     .key = strided(r.gradient[1].data(), s.num_kv_heads, s.num_keys, s.key_dim),
                                     .value = strided(r.gradient[2].data(), s.num_kv_heads, s.num_keys, s.value_dim)});
  return r;
}

/// max |x - reference| / max |reference| (or / floor, if that is larger). Equal infinities are no error; any other
/// number that is not finite is an infinite one.
template <class A, class B>
double error_of(const std::vector<A>& x, const std::vector<B>& reference, double floor = 0) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (x.size() != reference.size()) return kInfinity;
  double worst = 0, largest = floor;
  for (std::size_t n = 0; n < x.size(); ++n) {
    const double a = double(x[n]), b = double(reference[n]);
    if (std::isfinite(b)) largest = std::max(largest, std::abs(b));
    if (a == b) continue;
    const double d = std::abs(a - b);
    worst = std::isfinite(d) ? std::max(worst, d) : kInfinity;
  }
  return worst == 0 ? 0 : largest == 0 ? kInfinity : worst / largest;
}

/// Sum of products where a is finite.
inline double dot_of(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t n = 0; n < b.size(); ++n) sum += std::isfinite(a[n]) ? a[n] * b[n] : 0;
  return sum;
}
inline double dot_of(const Arrays<double>& a, const Arrays<double>& b) {
  double sum = 0;
  for (std::size_t n = 0; n < b.size(); ++n) sum += dot_of(a[n], b[n]);
  return sum;
}
inline double largest_of(const Arrays<double>& a) {
  double most = 0;
  for (const auto& array : a) {
    for (const double x : array) most = std::max(most, std::abs(x));
  }
  return most;
}

}  // namespace attune::checking
