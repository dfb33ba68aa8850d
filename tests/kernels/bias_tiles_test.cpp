// The kernels of the biases by diagonals, of Gumbel noise and of FIRE's network, against their formulas in plain loops
// and long double, for tiles of any extents.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "attune/base/rng.hpp"
#include "kernels/bias_tile.hpp"
#include "kernels/compare.hpp"

namespace attune::kernels::bias_tiles_tests {
namespace {

using Real = long double;
struct Extents {
  int keys, queries;
};
const Extents kExtents[] = {{1, 1}, {3, 5}, {64, 64}, {7, 33}, {70, 16}, {128, 50}};

template <class T>
class BiasTiles : public testing::Test {};
TYPED_TEST_SUITE(BiasTiles, Scalars);

TYPED_TEST(BiasTiles, DiagonalsThereAndBack) {
  using T = TypeParam;
  for (const auto [keys, queries] : kExtents) {
    const std::ptrdiff_t stride = queries + 3;
    const std::vector<T> before = random_numbers<T>(stride * keys, 1, -1, 1),
                         value = random_numbers<T>(keys + queries - 1, 2, -1, 1);
    std::vector<T> x = before, sum(value.size(), T(2));
    std::vector<Real> want(value.size(), 2);
    add_diagonals(x.data(), stride, keys, queries, value.data());
    sum_diagonals(before.data(), stride, keys, queries, sum.data());
    for (int j = 0; j < keys; ++j) {
      for (std::ptrdiff_t i = 0; i < stride; ++i) {
        const std::size_t at = std::size_t(j * stride + i), m = std::size_t(keys - 1 - j + i);
        if (i < queries) {
          EXPECT_EQ(x[at], before[at] + value[m]);
          want[m] += Real(before[at]);
        } else {
          EXPECT_EQ(x[at], before[at]) << "outside of the tile";
        }
      }
    }
    for (std::size_t m = 0; m < sum.size(); ++m) {
      EXPECT_NEAR(double(sum[m]), double(want[m]), 64 * double(std::numeric_limits<T>::epsilon()));
    }
  }
}

TEST(GumbelTile, IsTheNoiseOfItsWordsInAnyTile) {
  for (const auto [keys, queries] : kExtents) {
    for (int key : {0, 5, 1022}) {
      std::vector<float> x(std::size_t(keys) * 64, 0.25f);
      add_gumbel(x.data(), 64, keys, queries, {100, key, 3, 2, 0x80000001u}, 0.5f);
      for (int j = 0; j < keys; ++j) {
        for (int i = 0; i < 64; ++i) {
          const float got = x[std::size_t(j * 64 + i)];
          if (i >= queries) {
            EXPECT_EQ(got, 0.25f) << "outside of the tile";
            continue;
          }
          const auto words = philox({std::uint32_t(100 + i), std::uint32_t(key + j) / 4, 3, 2}, {0x80000001u, 0x6d75u});
          const Real rest = (Real(~words[std::size_t(key + j) % 4]) + 0.5L) * 0x1p-32L;  // 1 - u
          const Real noise = -std::log(-std::log1p(-rest));
          EXPECT_NEAR(double(got), double((0.25L + noise) / 2), 2e-7 * (1 + std::abs(double(noise))));
        }
      }
    }
  }
}

/// A tile of FIRE: rates of psi that make units bend within diagonals, between them, or never.
struct Fire {
  int keys, queries, hidden;
  std::vector<float> w, b, v, psi, inverse, dx;
  Fire(Extents e, int units) : keys(e.keys), queries(e.queries), hidden(units) {
    w = random_numbers<float>(units, 3, -2, 2), b = random_numbers<float>(units, 4, -1, 1);
    v = random_numbers<float>(units, 5, -1, 1), dx = random_numbers<float>(std::int64_t(keys) * queries, 6, -1, 1);
    b[0] = 0;  // on or off at z = 0 alone
    for (int m = 0; m < keys + queries - 1; ++m) psi.push_back(std::log1p(0.3f * float(std::abs(m - keys))));
    for (int i = 0; i < queries; ++i) inverse.push_back(1 / (1.5f + 0.02f * float(std::max(0, i - 9))));
  }
  FireTile tile(bool tanh) const {
    return {keys, queries, hidden, tanh, w.data(), b.data(), v.data(), psi.data(), inverse.data()};
  }
};

TEST(FireTile, NetworkAndGradients) {
  for (const Extents e : kExtents) {
    for (int hidden : {1, 7, 32}) {
      for (bool tanh : {false, true}) {
        const Fire f(e, hidden);
        const auto keys = std::size_t(f.keys), queries = std::size_t(f.queries), units = std::size_t(hidden);
        std::vector<float> scratch(fire_scratch(f.keys, f.queries, hidden)), x = f.dx;
        add_fire(f.tile(tanh), 0.5f, x.data(), f.queries, scratch.data());
        std::vector<float> dw(units, 1), db(units, 1), dv(units, 1), dpsi(keys + queries - 1, 9), dinverse(queries, 9);
        const float total =
            fire_backward(f.tile(tanh), f.dx.data(), f.queries,
                          {dw.data(), db.data(), dv.data(), dpsi.data(), dinverse.data()}, scratch.data());

        std::vector<Real> want_w(units, 1), want_b(units, 1), want_v(units, 1), want_psi(dpsi.size(), 0),
            want_inverse(queries, 0);
        Real want_total = 0;
        for (std::size_t j = 0; j < keys; ++j) {
          for (std::size_t i = 0; i < queries; ++i) {
            const std::size_t m = keys - 1 - j + i;
            const float z = f.psi[m] * f.inverse[i];  // which side of a bend a pair is on is decided by the rounded z
            const Real d = Real(f.dx[j * queries + i]);
            Real sum = 0.5, dz = 0;
            for (std::size_t u = 0; u < units; ++u) {
              const Real y = Real(f.w[u]) * z + f.b[u], h = tanh ? std::tanh(y) : std::max(y, Real(0)),
                         slope = tanh ? 1 - h * h : Real(y > 0);
              sum += f.v[u] * h;
              want_v[u] += h * d;
              want_b[u] += f.v[u] * slope * d;
              want_w[u] += f.v[u] * slope * d * z;
              dz += f.v[u] * slope * d * f.w[u];
            }
            want_psi[m] += dz * f.inverse[i];
            want_inverse[i] += dz * f.psi[m];
            want_total += d;
            EXPECT_NEAR(double(x[j * queries + i]), double(d + sum), 1e-5) << j << " " << i;
          }
        }
        const auto near = [&](const std::vector<float>& got, const std::vector<Real>& want, const char* what) {
          for (std::size_t n = 0; n < got.size(); ++n) {
            EXPECT_NEAR(double(got[n]), double(want[n]),
                        2e-6 * double(hidden) * std::sqrt(double(keys * queries)) + 1e-5)
                << what << " " << n << " of " << hidden << (tanh ? " tanh " : " relu ") << keys << " " << queries;
          }
        };
        near(dw, want_w, "hidden_weight"), near(db, want_b, "hidden_bias"), near(dv, want_v, "weight");
        near(dpsi, want_psi, "psi"), near(dinverse, want_inverse, "inverse");
        EXPECT_NEAR(double(total), double(want_total), 1e-4);
      }
    }
  }
}

}  // namespace
}  // namespace attune::kernels::bias_tiles_tests
