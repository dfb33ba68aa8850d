// Products over the pairs that have a weight against the products that look at all pairs, bit by bit; rows with a
// threshold and sticks against plain loops in long double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/compare.hpp"
#include "kernels/product.hpp"
#include "kernels/sparse.hpp"
#include "kernels/stick_breaking.hpp"
#include "kernels/threshold.hpp"

namespace attune::kernels::sparse_tests {
namespace {

using Real = long double;
using Words = std::vector<std::uint64_t>;
constexpr float kInf = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random(std::ptrdiff_t n, std::uint64_t seed, double size = 1) {
  return random_numbers<float>(n, seed, -size, size);
}

/// A tile of which about one pair in `of` is not 0, `stride` wide, and its pairs.
struct Tile {
  int keys, queries, stride;
  std::vector<float> x;
  Words pairs;
  Tile(int k, int q, double share, std::uint64_t seed) : keys(k), queries(q), stride(q + 3), pairs(std::size_t(k)) {
    x = random(std::ptrdiff_t(keys) * stride, seed);
    const std::vector<float> draw = random(std::ptrdiff_t(keys) * stride, seed + 1);
    for (int j = 0; j < keys; ++j) {
      for (int i = 0; i < queries; ++i) {
        const bool in = draw[at(j, i)] < 2 * share - 1;
        pairs[std::size_t(j)] |= std::uint64_t(in) << i;
        if (!in) x[at(j, i)] = 0;
      }
    }
  }
  std::size_t at(int j, int i) const { return std::size_t(j * stride + i); }
};
const Tile kTiles[] = {{1, 1, 0.5, 3},  {64, 64, 0.02, 5},  {64, 64, 0.4, 7},
                       {7, 33, 0.2, 9}, {300, 17, 0.1, 11}, {5, 64, 0.0, 13}};

TEST(Sparse, FindsThePairs) {
  for (const Tile& t : kTiles) {
    Words found(t.pairs.size());
    nonzero_pairs(t.x.data(), t.stride, t.keys, t.queries, found.data());
    EXPECT_EQ(found, t.pairs);
    const Sparsity s = sparsity(found.data(), t.keys);
    std::int64_t pairs = 0, cells = 0;
    for (int j = 0; j < t.keys; ++j) {
      for (int from = 0; from < t.queries; from += 16) {
        const int before = int(pairs);
        for (int i = from; i < std::min(from + 16, t.queries); ++i) pairs += t.x[t.at(j, i)] != 0;
        cells += pairs > before;
      }
    }
    EXPECT_EQ(s.pairs, pairs);
    EXPECT_EQ(s.cells, cells);
  }
}

TEST(Sparse, ProductsHaveTheBitsOfThoseThatLookAtAllPairs) {
  for (const Tile& t : kTiles) {
    for (const int n : {1, 16, 64, 70}) {
      const std::vector<float> keys = random(t.keys * n, 21), queries = random(t.queries * n, 22);
      // [n][queries] and [queries][n], from the keys' rows.
      std::vector<float> lanes = random(n * t.stride, 23), want = lanes;
      add_product(n, t.queries, t.keys, keys.data(), 1, n, t.x.data(), t.stride, want.data(), t.stride);
      std::vector<float> rows(std::size_t(t.queries * n));
      for (int i = 0; i < t.queries; ++i) {
        for (int d = 0; d < n; ++d) rows[std::size_t(i * n + d)] = lanes[t.at(d, i)];
      }
      add_pairs_to_lanes(t.pairs.data(), t.keys, t.queries, n, keys.data(), n, t.x.data(), t.stride, lanes.data(),
                         t.stride);
      EXPECT_EQ(lanes, want);
      add_pairs_to_query_rows(t.pairs.data(), t.keys, n, t.x.data(), t.stride, keys.data(), n, rows.data(), n);
      for (int i = 0; i < t.queries; ++i) {
        for (int d = 0; d < n; ++d) EXPECT_EQ(rows[std::size_t(i * n + d)], want[t.at(d, i)]);
      }
      // [keys][n], from the queries' rows.
      std::vector<float> sums = random(t.keys * n, 24), all = sums;
      add_product(t.keys, n, t.queries, t.x.data(), t.stride, 1, queries.data(), n, all.data(), n);
      add_pairs_to_rows(t.pairs.data(), t.keys, n, t.x.data(), t.stride, queries.data(), n, sums.data(), n);
      EXPECT_EQ(sums, all);
    }
  }
}

TEST(Sparse, ProductAtPairsIsTheProductThereAndFiniteElsewhere) {
  for (const Tile& t : kTiles) {
    for (const int width : {1, 8, 64}) {
      const std::vector<float> a = random(t.keys * width, 31), b = random(width * t.stride, 32);
      std::vector<float> c(t.x.size(), 777.f), want = c;
      product(t.keys, t.queries, width, a.data(), width, 1, b.data(), t.stride, want.data(), t.stride);
      product_at_pairs(t.pairs.data(), t.keys, t.queries, width, a.data(), width, b.data(), t.stride, c.data(),
                       t.stride);
      for (int j = 0; j < t.keys; ++j) {
        for (int i = 0; i < t.stride; ++i) {
          const float x = c[t.at(j, i)];
          if (i >= t.queries)
            EXPECT_EQ(x, 777.f) << "outside of the tile";
          else if (t.pairs[std::size_t(j)] >> i & 1)
            EXPECT_EQ(x, want[t.at(j, i)]);
          else
            EXPECT_TRUE(x == 0 || x == want[t.at(j, i)]);
        }
      }
    }
  }
}

/// The weights of one row by bisection, and its threshold.
std::vector<Real> weights_of(const std::vector<float>& x, Real scale, Real& tau) {
  Real low = -1e30L;
  for (const float v : x) low = std::max(low, Real(v) * scale - 1);
  Real high = low + 1;
  for (int step = 0; step < 66; ++step) {
    Real sum = 0;
    tau = (low + high) / 2;
    for (const float v : x) {
      const Real u = Real(v) * scale - tau;
      if (u > 0) sum += std::pow(u, 1 / scale);
    }
    (sum < 1 ? high : low) = tau;
  }
  std::vector<Real> p;
  for (const float v : x) p.push_back(std::pow(std::max(Real(v) * scale - tau, Real(0)), 1 / scale));
  return p;
}

struct Row {
  int keys, queries;
  double size;
};
TEST(Threshold, RowsAndTheirGradients) {
  for (const float scale : {1.0f, 0.5f, 0.8f, 0.05f}) {
    for (const auto [keys, queries, size] :
         {Row{1, 1, 1}, Row{5, 3, 2}, Row{40, 64, 5}, Row{200, 20, 3}, Row{64, 16, 0}}) {
      const int stride = queries + 5;
      std::vector<float> x = random(std::ptrdiff_t(keys) * stride, 41, size);
      if (keys > 1) x[0] = -kInf;  // hidden
      const std::vector<float> logits = x;
      std::vector<float> tau(std::size_t(queries), 0.f), scratch(threshold_scratch(keys));
      threshold_forward(scale, x.data(), stride, keys, queries, tau.data(), scratch.data());
      Words pairs(std::size_t(keys), ~std::uint64_t(0));
      threshold_pairs(scale, logits.data(), stride, keys, queries, tau.data(), pairs.data());
      const std::vector<float> dp = random(std::ptrdiff_t(keys) * stride, 42);
      std::vector<float> sums(std::size_t(4 * queries), 0.f), p = logits, dx = dp, delta = random(queries, 43);
      const auto sum = [&](int which) { return sums.data() + which * queries; };
      threshold_sweep(scale, logits.data(), dp.data(), stride, keys, queries, tau.data(),
                      {sum(0), sum(1), sum(2), sum(3)});
      threshold_backward(scale, p.data(), dx.data(), stride, keys, queries, tau.data(), delta.data());
      const double bar = 2e-6 / scale;
      for (std::size_t at = 0; at < p.size(); ++at) {
        if (int(at) % stride >= queries) {
          EXPECT_EQ(p[at], x[at]) << "outside of the tile";
        } else {
          EXPECT_NEAR(p[at], x[at], bar * (1 + size)) << "of the rounded threshold";
        }
      }
      for (int i = 0; i < queries; i += 4) {
        std::vector<float> row;
        for (int j = 0; j < keys; ++j) row.push_back(logits[std::size_t(j * stride + i)]);
        Real exact = 0, total = 0, slope = 0, slope_dp = 0, bend = 0, bend_dp = 0;
        const std::vector<Real> want = weights_of(row, scale, exact);
        EXPECT_NEAR(tau[std::size_t(i)], double(exact), 1e-6 * (1 + size));
        for (int j = 0; j < keys; ++j) {
          const std::size_t at = std::size_t(j * stride + i);
          EXPECT_NEAR(x[at], double(want[std::size_t(j)]), bar * (1 + size)) << scale;
          EXPECT_EQ(pairs[std::size_t(j)] >> i & 1, std::uint64_t(logits[at] * scale > tau[std::size_t(i)]));
          // From the weights as they are: a key at the edge of the support may be in or out.
          total += x[at];
          const Real w = p[at], s = w > 0 ? std::pow(w, 1 - Real(scale)) : 0,
                     h = w > 0 ? w / Real(scale) - w * std::log(w) : 0;
          slope += s, slope_dp += s * dp[at], bend += h, bend_dp += h * dp[at];
          EXPECT_NEAR(dx[at], double(s * (dp[at] - delta[std::size_t(i)])), 5 * bar);
        }
        EXPECT_NEAR(double(total), 1, bar * (1 + size));
        EXPECT_NEAR(sum(0)[i], double(slope), 1e-5 * (1 + double(slope)));
        EXPECT_NEAR(sum(1)[i], double(slope_dp), 1e-5 * (1 + double(slope)));
        EXPECT_NEAR(sum(2)[i], double(bend), 1e-5 * (1 + std::abs(double(bend))));
        EXPECT_NEAR(sum(3)[i], double(bend_dp), 1e-5 * (1 + std::abs(double(bend))));
      }
      if (queries < 64) {
        EXPECT_EQ(pairs[0] >> queries, 0u) << "no bits past the queries";
      }
    }
  }
}

/// One logit above all others has all the weight, two equal ones have half of it each, whatever their size. The way
/// back knows the first; where logits have no digits left for a threshold, it may be wrong about the second.
TEST(Threshold, LargeLogitsAreAsGoodAsTheirDifferences) {
  const int keys = 30, queries = 16;
  for (const float scale : {1.0f, 0.5f, 0.8f, 0.05f}) {
    for (const float size : {1e3f, 1e6f, 1e12f, 1e18f, 1e38f, -1e3f, -1e12f, -1e38f}) {
      std::vector<float> x(std::size_t(keys * queries)), tau(queries), scratch(threshold_scratch(keys));
      for (int j = 0; j < keys; ++j) {
        for (int i = 0; i < queries; ++i) {
          const bool top = j == i || (i % 2 == 1 && j == i + 5);
          x[std::size_t(j * queries + i)] = size - (top ? 0.f : std::abs(size) * (0.5f + 0.01f * float(j)));
        }
      }
      std::vector<float> p = x, back = x, dx(x.size(), 1.f);
      threshold_forward(scale, p.data(), queries, keys, queries, tau.data(), scratch.data());
      const std::vector<float> delta(queries, 0.f);
      threshold_backward(scale, back.data(), dx.data(), queries, keys, queries, tau.data(), delta.data());
      for (int j = 0; j < keys; ++j) {
        for (int i = 0; i < queries; ++i) {
          const std::size_t at = std::size_t(j * queries + i);
          const bool one = i % 2 == 0, top = j == i || (!one && j == i + 5);
          EXPECT_NEAR(p[at], top ? one ? 1 : 0.5 : 0, 4e-6) << size << " " << scale;
          if (one) {
            EXPECT_EQ(back[at], top) << size << " " << scale;
          }
          EXPECT_LE(std::abs(dx[at]), 1) << "and no NaN";
        }
      }
    }
  }
}

TEST(Threshold, ARowIsItsOwnAndANaNStays) {
  const int keys = 50, queries = 20;
  std::vector<float> x = random(keys * queries, 51, 4), y = x, scratch(threshold_scratch(keys));
  for (int j = 0; j < keys; ++j) x[std::size_t(j * queries + 4)] = -kInf;  // a row without a key
  y[std::size_t(7 * queries + 3)] = kNaN;
  for (int j = 0; j < keys; ++j) y[std::size_t(j * queries + 9)] = 0;  // a row in which all are equal
  const std::vector<float> logits = y;
  std::vector<float> tau_x(20), tau_y(20);
  for (const float scale : {1.0f, 0.5f, 0.3f}) {
    std::vector<float> a = x, b = y;
    threshold_forward(scale, a.data(), queries, keys, queries, tau_x.data(), scratch.data());
    threshold_forward(scale, b.data(), queries, keys, queries, tau_y.data(), scratch.data());
    EXPECT_EQ(tau_x[4], 0);
    EXPECT_TRUE(std::isnan(b[std::size_t(7 * queries + 3)]));
    for (int i = 0; i < queries; ++i) {
      if (i == 3 || i == 4 || i == 9) continue;
      EXPECT_EQ(tau_x[std::size_t(i)], tau_y[std::size_t(i)]);
      for (int j = 0; j < keys; ++j) EXPECT_EQ(a[std::size_t(j * queries + i)], b[std::size_t(j * queries + i)]);
    }
    for (int j = 0; j < keys; ++j) EXPECT_EQ(a[std::size_t(j * queries + 4)], 0);
    for (int j = 0; j < keys; ++j) EXPECT_NEAR(b[std::size_t(j * queries + 9)], 1.0 / keys, 1e-7 / double(scale));
    std::vector<float> d(logits.size(), 1.f), p = logits;
    const std::vector<float> delta(std::size_t(queries), 0.f);
    threshold_backward(scale, p.data(), d.data(), queries, keys, queries, tau_y.data(), delta.data());
    if (scale != 1) {  // whose slope is 1 for all numbers
      EXPECT_TRUE(std::isnan(d[std::size_t(7 * queries + 3)]));
    }
    Words pairs(std::size_t(keys), 0);
    threshold_pairs(scale, logits.data(), queries, keys, queries, tau_y.data(), pairs.data());
    EXPECT_TRUE(pairs[7] >> 3 & 1);
  }
}

TEST(StickBreaking, TilesFromTheLastKeyOn) {
  for (const auto [keys, queries, size] : {Row{1, 1, 1}, Row{9, 5, 3}, Row{64, 64, 8}, Row{30, 33, 40}}) {
    const int stride = queries + 2;
    std::vector<float> x = random(std::ptrdiff_t(keys) * stride, 61, size);
    x[0] = -kInf;
    std::vector<float> p = x, dp = random(std::ptrdiff_t(keys) * stride, 62), dx = dp, weights = x;
    std::vector<float> left(std::size_t(queries), 0.75f), rest = left, passed(left.size(), 0.5f);
    const std::vector<float> delta = random(queries, 63);
    stick_breaking_forward(weights.data(), stride, keys, queries, left.data());
    stick_breaking_backward(p.data(), dx.data(), stride, keys, queries, rest.data(), passed.data(), delta.data());
    EXPECT_EQ(p, weights);
    EXPECT_EQ(left, rest);
    for (int i = 0; i < queries; ++i) {
      Real stick = 0.75L, sum = 0.5L;
      for (int j = keys - 1; j >= 0; --j) {
        const std::size_t at = std::size_t(j * stride + i);
        const Real b = 1 / (1 + std::exp(-Real(x[at]))), w = b * stick;
        EXPECT_NEAR(weights[at], double(w), 1e-6 * double(w) * keys + 1e-37);
        EXPECT_NEAR(dx[at], double(w * dp[at] - b * (delta[std::size_t(i)] - sum)), 3e-6);
        sum += w * dp[at];
        stick *= 1 / (1 + std::exp(Real(x[at])));
      }
      EXPECT_NEAR(left[std::size_t(i)], double(stick), 1e-6 * double(stick) * keys + 1e-37);
      EXPECT_NEAR(passed[std::size_t(i)], double(sum), 3e-6);
    }
    for (int j = 0; j < keys; ++j) {
      for (int i = queries; i < stride; ++i)
        EXPECT_EQ(dx[std::size_t(j * stride + i)], dp[std::size_t(j * stride + i)]);
    }
  }
}

}  // namespace
}  // namespace attune::kernels::sparse_tests
