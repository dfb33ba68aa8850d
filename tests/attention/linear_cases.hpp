// Calls of linear attention that its tests share: arrays of random numbers, the shipped pass on them, the formula.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "attune/attention/linear/formula.hpp"
#include "attune/base/rng.hpp"

namespace attune::linear_cases {

struct Case {
  std::string name;
  LinearAttendOptions options;
  int decay_dim = 0;  // 0: no decay; 1: per head; else per key dimension
  bool beta_shared = false, state = false;
  double gate = 0.1;  // size of -decay
  int batch = 2, heads = 4, kv_heads = 2, queries = 37, keys = 37, head_dim = 5, value_dim = 3;
  double size = 0.7;  // of queries and keys
};

/// The extents of a case, by its own arithmetic.
inline LinearAttendShape shape_of(const Case& c) {
  LinearAttendShape s;
  s.batch_size = c.batch, s.num_heads = c.heads, s.num_kv_heads = c.kv_heads;
  s.num_queries = c.queries, s.num_keys = c.keys, s.head_dim = c.head_dim, s.value_dim = c.value_dim;
  const auto* favor = std::get_if<features::Favor>(&c.options.features);
  s.feature_dim = favor ? favor->num_features() : c.head_dim;
  s.state_dim = c.value_dim + (c.options.normalize ? 1 : 0);
  return s;
}

/// Random inputs: normal queries, keys and values, gates below 0, betas in (0, 1), a state where the case has one.
inline LinearArrays<double> arrays_of(const Case& c, std::uint64_t seed = 1) {
  const LinearAttendShape s = shape_of(c);
  Generator generator(seed);
  const auto fill = [&](std::int64_t n, auto draw) {
    std::vector<double> v;
    for (std::int64_t i = 0; i < n; ++i) v.push_back(double(float(draw())));  // exact in float32 too
    return v;
  };
  const std::int64_t rows = std::int64_t(c.batch) * c.heads * c.queries,
                     tokens = std::int64_t(c.batch) * c.kv_heads * c.keys;
  LinearArrays<double> a;
  a.query = fill(rows * c.head_dim, [&] { return c.size * generator.normal(); });
  a.key = fill(tokens * c.head_dim, [&] { return c.size * generator.normal(); });
  a.value = fill(tokens * c.value_dim, [&] { return generator.normal(); });
  a.decay_dim = c.decay_dim;
  a.beta_shared = c.beta_shared;
  if (takes_decay(c.options.rule))
    a.decay = fill(tokens * c.decay_dim, [&] { return -c.gate * std::abs(generator.normal()); });
  if (takes_beta(c.options.rule)) {
    a.beta = fill(c.beta_shared ? c.batch * c.keys : tokens, [&] { return generator.uniform(0.05, 0.95); });
  }
  if (c.state) {
    a.state = fill(std::int64_t(c.batch) * c.kv_heads * s.feature_dim * s.state_dim,
                   [&] { return c.options.normalize ? 0.1 + generator.uniform() : 0.3 * generator.normal(); });
  }
  return a;
}

template <class To, class From>
LinearArrays<To> converted(const LinearArrays<From>& a) {
  const auto all = [](const std::vector<From>& v) { return std::vector<To>(v.begin(), v.end()); };
  LinearArrays<To> r;
  r.query = all(a.query), r.key = all(a.key), r.value = all(a.value);
  r.decay = all(a.decay), r.beta = all(a.beta), r.state = all(a.state);
  r.decay_dim = a.decay_dim, r.beta_shared = a.beta_shared;
  return r;
}
/// f on each array, in one order.
template <class S, class F>
void each_array(LinearArrays<S>& a, F f) {
  for (auto* v : {&a.query, &a.key, &a.value, &a.decay, &a.beta, &a.state}) f(*v);
}

/// Views on the arrays of a case, contiguous; arrays that are empty are left out.
template <class Pointer, class Arrays>
struct CaseViews {
  BasicView<Pointer> query, key, value, decay, beta, state;
  CaseViews(const Case& c, Arrays& a) {
    const LinearAttendShape s = shape_of(c);
    query = BasicView<Pointer>(a.query.data(), {c.batch, c.heads, c.queries, c.head_dim});
    key = BasicView<Pointer>(a.key.data(), {c.batch, c.kv_heads, c.keys, c.head_dim});
    value = BasicView<Pointer>(a.value.data(), {c.batch, c.kv_heads, c.keys, c.value_dim});
    if (!a.decay.empty()) {
      decay = c.decay_dim == 1 ? BasicView<Pointer>(a.decay.data(), {c.batch, c.kv_heads, c.keys})
                               : BasicView<Pointer>(a.decay.data(), {c.batch, c.kv_heads, c.keys, c.decay_dim});
    }
    if (!a.beta.empty()) beta = BasicView<Pointer>(a.beta.data(), {c.batch, c.beta_shared ? 1 : c.kv_heads, c.keys});
    if (!a.state.empty()) state = BasicView<Pointer>(a.state.data(), {c.batch, c.kv_heads, s.feature_dim, s.state_dim});
  }
};
template <class T>
LinearAttendInputs inputs_of(const Case& c, const LinearArrays<T>& a) {
  const CaseViews<const void, const LinearArrays<T>> v(c, a);
  return {v.query, v.key, v.value, v.decay, v.beta, v.state};
}

template <class T>
struct Ran {
  LinearResults<T> results;
  std::vector<T> normalizer;
};
/// The shipped forward pass.
template <class T>
Ran<T> run_forward(const Case& c, const LinearArrays<T>& a) {
  const LinearAttendShape s = shape_of(c);
  Ran<T> r;
  r.results.out.resize(std::size_t(c.batch) * c.heads * c.queries * c.value_dim);
  r.results.state.resize(std::size_t(c.batch) * c.kv_heads * s.feature_dim * s.state_dim);
  LinearAttendOutputs out{.out = View(r.results.out.data(), {c.batch, c.heads, c.queries, c.value_dim}),
                          .state = View(r.results.state.data(), {c.batch, c.kv_heads, s.feature_dim, s.state_dim})};
  if (c.options.normalize) {
    r.normalizer.resize(std::size_t(c.batch) * c.heads * c.queries);
    out.normalizer = View(r.normalizer.data(), {c.batch, c.heads, c.queries});
  }
  linear_attend_forward(inputs_of(c, a), out, c.options);
  return r;
}
/// Its gradients given those of out and state, in arrays of zeros (a state's too where the case has none).
template <class T>
LinearArrays<T> run_backward(const Case& c, const LinearArrays<T>& a, const LinearResults<T>& up) {
  const LinearAttendShape s = shape_of(c);
  const Ran<T> f = run_forward(c, a);
  LinearArrays<T> g = a;
  g.state.resize(up.state.size());
  each_array(g, [](auto& v) { std::fill(v.begin(), v.end(), T(0)); });
  const CaseViews<void, LinearArrays<T>> to(c, g);
  const Shape rows{c.batch, c.heads, c.queries, c.value_dim};
  LinearAttendUpstream u{.dout = ConstView(up.out.data(), rows),
                         .dstate = ConstView(up.state.data(), {c.batch, c.kv_heads, s.feature_dim, s.state_dim})};
  if (c.options.normalize) {
    u.out = ConstView(f.results.out.data(), rows);
    u.normalizer = ConstView(f.normalizer.data(), {c.batch, c.heads, c.queries});
  }
  linear_attend_backward(inputs_of(c, a), u, {to.query, to.key, to.value, to.decay, to.beta, to.state}, c.options);
  return g;
}

/// max |x - reference| / max |reference|; infinite where a NaN is.
template <class A, class B>
double error_of(const std::vector<A>& x, const std::vector<B>& reference) {
  EXPECT_EQ(x.size(), reference.size());
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double d = std::abs(double(x[i]) - double(reference[i]));
    worst = d <= worst ? worst : std::isnan(d) ? std::numeric_limits<double>::infinity() : d;
    largest = std::max(largest, std::abs(double(reference[i])));
  }
  return worst == 0 ? 0 : worst / largest;
}

/// Every rule and feature map with what can be varied about it.
inline std::vector<Case> cases() {
  using features::EluPlusOne, features::Favor, features::Relu;
  const auto rule = [](UpdateRule r, int chunk) { return LinearAttendOptions{.rule = r, .chunk = chunk}; };
  std::vector<Case> all;
  all.push_back({.name = "linear", .options = rule(UpdateRule::linear, 8)});
  all.push_back(
      {.name = "linear, state, scale", .options = {.scale = -0.7, .chunk = 64}, .state = true, .kv_heads = 4});
  all.push_back({.name = "linear, one key head", .options = rule(UpdateRule::linear, 16), .kv_heads = 1});
  all.push_back({.name = "gated by head", .options = rule(UpdateRule::gated, 64), .decay_dim = 1, .state = true});
  all.push_back({.name = "gated by dimension", .options = rule(UpdateRule::gated, 16), .decay_dim = 5, .state = true});
  all.push_back({.name = "gates that close", .options = rule(UpdateRule::gated, 32), .decay_dim = 5, .gate = 6});
  all.push_back({.name = "delta", .options = rule(UpdateRule::delta, 64), .state = true});
  all.push_back({.name = "delta, shared beta", .options = rule(UpdateRule::delta, 8), .beta_shared = true});
  all.push_back({.name = "gated delta by head", .options = rule(UpdateRule::gated_delta, 16), .decay_dim = 1});
  all.push_back({.name = "gated delta by dimension",
                 .options = rule(UpdateRule::gated_delta, 64),
                 .decay_dim = 5,
                 .state = true});
  all.push_back({.name = "gated delta that closes",
                 .options = rule(UpdateRule::gated_delta, 64),
                 .decay_dim = 1,
                 .beta_shared = true,
                 .gate = 5});
  all.push_back(
      {.name = "elu + 1", .options = {.features = EluPlusOne{}, .normalize = true, .chunk = 16}, .state = true});
  all.push_back(
      {.name = "elu + 1, raw, everything seen", .options = {.features = EluPlusOne{}, .causal = false, .chunk = 16}});
  all.push_back({.name = "relu, everything seen",
                 .options = {.features = Relu{.epsilon = 0.1}, .normalize = true, .causal = false, .chunk = 8},
                 .state = true,
                 .queries = 21});
  all.push_back(
      {.name = "relu, gated",
       .options = {.rule = UpdateRule::gated, .features = Relu{.epsilon = 0.2}, .normalize = true, .chunk = 32},
       .decay_dim = 1});
  all.push_back({.name = "favor", .options = {.features = Favor(5, 11, 3), .normalize = true, .chunk = 16}});
  all.push_back({.name = "favor, everything seen",
                 .options = {.features = Favor(5, 4, 3, false, 0.3), .normalize = true, .causal = false},
                 .queries = 19});
  Case padded{.name = "valid keys",
              .options = {.rule = UpdateRule::gated_delta, .valid_keys = {20, 0}, .chunk = 8},
              .decay_dim = 5};
  padded.state = true;
  all.push_back(padded);
  all.push_back(
      {.name = "valid keys, everything seen",
       .options = {.features = EluPlusOne{}, .normalize = true, .causal = false, .valid_keys = {37, 9}, .chunk = 16}});
  Case longer{.name = "more chunks than states are kept", .options = {.rule = UpdateRule::gated_delta, .chunk = 1}};
  longer.decay_dim = 1, longer.batch = longer.kv_heads = 1, longer.heads = 2, longer.queries = longer.keys = 1040;
  longer.head_dim = 3, longer.value_dim = 2;
  all.push_back(longer);
  // Widths beyond those of vectors, a chunk that is not full.
  Case wide{.name = "wide", .options = {.rule = UpdateRule::gated_delta}, .decay_dim = 21, .state = true};
  wide.batch = 1, wide.heads = 2, wide.kv_heads = 1, wide.queries = wide.keys = 41;
  wide.head_dim = 21, wide.value_dim = 35, wide.size = 0.3;
  all.push_back(wide);
  Case many{.name = "favor, wide", .options = {.features = Favor(12, 70, 2), .normalize = true}};
  many.batch = 1, many.heads = 2, many.kv_heads = 1, many.queries = many.keys = 70;
  many.head_dim = 12, many.value_dim = 17, many.size = 0.5;
  all.push_back(many);
  return all;
}

}  // namespace attune::linear_cases
