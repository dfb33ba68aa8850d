// Products of the layers against plain loops: every transpose, stride, tail, bias, epilogue and path.
#include "kernels/matmul.hpp"

#include "kernels/compare.hpp"

namespace attune::kernels::matmul_tests {
namespace {

struct Case {
  std::int64_t m, n, k;
  bool transpose_a = false, transpose_b = false, accumulate = false, bias = false, keep = false;
  Epilogue epilogue = Epilogue::none;
  double alpha = 1;
};

double apply(Epilogue f, double x) {
  switch (f) {
    case Epilogue::relu:
      return x > 0 ? x : 0;
    case Epilogue::gelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case Epilogue::silu:
      return x / (1 + std::exp(-x));
    default:
      return x;
  }
}

double slope(Epilogue f, double x) {
  const double p = 1 / (1 + std::exp(-x)), phi = 0.3989422804014327 * std::exp(-0.5 * x * x);
  switch (f) {
    case Epilogue::relu:
      return x > 0 ? 1 : 0;
    case Epilogue::gelu:
      return 0.5 * std::erfc(-x / std::sqrt(2.0)) + x * phi;
    case Epilogue::silu:
      return p + x * p * (1 - p);
    default:
      return 1;
  }
}

/// Row strides are wider than the rows: what lies between must keep its value, and no input is read past its end.
template <class T>
void check(const Case& t) {
  SCOPED_TRACE(testing::Message() << t.m << " x " << t.n << " x " << t.k << " ta " << t.transpose_a << " tb "
                                  << t.transpose_b << " add " << t.accumulate << " bias " << t.bias << " f "
                                  << int(t.epilogue));
  const std::int64_t a_rows = t.transpose_a ? t.k : t.m, a_columns = t.transpose_a ? t.m : t.k;
  const std::int64_t b_rows = t.transpose_b ? t.n : t.k, b_columns = t.transpose_b ? t.k : t.n;
  const std::int64_t lda = a_columns + 3, ldb = b_columns + 1, ldc = t.n + 2;
  const auto a = random_numbers<T>(a_rows ? (a_rows - 1) * lda + a_columns : 0, 1);
  const auto b = random_numbers<T>(b_rows ? (b_rows - 1) * ldb + b_columns : 0, 2);
  const auto bias = random_numbers<T>(t.n, 3);
  const auto before = random_numbers<T>(t.m * ldc, 4);
  auto c = before, kept = before;
  matmul(Matmul<T>{.rows = t.m,
                   .columns = t.n,
                   .inner = t.k,
                   .a = a.data(),
                   .a_stride = lda,
                   .transpose_a = t.transpose_a,
                   .b = b.data(),
                   .b_stride = ldb,
                   .transpose_b = t.transpose_b,
                   .c = c.data(),
                   .c_stride = ldc,
                   .alpha = T(t.alpha),
                   .accumulate = t.accumulate,
                   .bias = t.bias ? bias.data() : nullptr,
                   .epilogue = t.epilogue,
                   .slope = t.keep ? kept.data() : nullptr});
  std::vector<double> want = to_double(before), want_kept = want;
  for (std::int64_t i = 0; i < t.m; ++i) {
    for (std::int64_t j = 0; j < t.n; ++j) {
      double sum = 0;
      for (std::int64_t e = 0; e < t.k; ++e) {
        sum += double(a[std::size_t(t.transpose_a ? e * lda + i : i * lda + e)]) *
               double(b[std::size_t(t.transpose_b ? j * ldb + e : e * ldb + j)]);
      }
      const std::size_t at = std::size_t(i * ldc + j);
      sum = t.alpha * sum + (t.accumulate ? double(before[at]) : 0) + (t.bias ? double(bias[std::size_t(j)]) : 0);
      if (t.keep) want_kept[at] = slope(t.epilogue, sum);
      want[at] = apply(t.epilogue, sum);
    }
  }
  const double epsilons = 4 + 0.5 * double(t.k);
  expect_near(c, want, epsilons, "c");
  expect_near(kept, want_kept, epsilons, "slope");
}

template <class T>
class MatmulTest : public testing::Test {};
TYPED_TEST_SUITE(MatmulTest, Scalars);

TYPED_TEST(MatmulTest, EveryTransposeAtOddSizes) {
  for (bool ta : {false, true}) {
    for (bool tb : {false, true}) {
      for (bool accumulate : {false, true}) {
        for (const auto& [m, n, k] : {std::array{1, 1, 1},
                                      {1, 37, 19},
                                      {3, 5, 70},
                                      {8, 67, 33},
                                      {9, 65, 31},
                                      {17, 130, 40},
                                      {33, 20, 129},
                                      {100, 71, 17},
                                      {131, 7, 3}}) {
          check<TypeParam>({.m = m, .n = n, .k = k, .transpose_a = ta, .transpose_b = tb, .accumulate = accumulate});
        }
      }
    }
  }
}

TYPED_TEST(MatmulTest, LongSumsTakeSeveralChunks) {
  check<TypeParam>({.m = 20, .n = 33, .k = 777});
  check<TypeParam>({.m = 20, .n = 33, .k = 777, .transpose_b = true, .bias = true});
  check<TypeParam>({.m = 29, .n = 17, .k = 600, .transpose_a = true, .accumulate = true});
}

TYPED_TEST(MatmulTest, LargeOnesAreCutIntoBlocks) {
  // More of b than is packed at a time: along the columns, and along k.
  for (bool tb : {false, true}) {
    check<TypeParam>({.m = 19, .n = 2900, .k = 400, .transpose_b = tb, .bias = true, .epilogue = Epilogue::relu});
    check<TypeParam>({.m = 19, .n = 1000, .k = 1150, .transpose_a = true, .transpose_b = tb, .accumulate = true});
  }
  check<TypeParam>({.m = 430, .n = 130, .k = 1100, .transpose_a = true});
}

TYPED_TEST(MatmulTest, TransposedRowsAMultipleOfTheCacheApart) {
  check<TypeParam>({.m = 300, .n = 200, .k = 300, .transpose_a = true});  // b is packed here, and read in place there
  check<TypeParam>({.m = 509, .n = 70, .k = 300, .transpose_a = true});   // rows of a are then 512 apart
}

TYPED_TEST(MatmulTest, BiasAndEpilogues) {
  for (Epilogue f : {Epilogue::none, Epilogue::relu, Epilogue::gelu, Epilogue::silu}) {
    for (int m : {1, 7, 12, 40}) {
      for (bool tb : {false, true}) {
        for (bool keep : {false, true}) {
          check<TypeParam>({.m = m,
                            .n = 75,
                            .k = 30,
                            .transpose_b = tb,
                            .accumulate = keep,
                            .bias = true,
                            .keep = keep,
                            .epilogue = f});
        }
      }
    }
  }
}

TYPED_TEST(MatmulTest, SumsOfATransposedA) {
  // Beside few and many rows and columns, several chunks, and more of b than is packed at a time.
  for (const auto& [m, n, k] : {std::array{3, 5, 7}, {12, 40, 600}, {200, 150, 33}, {20, 1000, 1150}, {14, 3, 0}}) {
    const auto a = random_numbers<TypeParam>(m * k, 1), b = random_numbers<TypeParam>(n * k, 2);
    const auto before = random_numbers<TypeParam>(m, 3);
    std::vector<TypeParam> c(std::size_t(m * n)), sums = before;
    matmul(Matmul<TypeParam>{.rows = m,
                             .columns = n,
                             .inner = k,
                             .a = a.data(),
                             .a_stride = m,
                             .transpose_a = true,
                             .b = b.data(),
                             .b_stride = n,
                             .c = c.data(),
                             .c_stride = n,
                             .a_sums = sums.data()});
    std::vector<double> want = to_double(before);
    for (std::int64_t i = 0; i < m * k; ++i) want[std::size_t(i % m)] += double(a[std::size_t(i)]);
    expect_near(sums, want, 4 + 0.5 * double(k), "sums");
  }
}

TYPED_TEST(MatmulTest, AlphaScalesTheProductOnly) {
  for (int m : {2, 40}) {
    for (bool tb : {false, true}) {
      check<TypeParam>({.m = m, .n = 21, .k = 18, .transpose_b = tb, .accumulate = true, .bias = true, .alpha = -2.5});
    }
  }
}

TYPED_TEST(MatmulTest, EmptyExtents) {
  for (bool tb : {false, true}) {
    for (int m : {0, 2, 30}) {
      check<TypeParam>({.m = m, .n = 5, .k = 0, .transpose_b = tb, .bias = true});
      check<TypeParam>({.m = m, .n = 5, .k = 0, .transpose_b = tb, .accumulate = true});
      check<TypeParam>({.m = m, .n = 0, .k = 4, .transpose_b = tb});
    }
  }
}

TYPED_TEST(MatmulTest, BatchesAreSingleProducts) {
  const std::int64_t m = 19, n = 23, k = 11, batch = 5;
  const auto a = random_numbers<TypeParam>(batch * m * k, 1), b = random_numbers<TypeParam>(n * k, 2);
  Matmul<TypeParam> p{.rows = m,
                      .columns = n,
                      .inner = k,
                      .a = a.data(),
                      .a_stride = k,
                      .b = b.data(),
                      .b_stride = k,
                      .transpose_b = true,
                      .c_stride = n};
  std::vector<TypeParam> together(std::size_t(batch * m * n)), alone = together;
  p.c = together.data();
  matmul_batched(p, batch, m * k, 0, m * n);
  for (std::int64_t i = 0; i < batch; ++i) {
    p.a = a.data() + i * m * k;
    p.c = alone.data() + i * m * n;
    matmul(p);
  }
  EXPECT_EQ(together, alone);
}

TYPED_TEST(MatmulTest, EqualBitsForAnyThreads) {
  // A transposed a with a long sum, as for a weight's gradient, and a wide forward.
  for (const auto& [m, n, k, ta, tb] : {std::array{130, 70, 700, 1, 0}, {150, 700, 40, 0, 1}, {8, 900, 300, 0, 1}}) {
    const auto a = random_numbers<TypeParam>(m * k, 1), b = random_numbers<TypeParam>(n * k, 2);
    expect_equal_bits_for_any_threads([&, m = m, n = n, k = k, ta = ta, tb = tb] {
      std::vector<TypeParam> c(std::size_t(m * n));
      matmul(Matmul<TypeParam>{.rows = m,
                               .columns = n,
                               .inner = k,
                               .a = a.data(),
                               .a_stride = ta ? m : k,
                               .transpose_a = ta != 0,
                               .b = b.data(),
                               .b_stride = tb ? k : n,
                               .transpose_b = tb != 0,
                               .c = c.data(),
                               .c_stride = n});
      return c;
    });
  }
}

}  // namespace
}  // namespace attune::kernels::matmul_tests
