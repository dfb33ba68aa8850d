// Half types against the float64 loop: the error may be twice that of the plain formula in that type (backward three
// times), for every kind of call that runs on pairs of bfloat16 and for those that fall back to float32.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "attention/plain_half.hpp"
#include "attune/attention/attention.hpp"
#include "attune/base/dropout.hpp"
#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"
#include "attune/base/rng.hpp"
#include "kernels/reference.hpp"

namespace attune::half_tests {
namespace {

struct HalfCase {
  int batch = 1, heads = 1, kv_heads = 1, queries = 1, keys = 1, dim = 16, value_dim = 16;
  bool causal = false;
  int offset = 0;
  std::vector<int> valid_keys;
  double dropout = 0, size = 1;
  bool dlse = false;
  float grows = 1;  // keys from 128 on are so many times larger

  AttendShape shape() const { return {batch, heads, kv_heads, queries, keys, dim, dim, value_dim}; }
  AttendOptions options() const {
    AttendOptions o{.offset = {offset}, .dropout_p = dropout, .seed = 77, .first_batch = 3};
    if (causal) o.mask = Causal{};
    if (!valid_keys.empty()) o.mask = causal ? AnyMask(Causal{} & Padding{valid_keys}) : AnyMask(Padding{valid_keys});
    return o;
  }
  bool sees(int b, int i, int j) const {
    return (!causal || j <= i + offset) && (valid_keys.empty() || j < valid_keys[std::size_t(b)]);
  }
  double factor(int b, int h, int i, int j) const {
    if (dropout == 0) return 1;
    const std::uint32_t t = dropout_threshold(dropout);
    return kept(77, std::uint32_t(b + 3), std::uint32_t(h), std::uint32_t(i), std::uint32_t(j), t) ? dropout_scale(t)
                                                                                                   : 0;
  }
  std::string text() const {
    return std::to_string(batch) + " x " + std::to_string(heads) + "/" + std::to_string(kv_heads) + " x " +
           std::to_string(queries) + " x " + std::to_string(keys) + ", D " + std::to_string(dim) + ", " +
           std::to_string(value_dim) + (causal ? ", causal " + std::to_string(offset) : "");
  }
};

template <class T>
std::vector<T> numbers(std::int64_t n, std::uint64_t seed, double size) {
  Generator g(seed);
  std::vector<T> v(static_cast<std::size_t>(n));
  for (T& x : v) x = T(float(size * g.normal()));
  return v;
}
template <class T>
std::vector<double> wide(const std::vector<T>& v) {
  std::vector<double> w(v.size());
  for (std::size_t i = 0; i < v.size(); ++i) w[i] = double(float(v[i]));
  return w;
}

/// A call with its results; out NaN and gradients 0 before it.
template <class T>
struct Half {
  HalfCase c;
  std::vector<T> query, key, value, dout, out;
  std::vector<float> dlse, lse, dquery, dkey, dvalue;

  explicit Half(const HalfCase& of) : c(of) {
    const std::int64_t rows = std::int64_t(c.batch) * c.heads * c.queries,
                       keys = std::int64_t(c.batch) * c.kv_heads * c.keys;
    query = numbers<T>(rows * c.dim, 1, c.size);
    key = numbers<T>(keys * c.dim, 2, c.size);
    for (std::size_t i = 0; i < key.size(); ++i) {
      if (i / std::size_t(c.dim) % std::size_t(c.keys) >= 128) key[i] = T(c.grows * float(key[i]));
    }
    value = numbers<T>(keys * c.value_dim, 3, 1);
    dout = numbers<T>(rows * c.value_dim, 4, 1);
    if (c.dlse) dlse = numbers<float>(rows, 5, 1);
    out.assign(std::size_t(rows * c.value_dim), T(std::numeric_limits<float>::quiet_NaN()));
    lse.assign(std::size_t(rows), 7);
    dquery.assign(query.size(), 0);
    dkey.assign(key.size(), 0);
    dvalue.assign(value.size(), 0);
  }
  Shape rows(int width) const { return {c.batch, c.heads, c.queries, width}; }
  Shape keys(int width) const { return {c.batch, c.kv_heads, c.keys, width}; }
  AttendInputs inputs() const {
    return {ConstView(query.data(), rows(c.dim)),
            ConstView(key.data(), keys(c.dim)),
            ConstView(value.data(), keys(c.value_dim)),
            {}};
  }
  void forward(Statistics* statistics = nullptr) {
    attend_forward(inputs(),
                   {.out = View(out.data(), rows(c.value_dim)),
                    .lse = View(lse.data(), {c.batch, c.heads, c.queries}),
                    .statistics = statistics},
                   c.options());
  }
  void backward() {
    const Shape one{c.batch, c.heads, c.queries};
    attend_backward(inputs(),
                    {.out = ConstView(out.data(), rows(c.value_dim)),
                     .lse = ConstView(lse.data(), one),
                     .dout = ConstView(dout.data(), rows(c.value_dim)),
                     .dlse = c.dlse ? ConstView(dlse.data(), one) : ConstView()},
                    {.query = View(dquery.data(), rows(c.dim)),
                     .key = View(dkey.data(), keys(c.dim)),
                     .value = View(dvalue.data(), keys(c.value_dim))},
                    c.options());
  }
};

/// The plain formula in T: every array that it writes down is rounded, sums are float32 and longer; delta is the row
/// sum of dout * out, with out as the forward wrote it.
struct Plain {
  std::vector<double> out, dquery, dkey, dvalue;
};
template <class T>
Plain plain_formula(const Half<T>& x) {
  const HalfCase& c = x.c;
  const auto round = [](double v) { return double(float(T(float(v)))); };
  const auto q = wide(x.query), k = wide(x.key), v = wide(x.value), g = wide(x.dout);
  Plain r{std::vector<double>(x.out.size()), std::vector<double>(q.size()), std::vector<double>(k.size()),
          std::vector<double>(v.size())};
  const double scale = 1 / std::sqrt(double(c.dim));
  std::vector<double> p(std::size_t(c.keys)), dp(p.size());
  for (int row = 0; row < c.batch * c.heads * c.queries; ++row) {
    const int i = row % c.queries, h = row / c.queries % c.heads, b = row / c.queries / c.heads;
    const std::size_t kv = std::size_t(b * c.kv_heads + h / (c.heads / c.kv_heads)) * std::size_t(c.keys);
    const auto dot = [&](const std::vector<double>& left, std::size_t l, const std::vector<double>& right,
                         std::size_t at, int n) {
      double sum = 0;
      for (int d = 0; d < n; ++d) sum += left[l + std::size_t(d)] * right[at + std::size_t(d)];
      return sum;
    };
    const std::size_t qr = std::size_t(row * c.dim), gr = std::size_t(row * c.value_dim);
    double top = -std::numeric_limits<double>::infinity(), sum = 0, delta = 0;
    for (int j = 0; j < c.keys; ++j) {
      if (!c.sees(b, i, j)) continue;
      p[std::size_t(j)] = round(scale * dot(q, qr, k, (kv + std::size_t(j)) * std::size_t(c.dim), c.dim));
      top = std::max(top, p[std::size_t(j)]);
    }
    for (int j = 0; j < c.keys; ++j)
      if (c.sees(b, i, j)) sum += p[std::size_t(j)] = std::exp(p[std::size_t(j)] - top);
    for (int j = 0; j < c.keys; ++j) {
      if (!c.sees(b, i, j)) continue;
      const std::size_t vr = (kv + std::size_t(j)) * std::size_t(c.value_dim);
      p[std::size_t(j)] = round(p[std::size_t(j)] / sum);
      const double kept = round(c.factor(b, h, i, j) * p[std::size_t(j)]);
      dp[std::size_t(j)] = round(c.factor(b, h, i, j) * dot(g, gr, v, vr, c.value_dim));
      for (int d = 0; d < c.value_dim; ++d) {
        r.out[gr + std::size_t(d)] += kept * v[vr + std::size_t(d)];
        r.dvalue[vr + std::size_t(d)] += kept * g[gr + std::size_t(d)];
      }
    }
    for (int d = 0; d < c.value_dim; ++d) delta += g[gr + std::size_t(d)] * round(r.out[gr + std::size_t(d)]);
    if (c.dlse) delta -= double(x.dlse[std::size_t(row)]);
    for (int j = 0; j < c.keys; ++j) {
      if (!c.sees(b, i, j)) continue;
      const std::size_t kr = (kv + std::size_t(j)) * std::size_t(c.dim);
      const double ds = round(scale * p[std::size_t(j)] * (dp[std::size_t(j)] - delta));
      for (int d = 0; d < c.dim; ++d) {
        r.dquery[qr + std::size_t(d)] += ds * k[kr + std::size_t(d)];
        r.dkey[kr + std::size_t(d)] += ds * q[qr + std::size_t(d)];
      }
    }
  }
  for (auto* a : {&r.out, &r.dquery, &r.dkey, &r.dvalue})
    for (double& y : *a) y = round(y);
  return r;
}

double error(const std::vector<double>& x, const std::vector<double>& reference) {
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double e = std::abs(x[i] - reference[i]);
    worst = std::isfinite(e) ? std::max(worst, e) : std::numeric_limits<double>::infinity();
  }
  return worst;
}

/// Errors as shares of the largest number: of out, dquery, dkey, dvalue.
struct Errors {
  std::array<double, 4> found{}, plain{};
};

/// Errors are held against the bar at once, or are added to those of other cases: with two or three terms a sum the
/// plain formula is now and then exact by chance, which says nothing about ours. Then twice the bar must do for each.
template <class T>
void check(const HalfCase& c, Errors* pool = nullptr) {
  SCOPED_TRACE(c.text());
  kernels::ReferenceProblem problem;
  problem.shape = {c.batch, c.heads, c.kv_heads, c.queries, c.keys, c.dim, c.dim, c.value_dim};
  problem.visible = [&](int b, int, int i, int j) { return c.sees(b, i, j); };
  problem.keep_factor = [&](int b, int h, int i, int j) { return c.factor(b, h, i, j); };
  Half<T> x(c);
  const kernels::ReferenceArrays arrays{wide(x.query), wide(x.key), wide(x.value)};
  const auto expected = kernels::reference_forward(problem, arrays);
  const auto gradients = kernels::reference_backward(problem, arrays, wide(x.dout), wide(x.dlse));
  const Plain plain = plain_formula(x);
  x.forward();
  x.backward();
  // A result is never held against less than its own rounding; 1e-5: terms of size 1 that cancel in float32.
  const double rounding = std::is_same_v<T, BFloat16> ? 1.0 / 512 : 1.0 / 4096;
  const auto one = [&](int which, const std::vector<double>& found, const std::vector<double>& formula,
                       const std::vector<double>& reference) {
    double largest = 0;
    for (double r : reference) largest = std::max(largest, std::abs(r));
    const double e = error(found, reference), plain_error = std::max(error(formula, reference), rounding * largest);
    EXPECT_LE(e, (which == 0 ? 2 : 3) * (pool ? 2 : 1) * plain_error + 1e-5) << "array " << which;
    if (!pool || largest == 0) return;
    pool->found[std::size_t(which)] = std::max(pool->found[std::size_t(which)], e / largest);
    pool->plain[std::size_t(which)] = std::max(pool->plain[std::size_t(which)], plain_error / largest);
  };
  one(0, wide(x.out), plain.out, expected.out);
  one(1, wide(x.dquery), plain.dquery, gradients[0]);
  one(2, wide(x.dkey), plain.dkey, gradients[1]);
  one(3, wide(x.dvalue), plain.dvalue, gradients[2]);
  for (std::size_t i = 0; i < x.lse.size(); ++i) {
    if (std::isinf(expected.stat[i]))
      EXPECT_EQ(double(x.lse[i]), expected.stat[i]);
    else
      EXPECT_NEAR(double(x.lse[i]), expected.stat[i], 2e-4 + 1e-6 * std::abs(expected.stat[i]));
  }
}

template <class T>
class HalfTypes : public ::testing::Test {};
using Types = ::testing::Types<BFloat16, Float16>;
TYPED_TEST_SUITE(HalfTypes, Types);

TYPED_TEST(HalfTypes, Full) {
  check<TypeParam>({.batch = 2, .heads = 2, .kv_heads = 2, .queries = 70, .keys = 90, .dim = 32, .value_dim = 32});
  check<TypeParam>({.queries = 130, .keys = 301, .dim = 64, .value_dim = 64});
  check<TypeParam>({.queries = 33, .keys = 1});
  check<TypeParam>({.queries = 1, .keys = 40, .dim = 32, .value_dim = 16});
  check<TypeParam>({.heads = 24, .kv_heads = 1, .queries = 1, .keys = 37});
}
TYPED_TEST(HalfTypes, EveryWidth) {
  for (int dim : {16, 48, 80, 96, 112, 128})
    check<TypeParam>({.queries = 20, .keys = 35, .dim = dim, .value_dim = 144 - dim, .causal = true, .offset = 9});
  check<TypeParam>({.queries = 20, .keys = 35, .dim = 24, .value_dim = 20});  // pairs take neither
}
TYPED_TEST(HalfTypes, EveryShapeOfTheDiagonal) {
  Errors pool;
  for (int queries : {1, 2, 15, 16, 17, 31, 70, 135}) {
    for (int keys : {1, 2, 15, 16, 18, 33, 66}) {
      for (int offset : {0, 3, -5, keys - queries})
        check<TypeParam>({.queries = queries, .keys = keys, .causal = true, .offset = offset}, &pool);
    }
  }
  for (std::size_t i = 0; i < 4; ++i) EXPECT_LE(pool.found[i], (i == 0 ? 2 : 3) * pool.plain[i]) << "array " << i;
  check<TypeParam>({.queries = 600, .keys = 600, .causal = true});
}
TYPED_TEST(HalfTypes, SharedKeyHeadsPaddingAndGradientOfLse) {
  check<TypeParam>({.batch = 3,
                    .heads = 6,
                    .kv_heads = 2,
                    .queries = 40,
                    .keys = 60,
                    .causal = true,
                    .offset = 20,
                    .valid_keys = {60, 31, 0},
                    .dlse = true});
  check<TypeParam>({.batch = 2, .heads = 2, .kv_heads = 1, .queries = 20, .keys = 530, .valid_keys = {530, 515}});
}
TYPED_TEST(HalfTypes, Dropout) {
  check<TypeParam>({.heads = 2, .kv_heads = 1, .queries = 70, .keys = 131, .dim = 32, .dropout = 0.1});
  check<TypeParam>({.batch = 2, .queries = 70, .keys = 75, .causal = true, .offset = 5, .dropout = 0.5, .dlse = true});
}
TYPED_TEST(HalfTypes, PeakedRows) {
  check<TypeParam>({.queries = 96, .keys = 300, .dim = 32, .value_dim = 32, .size = 4});
  check<TypeParam>({.queries = 96, .keys = 300, .dim = 32, .value_dim = 32, .causal = true, .offset = 100, .size = 8});
}
// A maximum that most rows keep from their first keys, and one that later keys leave far behind: by 2^60 and more in
// some rows, in others by less.
TYPED_TEST(HalfTypes, MaximaThatAreOvertaken) {
  for (float grows : {2.f, 4.f, 20.f}) {
    check<TypeParam>({.queries = 96, .keys = 700, .dim = 32, .value_dim = 32, .size = 3, .grows = grows});
    check<TypeParam>(
        {.queries = 300, .keys = 300, .dim = 64, .value_dim = 32, .causal = true, .size = 3, .grows = grows});
  }
}

// Logits whose rounding is many nats: rows go to the key of the largest, no weight is above 1. float16 ends at 65504.
TYPED_TEST(HalfTypes, HugeLogits) {
  for (const double size : {1e2, 1e4, 1e5, 1e9, 1e15}) {
    if (std::is_same_v<TypeParam, Float16> && size > 1e4) continue;
    SCOPED_TRACE(size);
    for (const HalfCase& c : {HalfCase{.queries = 96, .keys = 300, .dim = 32, .value_dim = 32, .size = size},
                              HalfCase{.queries = 96, .keys = 96, .causal = true, .size = size}}) {
      Half<TypeParam> x(c);
      kernels::ReferenceProblem problem;
      problem.shape = {c.batch, c.heads, c.kv_heads, c.queries, c.keys, c.dim, c.dim, c.value_dim};
      problem.visible = [&](int b, int, int i, int j) { return c.sees(b, i, j); };
      const auto expected = kernels::reference_forward(problem, {wide(x.query), wide(x.key), wide(x.value)});
      x.forward();
      x.backward();
      EXPECT_LE(error(wide(x.out), expected.out), 1e-3) << "values are copied, but for near ties";
      std::vector<double> most(std::size_t(c.value_dim));
      for (std::size_t i = 0; i < x.dout.size(); ++i) most[i % most.size()] += std::abs(double(float(x.dout[i])));
      for (std::size_t i = 0; i < x.dvalue.size(); ++i)
        EXPECT_LE(std::abs(x.dvalue[i]), 1.001 * most[i % most.size()]) << i;
      for (const auto* gradient : {&x.dquery, &x.dkey}) {
        for (const float g : *gradient) EXPECT_TRUE(std::isfinite(g));
      }
    }
  }
}

TYPED_TEST(HalfTypes, HiddenNumbersChangeNothingVisible) {
  const HalfCase c{.queries = 50, .keys = 50, .causal = true};
  Half<TypeParam> clean(c), spoilt(c);
  clean.forward();
  clean.backward();
  // Key, value, query and dout of row 30: queries before it must not notice, nor gradients of keys after it.
  for (int d = 0; d < 16; ++d) {
    const std::size_t at = std::size_t(30 * 16 + d);
    spoilt.key[at] = spoilt.value[at] = spoilt.query[at] = TypeParam(std::numeric_limits<float>::quiet_NaN());
    spoilt.dout[at] = TypeParam(std::numeric_limits<float>::infinity());
  }
  spoilt.forward();
  spoilt.backward();
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(std::isnan(spoilt.lse[std::size_t(i)]), i >= 30) << i;
    for (int d = 0; d < 16; ++d) {
      const std::size_t at = std::size_t(i * 16 + d);
      EXPECT_EQ(std::isnan(float(spoilt.out[at])), i >= 30) << i;
      EXPECT_EQ(std::isnan(spoilt.dquery[at]), i >= 30) << i;
      if (i >= 30) continue;
      EXPECT_NEAR(float(spoilt.out[at]), float(clean.out[at]), 0.01) << i;
      EXPECT_NEAR(spoilt.dquery[at], clean.dquery[at], 0.02) << i;
    }
  }
}

TYPED_TEST(HalfTypes, RowsThatSeeNoKey) {
  for (const HalfCase& c : {HalfCase{.queries = 40, .keys = 50, .causal = true, .offset = -20, .dlse = true},
                            HalfCase{.queries = 40, .keys = 30, .causal = true, .offset = -90, .dlse = true},
                            HalfCase{.queries = 40, .keys = 30, .valid_keys = {0}, .dlse = true}}) {
    SCOPED_TRACE(c.text());
    Half<TypeParam> x(c);
    x.forward();
    x.backward();
    const int empty = c.causal ? std::min(c.queries, -c.offset) : c.queries;
    for (int i = 0; i < c.queries; ++i) {
      EXPECT_EQ(x.lse[std::size_t(i)] == -std::numeric_limits<float>::infinity(), i < empty);
      for (int d = 0; d < 16; ++d) {
        EXPECT_EQ(float(x.out[std::size_t(i * 16 + d)]) == 0, i < empty);
        EXPECT_EQ(x.dquery[std::size_t(i * 16 + d)] == 0, i < empty);
      }
    }
    for (int j = std::max(0, c.queries - empty); j < c.keys; ++j)
      for (int d = 0; d < 16; ++d) EXPECT_EQ(x.dkey[std::size_t(j * 16 + d)], 0);
  }
}

TYPED_TEST(HalfTypes, EqualBitsForAnyThreadsAndWithStatistics) {
  const HalfCase c{.batch = 2, .heads = 4, .kv_heads = 2, .queries = 300, .keys = 300, .causal = true};
  const int before = num_threads();
  set_num_threads(1);
  Half<TypeParam> once(c);
  once.forward();
  once.backward();
  for (int threads : {2, 3, 8}) {
    set_num_threads(threads);
    Half<TypeParam> again(c);
    Statistics statistics;
    again.forward(threads == 3 ? &statistics : nullptr);
    again.backward();
    EXPECT_EQ(std::memcmp(again.out.data(), once.out.data(), once.out.size() * 2), 0) << threads;
    EXPECT_EQ(again.lse, once.lse) << threads;
    EXPECT_EQ(again.dquery, once.dquery) << threads;
    EXPECT_EQ(again.dkey, once.dkey) << threads;
    EXPECT_EQ(again.dvalue, once.dvalue) << threads;
    if (threads != 3) continue;
    double mean = 0;
    for (int i = 0; i < 300; ++i) mean += double(once.lse[std::size_t(i)]) / 300;
    EXPECT_NEAR(statistics.lse[0], mean, 1e-3);
    EXPECT_GT(statistics.entropy[0], 0);
  }
  set_num_threads(before);
}

TYPED_TEST(HalfTypes, ReadTokenMajorMemory) {
  const HalfCase c{.batch = 2, .heads = 2, .kv_heads = 2, .queries = 37, .keys = 37, .causal = true};
  Half<TypeParam> x(c);
  x.forward();
  const auto token_major = [](const std::vector<TypeParam>& v) {
    std::vector<TypeParam> r(v.size());
    for (int i = 0; i < 2; ++i)
      for (int h = 0; h < 2; ++h)
        for (int t = 0; t < 37; ++t)
          std::copy_n(&v[std::size_t(((i * 2 + h) * 37 + t) * 16)], 16, &r[std::size_t(((i * 37 + t) * 2 + h) * 16)]);
    return r;
  };
  const auto q = token_major(x.query), k = token_major(x.key), v = token_major(x.value);
  std::vector<TypeParam> out(x.out.size());
  const Shape shape{2, 37, 2, 16};
  attend_forward({ConstView(q.data(), shape).transposed(1, 2),
                  ConstView(k.data(), shape).transposed(1, 2),
                  ConstView(v.data(), shape).transposed(1, 2),
                  {}},
                 {.out = View(out.data(), shape).transposed(1, 2)}, c.options());
  const auto expected = token_major(x.out);
  EXPECT_EQ(std::memcmp(out.data(), expected.data(), out.size() * 2), 0);
}

TEST(HalfTypesExplained, SayWhetherPairsAreMultiplied) {
  const AttendShape shape{1, 8, 8, 1024, 1024, 64, 64, 64};
  const AttendOptions causal{.mask = Causal{}};
  EXPECT_EQ(engine::why_not_pairs(shape, DType::bfloat16, causal).empty(), cpu_uses_bf16());
  const Explanation pairs = explain(shape, DType::bfloat16, causal), half = explain(shape, DType::float16, causal);
  EXPECT_EQ(pairs.path, "plain");
  EXPECT_EQ(pairs.target, std::string(name_of(cpu_target())) + (cpu_uses_bf16() ? "_bf16" : ""));
  EXPECT_NE(pairs.why.find(cpu_uses_bf16() ? "multiplied in pairs" : "this target does not"), std::string::npos);
  EXPECT_NE(half.why.find("only bfloat16 is multiplied in pairs"), std::string::npos);
  // Neither copies whole inputs: a longer batch needs no more memory.
  const AttendShape batch{64, 8, 8, 1024, 1024, 64, 64, 64};
  for (DType dtype : {DType::bfloat16, DType::float16}) {
    EXPECT_EQ(explain(batch, dtype, causal).forward_bytes, explain(shape, dtype, causal).forward_bytes);
    EXPECT_EQ(explain(batch, dtype, causal).backward_bytes, explain(shape, dtype, causal).backward_bytes);
  }
  if (!cpu_uses_bf16())
    GTEST_SKIP() << "this target does not multiply bfloat16 in pairs; all else was tested in float32";
  EXPECT_LT(pairs.forward_bytes, half.forward_bytes);
  EXPECT_FALSE(engine::why_not_pairs(shape, DType::bfloat16, {.bias = Alibi{}}).empty());
  EXPECT_FALSE(engine::why_not_pairs(shape, DType::bfloat16, {.mask = Window{.left = 3}}).empty());
  EXPECT_FALSE(engine::why_not_pairs(shape, DType::bfloat16, {.score = ScaledDot{.scale = -1}}).empty());
  EXPECT_FALSE(engine::why_not_pairs({1, 8, 8, 64, 64, 24, 24, 64}, DType::bfloat16, {}).empty());
}

}  // namespace
}  // namespace attune::half_tests
