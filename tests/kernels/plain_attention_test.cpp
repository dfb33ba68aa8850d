// The plain path against the float64 loop: shapes of every kind, positions, shared key heads, empty rows, NaN in what
// is hidden, finite differences of lse, and equal bits from run to run.
#include "kernels/plain_attention.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "attune/base/dropout.hpp"
#include "attune/base/parallel.hpp"
#include "attune/base/rng.hpp"
#include "kernels/denormals.hpp"

namespace attune::kernels::plain_attention_tests {
namespace {

struct Case {
  int group = 1, queries = 1, keys = 1, head_dim = 1, value_dim = 1;
  bool causal = false;
  int position = 0;
  double dropout = 0;
  double size = 1;    // of queries and keys: how peaked the rows are
  int span = 0;       // a window's keys; 0: no window
  double offset = 0;  // of all logits, nats
  std::string text() const {
    return std::to_string(group) + " x " + std::to_string(queries) + " x " + std::to_string(keys) + ", D " +
           std::to_string(head_dim) + ", " + std::to_string(value_dim) + (causal ? ", causal " : "") +
           std::to_string(position) + (span > 0 ? ", window of " + std::to_string(span) : "");
  }
};

/// Everything of one key head in one scalar.
template <class T>
struct Problem {
  Case c;
  std::vector<T> query, key, value, dout, dlse, out, lse, dquery, dkey, dvalue;
  double scale;
  bool sees(int i, int j) const {
    return !c.causal || (j <= c.position + i && (c.span == 0 || j > c.position + i - c.span));
  }
  /// What dropout multiplies the weight of row `row` of all heads with.
  double factor(int row, int j) const {
    const std::uint32_t t = dropout_threshold(c.dropout);
    return kept(99, 3, std::uint32_t(5 + row / c.queries), std::uint32_t(7 + row % c.queries), std::uint32_t(j), t)
               ? dropout_scale(t)
               : 0;
  }
  PlainDropout dropout(int head, int query) const { return {dropout_threshold(c.dropout), 99, 3, 5 + head, 7 + query}; }
};

template <class T>
std::vector<T> random_numbers(std::size_t n, std::uint64_t seed, double size) {
  Generator generator(seed);
  std::vector<T> v(n);
  for (T& x : v) x = T(float(size * generator.normal()));  // the same numbers in both types
  return v;
}

template <class T>
Problem<T> make(const Case& c, bool with_dlse) {
  Problem<T> p;
  p.c = c;
  const auto n = [](auto... e) { return (std::size_t(1) * ... * std::size_t(e)); };
  p.query = random_numbers<T>(n(c.group, c.queries, c.head_dim), 1, c.size);
  p.key = random_numbers<T>(n(c.keys, c.head_dim), 2, c.size);
  p.value = random_numbers<T>(n(c.keys, c.value_dim), 3, 1);
  p.dout = random_numbers<T>(n(c.group, c.queries, c.value_dim), 4, 1);
  if (with_dlse) p.dlse = random_numbers<T>(n(c.group, c.queries), 5, 1);
  if (c.offset != 0) {  // one component of each query times one of each key
    for (int j = 0; j < c.keys; ++j) p.key[std::size_t(j * c.head_dim)] = 1;
    for (int row = 0; row < c.group * c.queries; ++row)
      p.query[std::size_t(row * c.head_dim)] = T(float(c.offset * std::sqrt(double(c.head_dim))));
  }
  p.out.assign(p.dout.size(), T(7));
  p.lse.assign(n(c.group, c.queries), T(7));
  p.dquery.assign(p.query.size(), T(0));
  p.dkey.assign(p.key.size(), T(0));
  p.dvalue.assign(p.value.size(), T(0));
  p.scale = float(1 / std::sqrt(double(c.head_dim)));
  return p;
}

/// The plain loops in float64. Returns the largest visible logit's magnitude.
double reference(Problem<double>& p) {
  const Case& c = p.c;
  double largest = 0;
  std::vector<double> prob(std::size_t(c.keys));
  for (int row = 0; row < c.group * c.queries; ++row) {
    const int i = row % c.queries;
    const double* q = &p.query[std::size_t(row * c.head_dim)];
    const double* g = &p.dout[std::size_t(row * c.value_dim)];
    double* out = &p.out[std::size_t(row * c.value_dim)];
    double top = -std::numeric_limits<double>::infinity(), sum = 0, delta = 0;
    std::fill(out, out + c.value_dim, 0.0);
    for (int j = 0; j < c.keys; ++j) {
      if (!p.sees(i, j)) continue;
      double s = 0;
      for (int d = 0; d < c.head_dim; ++d) s += q[d] * p.key[std::size_t(j * c.head_dim + d)];
      prob[std::size_t(j)] = s *= p.scale;
      top = std::max(top, s);
      largest = std::max(largest, std::abs(s));
    }
    for (int j = 0; j < c.keys; ++j) {
      if (p.sees(i, j)) sum += prob[std::size_t(j)] = std::exp(prob[std::size_t(j)] - top);
    }
    p.lse[std::size_t(row)] = top + std::log(sum);
    for (int j = 0; j < c.keys; ++j) {
      if (!p.sees(i, j)) continue;
      prob[std::size_t(j)] /= sum;
      const double weight = p.factor(row, j) * prob[std::size_t(j)];
      for (int d = 0; d < c.value_dim; ++d) out[d] += weight * p.value[std::size_t(j * c.value_dim + d)];
    }
    for (int d = 0; d < c.value_dim; ++d) delta += out[d] * g[d];
    if (!p.dlse.empty()) delta -= p.dlse[std::size_t(row)];
    for (int j = 0; j < c.keys; ++j) {
      if (!p.sees(i, j)) continue;
      double dp = 0;
      const double factor = p.factor(row, j);
      for (int d = 0; d < c.value_dim; ++d) {
        dp += factor * g[d] * p.value[std::size_t(j * c.value_dim + d)];
        p.dvalue[std::size_t(j * c.value_dim + d)] += factor * prob[std::size_t(j)] * g[d];
      }
      const double ds = p.scale * prob[std::size_t(j)] * (dp - delta);
      for (int d = 0; d < c.head_dim; ++d) {
        p.dquery[std::size_t(row * c.head_dim + d)] += ds * p.key[std::size_t(j * c.head_dim + d)];
        p.dkey[std::size_t(j * c.head_dim + d)] += ds * q[d];
      }
    }
  }
  return largest;
}

/// 64-byte aligned memory that ends where it must.
struct Workspace {
  std::vector<std::byte> memory;
  std::size_t bytes;
  explicit Workspace(std::size_t n) : memory(n + 128, std::byte(0xff)), bytes(n) {}  // 0xff: NaN in both types
  std::byte* begin() { return memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64; }
  bool overrun() {
    return std::any_of(begin() + bytes, begin() + bytes + 32, [](std::byte b) { return b != std::byte(0xff); });
  }
};

template <class T>
void run_forward(Problem<T>& p) {
  FlushDenormals flush;
  const Case& c = p.c;
  const int block = plain_block_queries<T>(c.head_dim, c.value_dim, c.causal);
  Workspace workspace(plain_forward_workspace<T>(c.head_dim, c.value_dim));
  for (int h = 0; h < c.group; ++h) {
    for (int i = 0; i < c.queries; i += block) {
      const std::ptrdiff_t row = h * c.queries + i;
      plain_forward({.query = p.query.data() + row * c.head_dim,
                     .query_stride = c.head_dim,
                     .key = p.key.data(),
                     .key_stride = c.head_dim,
                     .value = p.value.data(),
                     .value_stride = c.value_dim,
                     .out = p.out.data() + row * c.value_dim,
                     .out_stride = c.value_dim,
                     .lse = p.lse.data() + row,
                     .queries = std::min(block, c.queries - i),
                     .num_keys = c.keys,
                     .head_dim = c.head_dim,
                     .value_dim = c.value_dim,
                     .scale = T(p.scale),
                     .causal = c.causal,
                     .position = c.position + i,
                     .span = c.span,
                     .dropout = p.dropout(h, i)},
                    workspace.begin());
    }
  }
  EXPECT_FALSE(workspace.overrun());
}

/// Keys first .. end-1, all by default.
template <class T>
void run_backward(Problem<T>& p, int first = 0, int end = std::numeric_limits<int>::max(), T* deltas = nullptr,
                  Turn turn = {}) {
  FlushDenormals flush;
  const Case& c = p.c;
  Workspace workspace(plain_backward_workspace<T>(c.queries, c.head_dim, c.value_dim));
  plain_backward({.query = p.query.data(),
                  .query_stride = c.head_dim,
                  .query_head = std::ptrdiff_t(c.queries) * c.head_dim,
                  .key = p.key.data(),
                  .key_stride = c.head_dim,
                  .value = p.value.data(),
                  .value_stride = c.value_dim,
                  .out = p.out.data(),
                  .out_stride = c.value_dim,
                  .out_head = std::ptrdiff_t(c.queries) * c.value_dim,
                  .dout = p.dout.data(),
                  .dout_stride = c.value_dim,
                  .dout_head = std::ptrdiff_t(c.queries) * c.value_dim,
                  .lse = p.lse.data(),
                  .lse_head = c.queries,
                  .dlse = p.dlse.empty() ? nullptr : p.dlse.data(),
                  .dquery = p.dquery.data(),
                  .dquery_stride = c.head_dim,
                  .dquery_head = std::ptrdiff_t(c.queries) * c.head_dim,
                  .dkey = p.dkey.data(),
                  .dkey_stride = c.head_dim,
                  .dvalue = p.dvalue.data(),
                  .dvalue_stride = c.value_dim,
                  .group = c.group,
                  .num_queries = c.queries,
                  .num_keys = c.keys,
                  .head_dim = c.head_dim,
                  .value_dim = c.value_dim,
                  .scale = T(p.scale),
                  .causal = c.causal,
                  .position = c.position,
                  .span = c.span,
                  .dropout = p.dropout(0, 0),
                  .first_key = first,
                  .end_key = end,
                  .deltas = deltas,
                  .turn = turn},
                 workspace.begin());
  EXPECT_FALSE(workspace.overrun());
}

/// max |x - reference| / max |reference|; not-a-number counts as infinite.
template <class T>
double error(const std::vector<T>& x, const std::vector<double>& reference) {
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (std::isinf(reference[i]) && double(x[i]) == reference[i]) continue;
    const double e = std::abs(double(x[i]) - reference[i]);
    worst = std::isfinite(e) ? std::max(worst, e) : std::numeric_limits<double>::infinity();
    largest = std::max(largest, std::abs(reference[i]));
  }
  return largest > 0 ? worst / largest : worst;
}

template <class T>
void check(const Case& c, bool with_dlse = false) {
  SCOPED_TRACE(c.text());
  auto expected = make<double>(c, with_dlse);
  const double largest = reference(expected);
  auto p = make<T>(c, with_dlse);
  run_forward(p);
  const double bar = sizeof(T) == 4 ? 2e-6 * (1 + largest / 8) : 1e-13 * (1 + largest);
  EXPECT_LE(error(p.out, expected.out), bar);
  EXPECT_LE(error(p.lse, expected.lse), bar);
  run_backward(p);
  EXPECT_LE(error(p.dvalue, expected.dvalue), 5 * bar);
  // With one visible key dlogits cancel to rounding: then the bar is against what they are made of.
  const auto gradient_error = [&](const std::vector<T>& x, const std::vector<double>& r) {
    const double top =
        *std::max_element(r.begin(), r.end(), [](double a, double b) { return std::abs(a) < std::abs(b); });
    return error(x, r) * std::min(1.0, std::abs(top) + (std::abs(top) == 0));
  };
  EXPECT_LE(gradient_error(p.dquery, expected.dquery), 5 * bar);
  EXPECT_LE(gradient_error(p.dkey, expected.dkey), 5 * bar);
}

template <class T>
class PlainAttention : public testing::Test {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(PlainAttention, Scalars);

TYPED_TEST(PlainAttention, Full) {
  check<TypeParam>({.queries = 64, .keys = 256, .head_dim = 64, .value_dim = 64});
  check<TypeParam>({.queries = 130, .keys = 333, .head_dim = 32, .value_dim = 48});
  check<TypeParam>({.queries = 1, .keys = 1000, .head_dim = 128, .value_dim = 128});
  check<TypeParam>({.queries = 33, .keys = 1, .head_dim = 16, .value_dim = 16});
}

TYPED_TEST(PlainAttention, FewQueries) {
  for (int queries : {1, 2, 3, 4, 7, 8, 9}) {
    for (int keys : {1, 3, 64, 65, 131, 300})
      check<TypeParam>({.queries = queries, .keys = keys, .head_dim = 20 + queries, .value_dim = 33});
  }
  for (int position : {-1, 0, 1, 70, 200})
    check<TypeParam>({.keys = 150, .head_dim = 64, .value_dim = 16, .causal = true, .position = position});
  check<TypeParam>({.queries = 6, .keys = 700, .head_dim = 32, .value_dim = 32, .size = 5});
}

// Parts of the keys, one after the other and on threads that wait for each other, give the bits of the whole.
TYPED_TEST(PlainAttention, PartsOfAHead) {
  const int before = num_threads();
  for (const Case& c :
       {Case{.queries = 300, .keys = 330, .head_dim = 24, .value_dim = 40},
        Case{.group = 2, .queries = 200, .keys = 200, .head_dim = 16, .value_dim = 16, .causal = true},
        Case{.queries = 150, .keys = 400, .head_dim = 16, .value_dim = 8, .causal = true, .position = 250},
        Case{.queries = 250, .keys = 150, .head_dim = 16, .value_dim = 8, .causal = true, .position = -90},
        Case{.group = 2,
        .queries = 330,
        .keys = 300,
        .head_dim = 16,
        .value_dim = 16,
        .causal = true,
        .position = 17,
        .span = 70},
        Case{.queries = 140, .keys = 260, .head_dim = 16, .value_dim = 16, .dropout = 0.3}}) {
    SCOPED_TRACE(c.text());
    auto whole = make<TypeParam>(c, true);
    run_forward(whole);
    const auto none = whole;  // gradients of zero
    run_backward(whole);
    for (const int keys : {64, 128}) {
      for (const int threads : {1, 3}) {
        set_num_threads(threads);
        auto p = none;
        const int parts = (c.keys + keys - 1) / keys;
        std::vector<TypeParam> deltas(std::size_t(c.group) * std::size_t(c.queries));
        std::vector<Passed> passed(static_cast<std::size_t>(parts));
        parallel_for(parts, [&](std::int64_t t) {
          const Turn turn{t > 0 ? &passed[std::size_t(t - 1)] : nullptr, &passed[std::size_t(t)]};
          run_backward(p, int(t) * keys, int(t + 1) * keys, deltas.data(), turn);
          turn.leave();
        });
        EXPECT_EQ(p.dquery, whole.dquery);
        EXPECT_EQ(p.dkey, whole.dkey);
        EXPECT_EQ(p.dvalue, whole.dvalue);
      }
    }
  }
  set_num_threads(before);
}

// All logits of a row far from zero, where 2^logit and 2^-logit overflow.
TYPED_TEST(PlainAttention, LogitsFarFromZero) {
  for (const double offset : {-700.0, -95.0, 95.0, 700.0}) {
    SCOPED_TRACE(offset);
    check<TypeParam>({.queries = 48, .keys = 48, .head_dim = 16, .value_dim = 16, .causal = true, .offset = offset});
    check<TypeParam>({.queries = 70, .keys = 300, .head_dim = 16, .value_dim = 24, .offset = offset});
    check<TypeParam>({.queries = 5, .keys = 300, .head_dim = 16, .value_dim = 24, .offset = offset});
    check<TypeParam>({.queries = 200,
                      .keys = 300,
                      .head_dim = 16,
                      .value_dim = 8,
                      .causal = true,
                      .position = 100,
                      .offset = offset});
    check<TypeParam>({.queries = 90,
                      .keys = 200,
                      .head_dim = 16,
                      .value_dim = 8,
                      .causal = true,
                      .position = 50,
                      .span = 40,
                      .offset = offset});
  }
}

// Logits that grow from key to key, until sums relative to the first of them would overflow.
TYPED_TEST(PlainAttention, RisingLogits) {
  for (bool causal : {false, true}) {
    const Case c{.queries = 64, .keys = 400, .head_dim = 16, .value_dim = 24, .causal = causal, .position = 336};
    SCOPED_TRACE(c.text());
    const auto rise = [&](auto& p) {
      for (std::size_t i = 0; i < p.key.size(); ++i) p.key[i] *= TypeParam(1 + double(i / 16) / 8);
    };
    auto expected = make<double>(c, false);
    rise(expected);
    const double largest = reference(expected);
    ASSERT_GT(largest, 100);
    auto p = make<TypeParam>(c, false);
    rise(p);
    run_forward(p);
    const double bar = sizeof(TypeParam) == 4 ? 2e-6 * (1 + largest / 8) : 1e-13 * (1 + largest);
    EXPECT_LE(error(p.out, expected.out), bar);
    EXPECT_LE(error(p.lse, expected.lse), bar);
  }
}

// Rows beside one whose logits are huge, and one that is not a number, keep their bits.
TYPED_TEST(PlainAttention, RowsDoNotChangeTheirNeighbours) {
  for (const Case& c :
       {Case{.queries = 64, .keys = 400, .head_dim = 16, .value_dim = 24},
        Case{.queries = 64, .keys = 400, .head_dim = 16, .value_dim = 24, .causal = true, .position = 336},
        Case{.queries = 70, .keys = 70, .head_dim = 16, .value_dim = 24, .causal = true},
        Case{.queries = 64, .keys = 150, .head_dim = 8, .value_dim = 8, .causal = true, .position = 60, .span = 90}}) {
    SCOPED_TRACE(c.text());
    auto calm = make<TypeParam>(c, false), loud = calm;
    for (int d = 0; d < c.head_dim; ++d) {
      loud.query[std::size_t(5 * c.head_dim + d)] *= 1000;
      loud.query[std::size_t(20 * c.head_dim + d)] = std::numeric_limits<TypeParam>::quiet_NaN();
    }
    run_forward(calm);
    run_forward(loud);
    for (int i = 0; i < c.queries; ++i) {
      if (i == 5 || i == 20) continue;
      EXPECT_EQ(loud.lse[std::size_t(i)], calm.lse[std::size_t(i)]) << i;
      for (int d = 0; d < c.value_dim; ++d) {
        const std::size_t at = std::size_t(i * c.value_dim + d);
        EXPECT_EQ(loud.out[at], calm.out[at]) << i << ", " << d;
      }
    }
    EXPECT_TRUE(std::isfinite(loud.lse[5]));
    EXPECT_TRUE(std::isnan(loud.out[std::size_t(20 * c.value_dim)]));
  }
}

/// What a call tells of its rows, [queries] each.
template <class T>
struct Told {
  std::vector<T> out, lse, largest, smallest, entropy, variance, largest_prob;
};
template <class T>
Told<T> tell_rows(const Case& c, const Problem<T>& p) {
  Workspace workspace(plain_forward_workspace<T>(c.head_dim, c.value_dim));
  const std::vector<T> row(std::size_t(c.queries));
  Told<T> told{std::vector<T>(p.out.size()), row, row, row, row, row, row};
  plain_forward(PlainForward<T>{.query = p.query.data(),
                                .query_stride = c.head_dim,
                                .key = p.key.data(),
                                .key_stride = c.head_dim,
                                .value = p.value.data(),
                                .value_stride = c.value_dim,
                                .out = told.out.data(),
                                .out_stride = c.value_dim,
                                .lse = told.lse.data(),
                                .largest = told.largest.data(),
                                .smallest = told.smallest.data(),
                                .entropy = told.entropy.data(),
                                .variance = told.variance.data(),
                                .largest_prob = told.largest_prob.data(),
                                .queries = c.queries,
                                .num_keys = c.keys,
                                .head_dim = c.head_dim,
                                .value_dim = c.value_dim,
                                .scale = T(p.scale),
                                .causal = c.causal,
                                .position = c.position,
                                .span = c.span},
                workspace.begin());
  return told;
}

// What is told of rows against its definition, and out and lse keep their bits when it is asked for: few rows and many.
TYPED_TEST(PlainAttention, RowNumbers) {
  using T = TypeParam;
  for (const Case& c :
       {Case{.queries = 5, .keys = 200, .head_dim = 16, .value_dim = 8, .size = 2},
        Case{.queries = 40, .keys = 300, .head_dim = 16, .value_dim = 8, .causal = true, .size = 2},
        Case{.queries = 48, .keys = 48, .head_dim = 16, .value_dim = 16, .causal = true},
        Case{.queries = 40, .keys = 130, .head_dim = 16, .value_dim = 8, .size = 20},
        Case{.queries = 50, .keys = 60, .head_dim = 16, .value_dim = 8, .causal = true, .position = 9, .span = 20},
        Case{.queries = 1, .keys = 90, .head_dim = 16, .value_dim = 8, .causal = true, .position = 70}}) {
    SCOPED_TRACE(c.text());
    auto p = make<T>(c, false);
    run_forward(p);
    const auto expected = make<double>(c, false);
    const Told<T> told = tell_rows(c, p);
    EXPECT_EQ(told.out, p.out);
    EXPECT_EQ(told.lse, p.lse);
    for (int i = 0; i < c.queries; ++i) {
      std::vector<double> logits;
      for (int j = 0; j < c.keys; ++j) {
        if (!p.sees(i, j)) continue;
        double s = 0;
        for (int d = 0; d < c.head_dim; ++d)
          s += expected.query[std::size_t(i * c.head_dim + d)] * expected.key[std::size_t(j * c.head_dim + d)];
        logits.push_back(s * expected.scale);
      }
      const double top = *std::max_element(logits.begin(), logits.end());
      double moment[3] = {0, 0, 0};
      for (double x : logits) {
        for (int k = 0; k < 3; ++k) moment[k] += std::exp(x - top) * std::pow(x - top, k);
      }
      const double mean = moment[1] / moment[0], variance = moment[2] / moment[0] - mean * mean;
      const double tolerance = (sizeof(T) == 4 ? 3e-5 : 1e-12) * std::max(1.0, std::abs(top) / 10);
      const auto at = std::size_t(i);
      EXPECT_NEAR(double(told.largest[at]), top, tolerance);
      EXPECT_NEAR(double(told.smallest[at]), *std::min_element(logits.begin(), logits.end()), tolerance);
      EXPECT_NEAR(double(told.entropy[at]), std::log(moment[0]) - mean, tolerance);
      EXPECT_NEAR(double(told.variance[at]), variance, tolerance * (1 + variance));
      EXPECT_NEAR(double(told.largest_prob[at]), 1 / moment[0], tolerance);
    }
  }
}

// A row's numbers depend on that row alone: beside one whose logits leave the range of a sum, so that tiles are done
// again in passes, the others keep their bits.
TYPED_TEST(PlainAttention, RowNumbersBesideAPeakedRow) {
  using T = TypeParam;
  for (const bool causal : {false, true}) {
    const Case c{.queries = 48, .keys = 300, .head_dim = 16, .value_dim = 8, .causal = causal, .position = 252};
    auto p = make<T>(c, false);
    const Told<T> calm = tell_rows(c, p);
    for (int d = 0; d < c.head_dim; ++d) p.query[std::size_t(7 * c.head_dim + d)] *= T(2000);
    const Told<T> loud = tell_rows(c, p);
    for (std::size_t i = 0; i < std::size_t(c.queries); ++i) {
      if (i == 7) continue;
      SCOPED_TRACE(i);
      EXPECT_EQ(loud.largest[i], calm.largest[i]);
      EXPECT_EQ(loud.smallest[i], calm.smallest[i]);
      EXPECT_EQ(loud.entropy[i], calm.entropy[i]);
      EXPECT_EQ(loud.variance[i], calm.variance[i]);
      EXPECT_EQ(loud.largest_prob[i], calm.largest_prob[i]);
    }
    EXPECT_GT(loud.largest[7], T(100));
    EXPECT_NE(loud.entropy[7], calm.entropy[7]);
  }
}

// Logits so large that their own rounding is many nats: a row still goes to the key with the largest of them, no weight
// is above 1, and what is told of rows is what a row can have.
TYPED_TEST(PlainAttention, HugeLogits) {
  using T = TypeParam;
  for (const double logit : {1e5, 1e8, 1e9, 1e12, 1e30}) {
    SCOPED_TRACE(logit);
    const double size = std::sqrt(logit);
    for (const Case& c :
         {Case{.queries = 70, .keys = 300, .head_dim = 16, .value_dim = 24, .size = size},
          Case{.queries = 5, .keys = 300, .head_dim = 16, .value_dim = 24, .size = size},
          Case{.queries = 70, .keys = 70, .head_dim = 16, .value_dim = 24, .causal = true, .size = size},
          Case{.queries = 70,
          .keys = 300,
          .head_dim = 16,
          .value_dim = 8,
          .causal = true,
          .position = 230,
          .size = size},
          Case{.queries = 70, .keys = 300, .head_dim = 16, .value_dim = 24, .dropout = 0.3, .size = size},
          Case{.queries = 90,
          .keys = 200,
          .head_dim = 16,
          .value_dim = 8,
          .causal = true,
          .position = 50,
          .size = size,
          .span = 40}}) {
      SCOPED_TRACE(c.text());
      auto expected = make<double>(c, false);
      reference(expected);
      auto p = make<T>(c, false);
      run_forward(p);
      EXPECT_LE(error(p.out, expected.out), 1e-5);
      EXPECT_LE(error(p.lse, expected.lse), 1e-5);
      run_backward(p);
      // What a value gets when every query gives it all of its weight.
      std::vector<double> most(std::size_t(c.value_dim));
      for (std::size_t i = 0; i < p.dout.size(); ++i)
        most[i % most.size()] += std::abs(double(p.dout[i])) * dropout_scale(dropout_threshold(c.dropout));
      for (std::size_t i = 0; i < p.dvalue.size(); ++i)
        EXPECT_LE(std::abs(double(p.dvalue[i])), 1.00001 * most[i % most.size()]) << i;
      for (const auto* gradient : {&p.dquery, &p.dkey}) {
        for (const T x : *gradient) EXPECT_TRUE(std::isfinite(x));
      }
      if (c.dropout > 0 || c.queries > plain_block_queries<T>(c.head_dim, c.value_dim, c.causal)) continue;
      const Told<T> told = tell_rows(c, p);
      for (std::size_t i = 0; i < told.lse.size(); ++i) {
        EXPECT_NEAR(double(told.largest[i]), expected.lse[i], 1e-5 * std::abs(expected.lse[i]));
        EXPECT_GE(told.entropy[i], T(0));
        EXPECT_LE(told.entropy[i], T(std::log(c.keys) * 1.00001));
        EXPECT_GE(told.largest_prob[i], T(0.99999 / c.keys));
        EXPECT_LE(told.largest_prob[i], T(1));
        EXPECT_GE(told.variance[i], T(0));
      }
    }
  }
}

TYPED_TEST(PlainAttention, WidthsOfNoMultiple) {
  for (int d : {1, 3, 7, 17, 20, 72}) {
    check<TypeParam>({.queries = 37, .keys = 53, .head_dim = d, .value_dim = 2 * d + 1});
    check<TypeParam>({.queries = 37, .keys = 53, .head_dim = d + 4, .value_dim = d, .causal = true});
  }
}

TYPED_TEST(PlainAttention, Causal) {
  check<TypeParam>({.queries = 200, .keys = 200, .head_dim = 64, .value_dim = 64, .causal = true});
  check<TypeParam>({.queries = 65, .keys = 400, .head_dim = 24, .value_dim = 40, .causal = true, .position = 335});
  for (int position : {-1000, -64, -17, -1, 0, 1, 15, 16, 63, 1000})
    check<TypeParam>({.queries = 81, .keys = 90, .head_dim = 8, .value_dim = 12, .causal = true, .position = position});
}

TYPED_TEST(PlainAttention, EveryShapeOfTheDiagonal) {
  for (int queries : {1, 2, 15, 16, 17, 31, 70}) {
    for (int keys : {1, 2, 15, 16, 18, 33, 66}) {
      for (int position : {0, 3, -5, keys - queries})
        check<TypeParam>(
            {.queries = queries, .keys = keys, .head_dim = 5, .value_dim = 6, .causal = true, .position = position});
    }
  }
}

TYPED_TEST(PlainAttention, Windows) {
  for (int span : {1, 2, 16, 17, 64, 100, 130, 250}) {
    check<TypeParam>({.queries = 200,
                      .keys = 210,
                      .head_dim = 12,
                      .value_dim = 20,
                      .causal = true,
                      .position = span % 3 * 10,
                      .dropout = span == 64 ? 0.2 : 0,
                      .span = span},
                     true);
  }
  for (int position : {-70, -1, 5, 30, 90}) {  // rows that see nothing in front and behind
    for (int span : {1, 9, 40}) {
      check<TypeParam>({.group = 2,
                        .queries = 75,
                        .keys = 60,
                        .head_dim = 5,
                        .value_dim = 6,
                        .causal = true,
                        .position = position,
                        .span = span});
    }
  }
  // More than a super-block of keys; no bound above.
  check<TypeParam>(
      {.queries = 70, .keys = 1300, .head_dim = 4, .value_dim = 4, .causal = true, .position = 1290, .span = 700});
}

TYPED_TEST(PlainAttention, SharedKeyHeadsAndGradientOfLse) {
  check<TypeParam>({.group = 4, .queries = 70, .keys = 70, .head_dim = 32, .value_dim = 32, .causal = true}, true);
  check<TypeParam>({.group = 3, .queries = 20, .keys = 530, .head_dim = 16, .value_dim = 16}, true);
}

TYPED_TEST(PlainAttention, Dropout) {
  check<TypeParam>({.queries = 70, .keys = 300, .head_dim = 16, .value_dim = 24, .dropout = 0.1});
  check<TypeParam>({.group = 3,
                    .queries = 100,
                    .keys = 131,
                    .head_dim = 16,
                    .value_dim = 24,
                    .causal = true,
                    .position = 30,
                    .dropout = 0.5},
                   true);
}

TYPED_TEST(PlainAttention, PeakedRows) {
  check<TypeParam>({.queries = 96, .keys = 300, .head_dim = 32, .value_dim = 32, .size = 4});
  check<TypeParam>({.queries = 96, .keys = 300, .head_dim = 32, .value_dim = 32, .causal = true, .size = 8});
}

TYPED_TEST(PlainAttention, RowsThatSeeNoKey) {
  for (const Case& c :
       {Case{.queries = 40, .keys = 50, .head_dim = 8, .value_dim = 8, .causal = true, .position = -20},
        Case{.queries = 40, .keys = 0, .head_dim = 8, .value_dim = 8},
        Case{.queries = 40, .keys = 30, .head_dim = 8, .value_dim = 8, .causal = true, .position = -90}}) {
    SCOPED_TRACE(c.text());
    auto p = make<TypeParam>(c, true);
    run_forward(p);
    run_backward(p);
    const int empty = c.keys == 0 ? c.queries : std::min(c.queries, -c.position);
    for (int i = 0; i < c.queries; ++i) {
      EXPECT_EQ(p.lse[std::size_t(i)] == -std::numeric_limits<TypeParam>::infinity(), i < empty);
      for (int d = 0; d < 8; ++d) {
        EXPECT_EQ(p.out[std::size_t(i * 8 + d)] == TypeParam(0), i < empty);
        EXPECT_EQ(p.dquery[std::size_t(i * 8 + d)] == TypeParam(0), i < empty);
      }
    }
    for (int j = std::max(0, c.queries + c.position); j < c.keys; ++j) {
      for (int d = 0; d < 8; ++d) EXPECT_EQ(p.dkey[std::size_t(j * 8 + d)], TypeParam(0));
    }
  }
}

// Row r of every input is spoilt; results that do not see it must keep their bits, or at least stay as exact as before.
template <class T>
void spoil_rows(const Case& c) {
  auto expected = make<double>(c, false);
  reference(expected);
  const T bad[] = {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity(),
                   -std::numeric_limits<T>::infinity()};
  for (int r : {5, 63, 64, 90}) {
    for (int which = 0; which < 4; ++which) {  // key, value, query, dout
      SCOPED_TRACE(std::to_string(r) + ", input " + std::to_string(which));
      auto p = make<T>(c, false);
      auto& input = which == 0 ? p.key : which == 1 ? p.value : which == 2 ? p.query : p.dout;
      const int width = which == 0 || which == 2 ? c.head_dim : c.value_dim;
      for (int d = 0; d < width; ++d) input[std::size_t(r * width + d)] = bad[d % 3];
      run_forward(p);
      run_backward(p);
      // A query sees the spoilt row if it is the query, or if the spoilt key is visible to it.
      const auto touched_query = [&](int i) { return which < 2 ? p.sees(i, r) : i == r; };
      for (int i = 0; i < c.queries; ++i) {
        if (touched_query(i)) continue;
        ASSERT_NEAR(double(p.lse[std::size_t(i)]), expected.lse[std::size_t(i)], 1e-4) << "lse of query " << i;
        for (int d = 0; d < c.value_dim; ++d)
          ASSERT_NEAR(double(p.out[std::size_t(i * c.value_dim + d)]), expected.out[std::size_t(i * c.value_dim + d)],
                      1e-4)
              << "out of query " << i;
        for (int d = 0; d < c.head_dim; ++d)
          ASSERT_NEAR(double(p.dquery[std::size_t(i * c.head_dim + d)]),
                      expected.dquery[std::size_t(i * c.head_dim + d)], 1e-4)
              << "dquery " << i;
      }
      // A key's gradient is touched if some query that sees it is.
      for (int j = 0; j < c.keys; ++j) {
        bool touched = false;
        for (int i = 0; i < c.queries; ++i) touched = touched || (p.sees(i, j) && touched_query(i));
        if (touched) continue;
        for (int d = 0; d < c.head_dim; ++d)
          ASSERT_NEAR(double(p.dkey[std::size_t(j * c.head_dim + d)]), expected.dkey[std::size_t(j * c.head_dim + d)],
                      1e-4)
              << "dkey " << j;
        for (int d = 0; d < c.value_dim; ++d)
          ASSERT_NEAR(double(p.dvalue[std::size_t(j * c.value_dim + d)]),
                      expected.dvalue[std::size_t(j * c.value_dim + d)], 1e-4)
              << "dvalue " << j;
      }
    }
  }
}

TYPED_TEST(PlainAttention, SpoiltRowsDoNotReachWhatDoesNotSeeThem) {
  Case c{.queries = 100, .keys = 100, .head_dim = 20, .value_dim = 12, .causal = true, .position = 3};
  spoil_rows<TypeParam>(c);
  c.span = 30;
  spoil_rows<TypeParam>(c);
}

TYPED_TEST(PlainAttention, VisibleNaNIsNotSwallowed) {
  const Case c{.queries = 20, .keys = 300, .head_dim = 8, .value_dim = 8};
  for (int which = 0; which < 2; ++which) {
    auto p = make<TypeParam>(c, false);
    (which ? p.value : p.key)[std::size_t(170 * 8 + 3)] = std::numeric_limits<TypeParam>::quiet_NaN();
    run_forward(p);
    for (int i = 0; i < c.queries; ++i) EXPECT_TRUE(std::isnan(p.out[std::size_t(i * 8 + 3)])) << i;
  }
}

TYPED_TEST(PlainAttention, GradientsAreAddedAndRepeatBitForBit) {
  const Case c{.group = 2, .queries = 70, .keys = 90, .head_dim = 16, .value_dim = 16, .causal = true, .position = 20};
  auto once = make<TypeParam>(c, false), twice = once;
  run_forward(once);
  run_forward(twice);
  EXPECT_EQ(once.out, twice.out);
  run_backward(once);
  run_backward(twice);
  EXPECT_EQ(once.dquery, twice.dquery);
  EXPECT_EQ(once.dkey, twice.dkey);
  EXPECT_EQ(once.dvalue, twice.dvalue);
  run_backward(twice);
  for (std::size_t i = 0; i < once.dkey.size(); ++i) EXPECT_NEAR(double(twice.dkey[i]), 2 * double(once.dkey[i]), 1e-5);
}

}  // namespace
}  // namespace attune::kernels::plain_attention_tests
