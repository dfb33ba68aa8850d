// Linear attention against its own definition (formula.hpp): values, gradients by recording and by duals, remainders.
#include <gtest/gtest.h>

#include <cstring>

#include "attention/linear_cases.hpp"
#include "attune/attention/recorded.hpp"
#include "attune/base/parallel.hpp"

namespace attune::linear_cases {
namespace {

/// Random gradients of out and state.
LinearResults<double> upstream_of(const LinearResults<double>& like, std::uint64_t seed = 9) {
  Generator generator(seed);
  LinearResults<double> up = like;
  for (auto* v : {&up.out, &up.state}) {
    for (double& x : *v) x = double(float(generator.normal()));
  }
  return up;
}
double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < b.size(); ++i) sum += a[i] * b[i];
  return sum;
}

TEST(LinearAttend, IsTheFormula) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const LinearArrays<double> a = arrays_of(c);
    const LinearResults<double> want = linear_attend_formula(shape_of(c), c.options, a),
                                got = run_forward(c, a).results;
    EXPECT_LE(error_of(got.out, want.out), 1e-13);
    EXPECT_LE(error_of(got.state, want.state), 1e-13);
    // float32 on the same numbers: the bar, or twice what the formula itself loses in it.
    const LinearArrays<float> narrow = converted<float>(a);
    const LinearResults<float> plain = linear_attend_formula(shape_of(c), c.options, narrow),
                               small = run_forward(c, narrow).results;
    EXPECT_LE(error_of(small.out, want.out), std::max(2e-6, 2 * error_of(plain.out, want.out)));
    EXPECT_LE(error_of(small.state, want.state), std::max(2e-6, 2 * error_of(plain.state, want.state)));
  }
}

/// Gradients of <up, formula> by recording it.
LinearArrays<double> recorded_gradients(const Case& c, const LinearArrays<double>& a, const LinearResults<double>& up) {
  using R = Recorded<double>;
  recording<double>().clear();
  LinearArrays<R> inputs = converted<R>(a);
  LinearArrays<double> zeros = a;
  zeros.state.resize(up.state.size());
  if (inputs.state.empty()) inputs.state.resize(up.state.size());
  each_array(inputs, [](auto& v) {
    for (R& x : v) x = R::input(x.v);
  });
  const LinearResults<R> y = linear_attend_formula(shape_of(c), c.options, inputs);
  std::vector<double> gradient(recording<double>().size(), 0.0);
  for (std::size_t i = 0; i < y.out.size(); ++i) {
    if (y.out[i].id >= 0) gradient[std::size_t(y.out[i].id)] += up.out[i];
  }
  for (std::size_t i = 0; i < y.state.size(); ++i) gradient[std::size_t(y.state[i].id)] += up.state[i];
  rewind(gradient);
  LinearArrays<double> g = zeros;
  const auto take = [&](const std::vector<R>& from, std::vector<double>& to) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = gradient[std::size_t(from[i].id)];
  };
  take(inputs.query, g.query), take(inputs.key, g.key), take(inputs.value, g.value);
  take(inputs.decay, g.decay), take(inputs.beta, g.beta), take(inputs.state, g.state);
  recording<double>().clear();
  return g;
}

TEST(LinearAttend, HasTheFormulasGradients) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const LinearArrays<double> a = arrays_of(c);
    const LinearResults<double> up = upstream_of(linear_attend_formula(shape_of(c), c.options, a));
    // Recordings of wide cases are long: those have the adjoint test, and float32 is held against float64.
    LinearArrays<double> got = run_backward(c, a, up), want = c.head_dim > 5 ? got : recorded_gradients(c, a, up);
    std::vector<std::vector<double>> wanted;
    each_array(want, [&](auto& v) { wanted.push_back(v); });
    std::size_t at = 0;
    each_array(got, [&](auto& v) {
      SCOPED_TRACE(at);
      EXPECT_LE(error_of(v, wanted[at++]), 1e-12);
    });
    // float32: its bar is five times that of the forward pass.
    LinearResults<float> narrow_up{{up.out.begin(), up.out.end()}, {up.state.begin(), up.state.end()}};
    LinearArrays<float> small = run_backward(c, converted<float>(a), narrow_up);
    at = 0;
    each_array(small, [&](auto& v) {
      SCOPED_TRACE(at);
      EXPECT_LE(error_of(v, wanted[at++]), 1e-5);
    });
  }
}

TEST(LinearAttend, IsAdjointToItsDerivative) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    using D = Dual<double>;
    LinearArrays<double> a = arrays_of(c, 3);
    a.state.resize(std::size_t(c.batch) * c.kv_heads * shape_of(c).feature_dim * shape_of(c).state_dim, 0.0);
    LinearArrays<D> along = converted<D>(a);
    Generator generator(5);
    std::vector<std::vector<double>> v;
    each_array(along, [&](auto& array) {
      v.emplace_back();
      for (D& x : array) x.d = generator.normal(), v.back().push_back(x.d);
    });
    const LinearResults<D> j = linear_attend_formula(shape_of(c), c.options, along);
    const LinearResults<double> up = upstream_of(linear_attend_formula(shape_of(c), c.options, a));
    LinearArrays<double> g = run_backward(c, a, up);
    double forward = 0, backward = 0, u2 = 0, v2 = 0, j2 = 0, g2 = 0;
    const auto add = [&](const std::vector<D>& x, const std::vector<double>& w) {
      for (std::size_t i = 0; i < x.size(); ++i) forward += x[i].d * w[i], j2 += x[i].d * x[i].d, u2 += w[i] * w[i];
    };
    add(j.out, up.out), add(j.state, up.state);
    std::size_t at = 0;
    each_array(g, [&](auto& array) {
      backward += dot(array, v[at]), g2 += dot(array, array), v2 += dot(v[at], v[at]);
      ++at;
    });
    EXPECT_LE(std::abs(forward - backward), 1e-13 * (std::sqrt(u2 * j2) + std::sqrt(g2 * v2)));
  }
}

TEST(LinearAttend, HasRemaindersOfSecondOrder) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    LinearArrays<double> a = arrays_of(c, 7);
    const bool kinks = std::holds_alternative<features::Relu>(c.options.features);
    a.state.resize(std::size_t(c.batch) * c.kv_heads * shape_of(c).feature_dim * shape_of(c).state_dim, 0.0);
    const Ran<double> start = run_forward(c, a);
    const LinearResults<double> up = upstream_of(start.results);
    LinearArrays<double> g = run_backward(c, a, up);
    std::vector<std::vector<double>> v;
    double slope = 0;
    Generator generator(11);
    each_array(g, [&](auto& array) {
      v.emplace_back();
      for (double x : array) v.back().push_back(0.02 * generator.normal()), slope += x * v.back().back();
    });
    const auto loss = [&](double h) {
      LinearArrays<double> moved = a;
      std::size_t at = 0;
      each_array(moved, [&](auto& array) {
        for (std::size_t i = 0; i < array.size(); ++i) array[i] += h * v[at][i];
        ++at;
      });
      const LinearResults<double> y = run_forward(c, moved).results;
      return dot(y.out, up.out) + dot(y.state, up.state);
    };
    const double l0 = dot(start.results.out, up.out) + dot(start.results.state, up.state);
    double before = 0;
    int steps = 0;
    for (int e = 3; e <= 9 && !kinks; ++e) {
      const double h = std::ldexp(1, -e), remainder = std::abs(loss(h) - l0 - h * slope);
      if (remainder < 1e-11) break;
      if (before > 0) {
        EXPECT_NEAR(std::log2(before / remainder), 2, 0.05) << "h 2^-" << e;
        ++steps;
      }
      before = remainder;
    }
    EXPECT_TRUE(kinks || steps >= 3) << steps;
  }
}

TEST(LinearAttend, HasEqualBitsForAnyThreads) {
  const int before = num_threads();
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const LinearArrays<float> a = converted<float>(arrays_of(c));
    std::vector<std::vector<float>> first;
    for (int threads : {1, 2, 3}) {
      set_num_threads(threads);
      const LinearResults<float> r = run_forward(c, a).results;
      LinearArrays<float> g = run_backward(c, a, r);
      std::vector<std::vector<float>> all{r.out, r.state};
      each_array(g, [&](auto& v) { all.push_back(v); });
      if (threads == 1) first = all;
      for (std::size_t i = 0; i < all.size(); ++i) {
        EXPECT_TRUE(all[i].empty() || std::memcmp(all[i].data(), first[i].data(), all[i].size() * sizeof(float)) == 0)
            << "array " << i << ", threads " << threads;
      }
    }
  }
  set_num_threads(before);
}

}  // namespace
}  // namespace attune::linear_cases
