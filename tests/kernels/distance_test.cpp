// The sums of differences behind the scores by distance against plain loops in double: extents that fill no block, rows
// far from the origin, and strides with room between rows that nobody touches.
#include "kernels/distance.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/compare.hpp"

namespace attune::kernels::distance_tests {
namespace {

struct Sum {
  int m, n, steps;
  std::ptrdiff_t row;  // of b, own and c: n and some room
  std::vector<float> a, b, own, c;
  Sum(int rows, int columns, int third) : m(rows), n(columns), steps(third), row(columns + 3) {
    // Around 100, so that squares taken apart would lose four digits.
    a = random_numbers<float>(std::int64_t(m) * steps, 1, 99, 101);
    b = random_numbers<float>(steps * row, 2, 99, 101);
    own = random_numbers<float>(m * row, 3, 99, 101);
    c = random_numbers<float>(m * row, 4);
  }
  DistanceSum call(std::vector<float>& to) const {
    return {.m = m,
            .n = n,
            .steps = steps,
            .factor = -0.5f,
            .a = a.data(),
            .am = steps,
            .ak = 1,
            .b = b.data(),
            .bk = row,
            .own = own.data(),
            .own_stride = row,
            .c = to.data(),
            .stride = row};
  }
  /// Runs the kernel and holds it against c (or 0) - 0.5 * sum of term(a, b, own).
  template <class Term>
  void check(void (*kernel)(const DistanceSum&), bool adds, Term term) const {
    std::vector<float> got = c;
    kernel(call(got));
    for (int i = 0; i < m; ++i) {
      for (std::ptrdiff_t j = 0; j < row; ++j) {
        const std::size_t at = std::size_t(i * row + j);
        if (j >= n) {
          ASSERT_EQ(got[at], c[at]) << "beside the columns";
          continue;
        }
        double sum = 0, size = 0;
        for (int e = 0; e < steps; ++e) {
          const double t =
              term(double(a[std::size_t(i * steps + e)]), double(b[std::size_t(e * row + j)]), double(own[at]));
          sum += t;
          size += std::abs(t);
        }
        ASSERT_NEAR(double(got[at]), (adds ? double(c[at]) : 0) - 0.5 * sum, 1e-6 * (1 + size)) << i << ' ' << j;
      }
    }
  }
};

TEST(Distance, SumsAreTheirFormulas) {
  for (const int rows : {1, 7, 64}) {
    for (const int columns : {1, 16, 37, 64, 80}) {
      const Sum s(rows, columns, 33);
      s.check(squared_distances, false, [](double a, double b, double) { return (b - a) * (b - a); });
      s.check(add_distances_by_vector, true, [](double a, double b, double own) { return b * (own - a); });
      s.check(add_distances_by_number, true, [](double a, double b, double own) { return a * (own - b); });
    }
  }
}

}  // namespace
}  // namespace attune::kernels::distance_tests
