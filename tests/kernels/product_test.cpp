// Products against plain loops: every tail of rows and columns, strides of all kinds, memory outside untouched, and
// equal bits however the matrix is cut.
#include "kernels/product.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "attune/base/rng.hpp"

namespace attune::kernels::product_tests {
namespace {

template <class T>
std::vector<T> random_numbers(std::size_t n, std::uint64_t seed) {
  Generator generator(seed);
  std::vector<T> v(n);
  for (T& x : v) x = T(generator.uniform(-1, 1));
  return v;
}

template <class T>
class Product : public testing::Test {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(Product, Scalars);

// One case: c has a border of 3 columns on the right and one row above and below, which must keep its bits. Memory of b
// ends with its last column, so that a sanitizer sees a read past it.
template <class T>
void check(int m, int n, int k, bool transposed_a, bool add) {
  const std::ptrdiff_t am = transposed_a ? 1 : k + 2, ak = transposed_a ? m + 1 : 1, bk = n + (m % 2), cm = n + 3;
  const auto a = random_numbers<T>(std::size_t(m + 2) * std::size_t(k + 2) + 8, 1);
  const auto b = random_numbers<T>(std::size_t(k ? (k - 1) * bk + n : 1), 2);
  const auto before = random_numbers<T>(std::size_t((m + 2) * cm), 3);
  auto c = before;
  if (add) {
    add_product(m, n, k, a.data(), am, ak, b.data(), bk, c.data() + cm, cm);
  } else {
    product(m, n, k, a.data(), am, ak, b.data(), bk, c.data() + cm, cm);
  }
  const double tolerance = (k + 2) * (sizeof(T) == 4 ? 6e-8 : 1.2e-16);
  for (int i = -1; i <= m; ++i) {
    for (int j = 0; j < n + 3; ++j) {
      const std::size_t at = std::size_t((i + 1) * cm + j);
      if (i < 0 || i == m || j >= n) {
        ASSERT_EQ(c[at], before[at]) << "written outside at " << i << ", " << j << " of " << m << " x " << n;
        continue;
      }
      double sum = add ? double(before[at]) : 0;
      for (int e = 0; e < k; ++e) sum += double(a[std::size_t(i * am + e * ak)]) * double(b[std::size_t(e * bk + j)]);
      ASSERT_NEAR(double(c[at]), sum, tolerance * (1 + std::abs(sum))) << m << " x " << n << " x " << k;
    }
  }
}

TYPED_TEST(Product, EveryTailOfColumns) {
  for (int n = 0; n <= 70; ++n) {
    for (bool add : {false, true}) check<TypeParam>(7, n, 5, n % 2 == 0, add);
  }
  check<TypeParam>(5, 150, 9, false, true);
}

TYPED_TEST(Product, EveryTailOfRows) {
  for (int m = 0; m <= 27; ++m) {
    for (int n : {16, 33}) check<TypeParam>(m, n, 6, true, m % 2 == 0);
  }
}

TYPED_TEST(Product, EveryDepth) {
  for (int k : {0, 1, 2, 3, 64, 129}) {
    for (bool transposed : {false, true}) check<TypeParam>(13, 40, k, transposed, transposed);
  }
}

TYPED_TEST(Product, BitsDoNotDependOnTheCut) {
  using T = TypeParam;
  const int m = 29, n = 61, k = 37;
  const auto a = random_numbers<T>(std::size_t(m * k), 4), b = random_numbers<T>(std::size_t(k * n), 5);
  std::vector<T> whole(std::size_t(m * n)), parts(std::size_t(m * n));
  product(m, n, k, a.data(), k, 1, b.data(), n, whole.data(), n);
  for (int i = 0; i < m; i += 5) {
    for (int j = 0; j < n; j += 17) {
      product(std::min(5, m - i), std::min(17, n - j), k, a.data() + i * k, k, 1, b.data() + j, n,
              parts.data() + i * n + j, n);
    }
  }
  EXPECT_EQ(whole, parts);
}

}  // namespace
}  // namespace attune::kernels::product_tests
