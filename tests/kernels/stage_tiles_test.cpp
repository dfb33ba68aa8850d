// The kernels behind the library's own stages against the formulas in plain loops and long double: softmax by tiles,
// the soft cap, ALiBi, the additive score, for tiles of any extents and beyond the range where exponentials of rows
// serve.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/additive.hpp"
#include "kernels/bias_tile.hpp"
#include "kernels/compare.hpp"
#include "kernels/softmax_tile.hpp"

namespace attune::kernels::stage_tiles_tests {
namespace {

using Real = long double;

template <class T>
std::vector<T> around_zero(std::size_t n, double size, std::uint64_t seed) {
  return random_numbers<T>(std::int64_t(n), seed, -size, size);
}
template <class T>
constexpr double kEps = std::numeric_limits<T>::epsilon();

struct Extents {
  int keys, queries;
};
const Extents kExtents[] = {{1, 1}, {3, 5}, {64, 64}, {7, 33}, {128, 16}};

template <class T>
class StageTiles : public testing::Test {};
TYPED_TEST_SUITE(StageTiles, Scalars);

TYPED_TEST(StageTiles, SoftmaxOfTwoTilesIsTheSoftmaxOfBoth) {
  using T = TypeParam;
  for (const auto [keys, queries] : kExtents) {
    const std::ptrdiff_t stride = queries + 2;
    std::vector<T> a = around_zero<T>(std::size_t(stride * keys), 9, 1), b = around_zero<T>(a.size(), 12, 2);
    for (int j = 0; j < keys; ++j) a[std::size_t(j * stride)] = -std::numeric_limits<T>::infinity();
    const std::vector<T> logits_a = a, logits_b = b;
    std::vector<T> maximum(std::size_t(queries), T(-3)), sum(maximum.size(), T(0)), factor(maximum.size(), T(7));
    softmax_forward(a.data(), stride, keys, queries, maximum.data(), sum.data(), factor.data());
    EXPECT_EQ(sum[0], T(0)) << "a hidden column adds nothing";
    for (T f : factor) EXPECT_EQ(f, T(0)) << "nothing was seen before";
    softmax_forward(b.data(), stride, keys, queries, maximum.data(), sum.data(), factor.data());
    for (int i = 0; i < queries; ++i) {
      Real total = 0, most = -std::numeric_limits<Real>::infinity();
      for (int j = 0; j < keys; ++j) {
        const std::size_t at = std::size_t(j * stride + i);
        most = std::max({most, Real(logits_a[at]), Real(logits_b[at])});
      }
      for (int j = 0; j < keys; ++j) {
        const std::size_t at = std::size_t(j * stride + i);
        total += std::exp(logits_a[at] - most) + std::exp(logits_b[at] - most);
        EXPECT_NEAR(double(a[at] * factor[std::size_t(i)]), double(std::exp(logits_a[at] - most)), 30 * kEps<T>);
        EXPECT_NEAR(double(b[at]), double(std::exp(logits_b[at] - most)), 30 * kEps<T>);
      }
      EXPECT_EQ(maximum[std::size_t(i)], T(most));
      EXPECT_NEAR(double(sum[std::size_t(i)] / total), 1, 30 * kEps<T>);
    }
    for (int j = 0; j < keys; ++j) {
      for (std::ptrdiff_t i = queries; i < stride; ++i) {
        EXPECT_EQ(b[std::size_t(j * stride + i)], logits_b[std::size_t(j * stride + i)]) << "outside of the tile";
      }
    }
  }
}

TYPED_TEST(StageTiles, SoftmaxOfTheLowestNumbers) {
  // What a bias of the lowest number makes of logits: all alike. And one that is merely low beside them.
  using T = TypeParam;
  const T low = std::numeric_limits<T>::lowest();
  std::vector<T> x{low, low, low, -1, low, low}, maximum(2, T(0)), sum(2, T(0)), factor(2, T(0));
  softmax_forward(x.data(), 2, 3, 2, maximum.data(), sum.data(), factor.data());
  EXPECT_EQ(x, (std::vector<T>{1, 0, 1, 1, 1, 0}));
  EXPECT_EQ(sum, (std::vector<T>{3, 1}));
  EXPECT_EQ(maximum, (std::vector<T>{low, -1}));
}

TYPED_TEST(StageTiles, SoftmaxOfHugeNumbers) {
  // Every largest logit has the weight 1, in two tiles and backwards, however many nats its rounding is.
  using T = TypeParam;
  for (double size = 1e3; size < double(std::numeric_limits<T>::max()) / 16; size *= 37) {
    const T s = T(size), s2 = T(2 * size);
    std::vector<T> first{-s, s, -s2, s, s, -s2}, second{s2, s, -s2, -s2, s, s2};
    std::vector<T> maximum(2, T(0)), sum(2, T(0)), factor(2, T(0));
    softmax_forward(first.data(), 2, 3, 2, maximum.data(), sum.data(), factor.data());
    EXPECT_EQ(first, (std::vector<T>{0, 1, 0, 1, 1, 0})) << size;
    softmax_forward(second.data(), 2, 3, 2, maximum.data(), sum.data(), factor.data());
    EXPECT_EQ(second, (std::vector<T>{1, 0, 0, 0, 0, 1})) << size;
    EXPECT_EQ(factor, (std::vector<T>{0, 0})) << size;
    EXPECT_EQ(maximum, (std::vector<T>{s2, s2})) << size;
    EXPECT_EQ(sum, (std::vector<T>{1, 1})) << size;
    std::vector<T> again{s2, s, -s2, -s2, s, s2}, d(6, T(3)), delta{1, 5};
    softmax_backward(again.data(), d.data(), 2, 3, 2, maximum.data(), delta.data());
    EXPECT_EQ(again, second) << size;
    EXPECT_EQ(d, (std::vector<T>{2, 0, 0, 0, 0, -2})) << size;
  }
}

TYPED_TEST(StageTiles, SoftmaxBackwardIsTheFormula) {
  using T = TypeParam;
  for (const auto [keys, queries] : kExtents) {
    const std::vector<T> x = around_zero<T>(std::size_t(queries * keys), 4, 3), d = around_zero<T>(x.size(), 2, 4);
    const std::vector<T> lse = around_zero<T>(std::size_t(queries), 3, 5), delta = around_zero<T>(lse.size(), 1, 6);
    std::vector<T> p = x, dx = d;
    softmax_backward(p.data(), dx.data(), queries, keys, queries, lse.data(), delta.data());
    for (std::size_t at = 0; at < x.size(); ++at) {
      const std::size_t i = at % std::size_t(queries);
      const Real want = std::exp(Real(x[at]) - lse[i]);
      EXPECT_NEAR(double(p[at] / want), 1, 30 * kEps<T>);
      EXPECT_NEAR(double(dx[at]), double(want * (Real(d[at]) - delta[i])), double(want) * 100 * kEps<T>);
    }
  }
}

TYPED_TEST(StageTiles, DistanceAndProduct) {
  using T = TypeParam;
  for (const auto [keys, queries] : kExtents) {
    const std::vector<T> x = around_zero<T>(std::size_t(queries * keys), 4, 7), y = around_zero<T>(x.size(), 2, 8);
    std::vector<T> s = x, m = x;
    subtract_distance(s.data(), queries, keys, queries, T(0.25), -5);
    multiply_tile(m.data(), y.data(), queries, keys, queries);
    for (int j = 0; j < keys; ++j) {
      for (int i = 0; i < queries; ++i) {
        const std::size_t at = std::size_t(j * queries + i);
        EXPECT_EQ(s[at], x[at] - T(0.25) * T(std::abs(i - 5 - j)));
        EXPECT_EQ(m[at], x[at] * y[at]);
      }
    }
  }
}

TEST(SoftCapTile, NearTanhEverywhereAndIndependentOfNeighbours) {
  const float cap = 3;
  std::vector<float> x;
  for (int i = -4000; i <= 4000; ++i) x.push_back(float(i) * 0.01f);
  x.insert(x.end(), {1e-6f, -1e-6f, 0.f, 1e30f, -std::numeric_limits<float>::infinity()});
  std::vector<float> y = x, slope(x.size());
  soft_cap(y.data(), 1, int(x.size()), 1, cap, slope.data());
  std::vector<float> wide = x, wide_slope(x.size()), bare = x;
  soft_cap(wide.data(), std::ptrdiff_t(x.size()), 1, int(x.size()), cap, wide_slope.data());
  soft_cap(bare.data(), std::ptrdiff_t(x.size()), 1, int(x.size()), cap, nullptr);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Real z = Real(x[i]) / cap, t = std::tanh(z), c = std::cosh(std::min(std::abs(z), Real(5000)));
    EXPECT_NEAR(double(y[i]), double(cap * t), 6e-7 * cap * double(std::abs(t))) << x[i];
    // Where the slope is tiny, its relative error is that of e^(-2 z).
    EXPECT_NEAR(double(slope[i]), double(1 / (c * c)), 4e-6 * double(1 / (c * c)) + 1e-30) << x[i];
    EXPECT_EQ(wide[i], y[i]);
    EXPECT_EQ(bare[i], y[i]);
    EXPECT_EQ(wide_slope[i], slope[i]);
  }
}

TEST(SigmoidTile, IsItsFormula) {
  for (const auto [keys, queries] : kExtents) {
    std::vector<float> x = around_zero<float>(std::size_t(queries * keys), 30, 9);
    x[0] = -std::numeric_limits<float>::infinity();
    const std::vector<float> d = around_zero<float>(x.size(), 2, 10);
    std::vector<float> p = x, q = x, dx = d;
    sigmoid_forward(p.data(), queries, keys, queries, -2);
    sigmoid_backward(q.data(), dx.data(), queries, keys, queries, -2);
    EXPECT_EQ(p[0], 0.f) << "hidden";
    for (std::size_t i = 0; i < x.size(); ++i) {
      const Real want = 1 / (1 + std::exp(2 - Real(x[i])));
      // x - 2 is rounded before it becomes an exponent.
      const double bound = (4 + std::abs(std::max(double(x[i]), -40.0))) * kEps<float> * double(want);
      EXPECT_NEAR(double(p[i]), double(want), bound);
      EXPECT_EQ(q[i], p[i]);
      EXPECT_NEAR(double(dx[i]), double(want * (1 - want) * d[i]), 2 * bound);
    }
  }
}

/// One tile of the additive score; `wild` makes one query and one key too large for exponentials.
template <class T>
struct Additive {
  int keys, queries, hidden;
  std::vector<T> query, query_lanes, key, v, dx;  // query [queries][hidden], the same [hidden][queries]
  Additive(Extents e, int units, bool wild) : keys(e.keys), queries(e.queries), hidden(units) {
    query = around_zero<T>(std::size_t(queries * hidden), 2, 11);
    key = around_zero<T>(std::size_t(keys * hidden), 2, 12);
    v = around_zero<T>(std::size_t(hidden), 1, 13);
    dx = around_zero<T>(std::size_t(keys * queries), 1, 14);
    if (wild) {  // -300 + 301 is a tanh in its steep part: clamping features would show
      query[std::size_t(queries / 2 * hidden)] = T(-300);
      key[std::size_t(keys / 2 * hidden)] = T(301);
    }
    query_lanes.resize(query.size());
    for (int i = 0; i < queries; ++i) {
      for (int h = 0; h < hidden; ++h) query_lanes[std::size_t(h * queries + i)] = query[std::size_t(i * hidden + h)];
    }
  }
  Real t(int i, int j, int h) const {
    return std::tanh(Real(query[std::size_t(i * hidden + h)]) + Real(key[std::size_t(j * hidden + h)]));
  }
  std::vector<T> scratch() const { return std::vector<T>(additive_scratch(keys, hidden)); }
};

TYPED_TEST(StageTiles, AdditiveIsItsFormula) {
  using T = TypeParam;
  for (const Extents e : kExtents) {
    for (int hidden : {1, 7, 33}) {
      for (bool wild : {false, true}) {
        Additive<T> a(e, hidden, wild);
        std::vector<T> scratch = a.scratch(), x(a.dx.size());
        additive_forward({a.keys, a.queries, hidden, a.query_lanes.data(), a.queries, a.key.data(), hidden, a.v.data()},
                         x.data(), a.queries, scratch.data());
        std::vector<T> dq(a.query.size(), T(1)), dk(a.key.size(), T(1)), dv(a.v.size(), T(1));
        additive_backward({a.keys, a.queries, hidden, a.query.data(), hidden, a.key.data(), hidden, a.v.data()},
                          a.dx.data(), a.queries, dq.data(), a.queries, dk.data(), hidden, dv.data(), scratch.data());
        std::vector<Real> want_dq(dq.size(), 1), want_dk(dk.size(), 1), want_dv(dv.size(), 1);
        for (int j = 0; j < a.keys; ++j) {
          for (int i = 0; i < a.queries; ++i) {
            Real want = 0;
            const Real g = a.dx[std::size_t(j * a.queries + i)];
            for (int h = 0; h < hidden; ++h) {
              const Real t = a.t(i, j, h), v = a.v[std::size_t(h)];
              want += v * t;
              want_dv[std::size_t(h)] += g * t;
              want_dq[std::size_t(h * a.queries + i)] += g * v * (1 - t * t);
              want_dk[std::size_t(j * hidden + h)] += g * v * (1 - t * t);
            }
            ASSERT_NEAR(double(x[std::size_t(j * a.queries + i)]), double(want), 4 * kEps<T> * (2 + hidden));
          }
        }
        const auto near = [&](const std::vector<T>& got, const std::vector<Real>& wanted, int terms) {
          for (std::size_t i = 0; i < got.size(); ++i) {
            ASSERT_NEAR(double(got[i]), double(wanted[i]), 4 * kEps<T> * (2 + terms)) << "of " << terms << " terms";
          }
        };
        near(dq, want_dq, a.keys);
        near(dk, want_dk, a.queries);
        near(dv, want_dv, a.keys * a.queries);
      }
    }
  }
}

// What a pair takes depends on its own two rows alone: a NaN in another query or key changes no bit of it.
TYPED_TEST(StageTiles, AdditiveKeepsNaNToItself) {
  using T = TypeParam;
  Additive<T> a({9, 21}, 5, false), b = a;
  b.query[std::size_t(3 * 5 + 1)] = b.query_lanes[std::size_t(1 * 21 + 3)] = std::numeric_limits<T>::quiet_NaN();
  b.key[std::size_t(4 * 5 + 2)] = T(1e6);
  std::vector<T> scratch = a.scratch(), x(a.dx.size()), y(a.dx.size());
  for (auto [from, to] : {std::pair{&a, &x}, {&b, &y}}) {
    additive_forward({9, 21, 5, from->query_lanes.data(), 21, from->key.data(), 5, from->v.data()}, to->data(), 21,
                     scratch.data());
  }
  for (int j = 0; j < 9; ++j) {
    for (int i = 0; i < 21; ++i) {
      const T got = y[std::size_t(j * 21 + i)];
      if (i == 3) {
        EXPECT_TRUE(std::isnan(got));
      } else if (j != 4) {
        EXPECT_EQ(got, x[std::size_t(j * 21 + i)]);
      }
    }
  }
}

}  // namespace
}  // namespace attune::kernels::stage_tiles_tests
