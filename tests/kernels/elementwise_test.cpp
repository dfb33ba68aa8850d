// Arithmetic on arrays, sums over rows, embeddings and exchanged axes against plain loops.
#include "kernels/elementwise.hpp"

#include "kernels/compare.hpp"
#include "kernels/embedding.hpp"

namespace attune::kernels::elementwise_tests {
namespace {

template <class T>
class ElementwiseTest : public testing::Test {};
TYPED_TEST_SUITE(ElementwiseTest, Scalars);

/// want(a, b, y): what y[i] becomes.
template <class T, class Kernel, class Want>
void check(Kernel&& kernel, Want&& want) {
  for (std::int64_t n : {0, 1, 13, 32, 40003}) {
    const auto a = random_numbers<T>(n, 1), b = random_numbers<T>(n, 2, 0.5, 2), before = random_numbers<T>(n, 3);
    auto y = before;
    kernel(n, a.data(), b.data(), y.data());
    std::vector<double> expected;
    for (std::size_t i = 0; i < y.size(); ++i) {
      expected.push_back(want(double(a[i]), double(b[i]), double(before[i])));
    }
    expect_near(y, expected, 2, "y");
  }
}

TYPED_TEST(ElementwiseTest, Arithmetic) {
  using T = TypeParam;
  using I = std::int64_t;
  check<T>(add<T>, [](double a, double b, double) { return a + b; });
  check<T>(sub<T>, [](double a, double b, double) { return a - b; });
  check<T>(mul<T>, [](double a, double b, double) { return a * b; });
  check<T>(div<T>, [](double a, double b, double) { return a / b; });
  check<T>(add_mul<T>, [](double a, double b, double y) { return y + a * b; });
  check<T>([](I n, const T* a, const T*, T* y) { scale(n, T(1.5), T(-2), a, y); },
           [](double a, double, double) { return 1.5 * a - 2; });
  check<T>([](I n, const T* a, const T*, T* y) { add_scaled(n, T(-3), a, y); },
           [](double a, double, double y) { return y - 3 * a; });
  check<T>([](I n, const T*, const T*, T* y) { fill(n, T(4), y); }, [](double, double, double) { return 4.0; });
  check<T>([](I n, const T* a, const T*, T* y) { copy(n, a, y); }, [](double a, double, double) { return a; });
}

TYPED_TEST(ElementwiseTest, ResultOverAnInput) {
  using T = TypeParam;
  auto a = random_numbers<T>(1001, 1);
  const auto b = random_numbers<T>(1001, 2), before = a;
  sub(1001, a.data(), b.data(), a.data());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i], before[i] - b[i]);
}

TYPED_TEST(ElementwiseTest, Rows) {
  using T = TypeParam;
  for (const auto& [rows, width] : {std::array{1, 1}, {3, 17}, {129, 67}, {700, 128}, {5000, 9}, {0, 5}}) {
    const auto x = random_numbers<T>(rows * width, 1), b = random_numbers<T>(rows * width, 2),
               row = random_numbers<T>(width, 3);
    std::vector<T> plus(x.size()), times(x.size()), sums = row, products(row.size());
    add_row<T>(rows, width, x.data(), row.data(), plus.data());
    mul_row<T>(rows, width, x.data(), row.data(), times.data());
    sum_rows<T>(rows, width, x.data(), width, sums.data(), true);
    sum_rows_mul<T>(rows, width, x.data(), b.data(), products.data(), false);
    std::vector<double> want_plus, want_times, want_sums = to_double(row), want_products(row.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t c = i % std::size_t(width);
      want_plus.push_back(double(x[i]) + double(row[c]));
      want_times.push_back(double(x[i]) * double(row[c]));
      want_sums[c] += double(x[i]);
      want_products[c] += double(x[i]) * double(b[i]);
    }
    expect_near(plus, want_plus, 2, "x + row");
    expect_near(times, want_times, 2, "x * row");
    expect_near(sums, want_sums, 4 + 0.2 * rows, "sums");
    expect_near(products, want_products, 4 + 0.2 * rows, "sums of products");
  }
}

TYPED_TEST(ElementwiseTest, SumOfSomeColumns) {
  using T = TypeParam;
  const std::int64_t rows = 50, width = 21, stride = 30;
  const auto x = random_numbers<T>(rows * stride, 1);
  std::vector<T> y(std::size_t(width), T(5));
  sum_rows<T>(rows, width, x.data() + 4, stride, y.data(), false);
  for (std::int64_t c = 0; c < width; ++c) {
    double want = 0;
    for (std::int64_t r = 0; r < rows; ++r) want += double(x[std::size_t(r * stride + 4 + c)]);
    EXPECT_NEAR(double(y[std::size_t(c)]), want, 2e-5);
  }
}

TYPED_TEST(ElementwiseTest, SumAndDot) {
  using T = TypeParam;
  for (std::int64_t n : {0, 1, 19, 16385, 70000}) {
    const auto a = random_numbers<T>(n, 1), b = random_numbers<T>(n, 2);
    double total = 0, product = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      total += double(a[i]);
      product += double(a[i]) * double(b[i]);
    }
    EXPECT_NEAR(sum(n, a.data()), total, 1e-10);
    EXPECT_NEAR(dot(n, a.data(), b.data()), product, 1e-10);
  }
}

TYPED_TEST(ElementwiseTest, SwapAxesThereAndBack) {
  using T = TypeParam;
  const std::int64_t batch = 3, first = 7, second = 5, width = 18;
  const auto x = random_numbers<T>(batch * first * second * width, 1);
  std::vector<T> y(x.size()), back(x.size());
  swap_axes(batch, first, second, width, x.data(), y.data());
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t f = 0; f < first; ++f) {
      for (std::int64_t s = 0; s < second; ++s) {
        for (std::int64_t w = 0; w < width; ++w) {
          ASSERT_EQ(y[std::size_t(((b * second + s) * first + f) * width + w)],
                    x[std::size_t(((b * first + f) * second + s) * width + w)]);
        }
      }
    }
  }
  swap_axes(batch, second, first, width, y.data(), back.data());
  EXPECT_EQ(back, x);
  swap_axes(batch, second, first, width, y.data(), back.data(), true);
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(back[i], x[i] + x[i]);
}

TYPED_TEST(ElementwiseTest, EmbeddingAndItsGradient) {
  using T = TypeParam;
  const std::int64_t vocabulary = 11, tokens = 900, width = 37;
  const auto table = random_numbers<T>(vocabulary * width, 1), dout = random_numbers<T>(tokens * width, 2);
  std::vector<std::int32_t> ids;
  Generator generator(4);
  for (std::int64_t t = 0; t < tokens; ++t) ids.push_back(std::int32_t(generator.below(std::uint64_t(vocabulary))));
  std::vector<T> out(dout.size()), dtable = table;
  embedding(tokens, width, table.data(), ids.data(), T(2), out.data());
  embedding_backward(tokens, width, ids.data(), dout.data(), T(2), dtable.data());
  std::vector<double> want = to_double(table);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t c = 0; c < width; ++c) {
      const auto from = std::size_t(ids[std::size_t(t)] * width + c), at = std::size_t(t * width + c);
      ASSERT_EQ(out[at], T(2) * table[from]);
      want[from] += 2 * double(dout[at]);
    }
  }
  expect_near(dtable, want, 20, "dtable");
}

TYPED_TEST(ElementwiseTest, EqualBitsForAnyThreads) {
  using T = TypeParam;
  const std::int64_t rows = 1900, width = 70;
  const auto x = random_numbers<T>(rows * width, 1);
  std::vector<std::int32_t> ids(std::size_t(rows), 0);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = std::int32_t(i * i % 13);
  expect_equal_bits_for_any_threads([&] {
    std::vector<T> y(width, T(0)), table(13 * width, T(0));
    sum_rows<T>(rows, width, x.data(), width, y.data(), false);
    embedding_backward(rows, width, ids.data(), x.data(), T(1), table.data());
    y.insert(y.end(), table.begin(), table.end());
    y.push_back(T(sum(rows * width, x.data())));
    y.push_back(T(dot(rows * width, x.data(), x.data())));
    return y;
  });
}

}  // namespace
}  // namespace attune::kernels::elementwise_tests
