// Functions of single numbers against the C library in float64, their derivatives against closed forms, limits, and
// dropout against the scalar definition of its bits.
#include "kernels/activation.hpp"

#include <limits>

#include "attune/base/dropout.hpp"
#include "kernels/compare.hpp"

namespace attune::kernels::activation_tests {
namespace {

constexpr Pointwise kAll[] = {Pointwise::relu, Pointwise::gelu,    Pointwise::gelu_tanh,
                              Pointwise::silu, Pointwise::sigmoid, Pointwise::tanh,
                              Pointwise::exp,  Pointwise::log,     Pointwise::sqrt};
constexpr double kPi = 3.14159265358979323846;

double phi(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * kPi); }
double normal(double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; }
double logistic(double x) { return 1 / (1 + std::exp(-x)); }
double gelu_argument(double x) { return 2 * std::sqrt(2 / kPi) * (x + 0.044715 * x * x * x); }

double value(Pointwise f, double x) {
  switch (f) {
    case Pointwise::relu:
      return x > 0 ? x : 0;
    case Pointwise::gelu:
      return x * normal(x);
    case Pointwise::gelu_tanh:
      return x * logistic(gelu_argument(x));  // (1 + tanh z) / 2 = logistic(2 z), which does not cancel
    case Pointwise::silu:
      return x * logistic(x);
    case Pointwise::sigmoid:
      return logistic(x);
    case Pointwise::tanh:
      return std::tanh(x);
    case Pointwise::exp:
      return std::exp(x);
    case Pointwise::log:
      return std::log(x);
    case Pointwise::sqrt:
      return std::sqrt(x);
  }
  return 0;
}
double slope(Pointwise f, double x) {
  switch (f) {
    case Pointwise::relu:
      return x > 0 ? 1 : 0;
    case Pointwise::gelu:
      return normal(x) + x * phi(x);
    case Pointwise::gelu_tanh: {
      const double p = logistic(gelu_argument(x)), q = logistic(-gelu_argument(x));
      return p + x * p * q * 2 * std::sqrt(2 / kPi) * (1 + 3 * 0.044715 * x * x);
    }
    case Pointwise::silu:
      return logistic(x) * (1 + x * logistic(-x));
    case Pointwise::sigmoid:
      return logistic(x) * logistic(-x);
    case Pointwise::tanh:
      return 1 - std::tanh(x) * std::tanh(x);
    case Pointwise::exp:
      return std::exp(x);
    case Pointwise::log:
      return 1 / x;
    case Pointwise::sqrt:
      return 0.5 / std::sqrt(x);
  }
  return 0;
}
bool positive_only(Pointwise f) { return f == Pointwise::log || f == Pointwise::sqrt; }

template <class T>
class ActivationTest : public testing::Test {};
TYPED_TEST_SUITE(ActivationTest, Scalars);

TYPED_TEST(ActivationTest, ValuesAndSlopesAtOddSizes) {
  using T = TypeParam;
  for (Pointwise f : kAll) {
    for (std::int64_t n : {1, 15, 33, 5001}) {
      SCOPED_TRACE(testing::Message() << "function " << int(f) << ", n " << n);
      const auto x = random_numbers<T>(n, 1, positive_only(f) ? 0.01 : -12, 12);
      const auto dy = random_numbers<T>(n, 2), before = random_numbers<T>(n, 3);
      std::vector<T> y(x.size()), dx(x.size()), sum = before;
      pointwise(f, n, x.data(), y.data());
      const T* saved = saves_result(f) ? y.data() : x.data();
      pointwise_backward(f, n, saved, dy.data(), dx.data(), false);
      pointwise_backward(f, n, saved, dy.data(), sum.data(), true);
      std::vector<double> want_y, want_dx, want_sum;
      for (std::size_t i = 0; i < x.size(); ++i) {
        want_y.push_back(value(f, x[i]));
        want_dx.push_back(slope(f, x[i]) * dy[i]);
        want_sum.push_back(before[i] + want_dx.back());
      }
      expect_near(y, want_y, 4, "y");
      expect_near(dx, want_dx, 8, "dx");
      expect_near(sum, want_sum, 8, "dx added");
      auto in_place = x;
      pointwise(f, n, in_place.data(), in_place.data());
      EXPECT_EQ(in_place, y);
    }
  }
}

// Relative error, not absolute: small results keep their digits. 2^-23 = 1.2e-7 is one unit in the last place of float.
TYPED_TEST(ActivationTest, RelativeError) {
  using T = TypeParam;
  const double bound = sizeof(T) == 4 ? 3e-7 : 6e-16;
  const auto check = [&](Pointwise f, double low, double high) {
    std::vector<T> x, y;
    for (int i = 0; i <= 20000; ++i) x.push_back(T(low + (high - low) * i / 20000));
    y.resize(x.size());
    pointwise(f, std::int64_t(x.size()), x.data(), y.data());
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double want = value(f, double(x[i]));
      if (want != 0) worst = std::max(worst, std::abs(double(y[i]) - want) / std::abs(want));
    }
    EXPECT_LE(worst, bound) << "function " << int(f);
  };
  check(Pointwise::exp, -87, 88);
  check(Pointwise::exp, -0.5, 0.5);
  check(Pointwise::tanh, -10, 10);
  check(Pointwise::tanh, -0.01, 0.01);
  check(Pointwise::sigmoid, -80, 20);
  check(Pointwise::gelu, 0, 10);
  check(Pointwise::silu, -80, 20);
}

TYPED_TEST(ActivationTest, LeftTailOfGeluIsAbsolutelyAccurate) {
  using T = TypeParam;
  std::vector<T> x, y;
  for (int i = 0; i <= 4000; ++i) x.push_back(T(-20 + i * 0.005));
  y.resize(x.size());
  pointwise(Pointwise::gelu, std::int64_t(x.size()), x.data(), y.data());
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_NEAR(double(y[i]), value(Pointwise::gelu, double(x[i])), sizeof(T) == 4 ? 1e-7 : 2e-16) << x[i];
  }
}

TYPED_TEST(ActivationTest, LimitsAndNaN) {
  using T = TypeParam;
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const std::vector<T> x = {-inf, inf, nan, T(-1000), T(1000), T(0)};
  const auto of = [&](Pointwise f) {
    std::vector<T> y(x.size());
    pointwise(f, std::int64_t(x.size()), x.data(), y.data());
    EXPECT_TRUE(std::isnan(y[2])) << "function " << int(f);
    return y;
  };
  for (Pointwise f : {Pointwise::relu, Pointwise::gelu, Pointwise::gelu_tanh, Pointwise::silu}) {
    const auto y = of(f);
    EXPECT_NEAR(double(y[0]), 0, 1e-40) << "function " << int(f);
    EXPECT_EQ(y[1], inf) << "function " << int(f);
    EXPECT_NEAR(double(y[3]), 0, 1e-40) << "function " << int(f);
    EXPECT_EQ(y[4], T(1000)) << "function " << int(f);
    EXPECT_EQ(y[5], T(0)) << "function " << int(f);
    // The gradient is 0 far left and 1 far right.
    const std::vector<T> dy(x.size(), T(1));
    std::vector<T> dx(x.size());
    pointwise_backward(f, std::int64_t(x.size()), x.data(), dy.data(), dx.data(), false);
    EXPECT_NEAR(double(dx[0]), 0, 1e-40) << "function " << int(f);
    EXPECT_EQ(dx[1], T(1)) << "function " << int(f);
  }
  EXPECT_EQ(of(Pointwise::sigmoid)[0], T(0));
  EXPECT_EQ(of(Pointwise::sigmoid)[1], T(1));
  EXPECT_EQ(of(Pointwise::tanh)[0], T(-1));
  EXPECT_EQ(of(Pointwise::tanh)[4], T(1));
  EXPECT_EQ(of(Pointwise::exp)[0], T(0));
  EXPECT_EQ(of(Pointwise::exp)[1], inf);
  EXPECT_EQ(of(Pointwise::exp)[3], T(0));
  EXPECT_EQ(of(Pointwise::exp)[4], inf);
  EXPECT_EQ(of(Pointwise::exp)[5], T(1));
}

/// The definition in activation.hpp, one element at a time.
bool keeps(std::uint64_t seed, std::uint64_t element, std::uint32_t threshold) {
  const std::uint64_t b = element / 512 * 64 + element % 64, slot = element % 512 / 64;
  const PhiloxCounter block = philox<7>({std::uint32_t(b), std::uint32_t(b >> 32), 0xffffffffu, 0},
                                        {std::uint32_t(seed), std::uint32_t(seed >> 32)});
  return ((block[slot / 2] >> (16 * (slot % 2))) & 0xffffu) < threshold;
}

TYPED_TEST(ActivationTest, DropoutIsItsDefinition) {
  using T = TypeParam;
  const std::uint64_t seed = 0x123456789abcdef0ull;
  const std::uint32_t threshold = dropout_threshold(0.1);
  for (std::uint64_t offset : {std::uint64_t(0), std::uint64_t(3), std::uint64_t(700), std::uint64_t(1) << 36}) {
    for (std::int64_t n : {1, 63, 512, 1700}) {
      const auto x = random_numbers<T>(n, 1), base = random_numbers<T>(n, 2);
      std::vector<T> y(x.size()), z(x.size());
      dropout(n, x.data(), threshold, seed, offset, y.data());
      add_dropout(n, base.data(), x.data(), threshold, seed, offset, z.data());
      for (std::int64_t i = 0; i < n; ++i) {
        const auto at = std::size_t(i);
        const bool stays = keeps(seed, offset + std::uint64_t(i), threshold);
        ASSERT_EQ(y[at], stays ? T(x[at] * T(dropout_scale(threshold))) : T(0)) << i;
        ASSERT_EQ(z[at], T(base[at] + y[at])) << i;
      }
      auto in_place = x;
      dropout(n, in_place.data(), threshold, seed, offset, in_place.data());
      EXPECT_EQ(in_place, y);
    }
  }
}

TYPED_TEST(ActivationTest, DropoutKeepsItsShareAndTheMean) {
  using T = TypeParam;
  const std::int64_t n = 100000;
  const std::vector<T> ones(std::size_t(n), T(1));
  std::vector<T> y(ones.size());
  dropout(n, ones.data(), dropout_threshold(0.3), 7, 0, y.data());
  double sum = 0;
  for (T v : y) sum += double(v);
  // The mean of n such numbers has a standard deviation of sqrt(0.3 / 0.7 / n) = 0.002.
  EXPECT_NEAR(sum / double(n), 1.0, 0.01);
  dropout(n, ones.data(), 65536, 7, 0, y.data());
  EXPECT_EQ(y, ones);
}

TYPED_TEST(ActivationTest, EqualBitsForAnyThreads) {
  const std::int64_t n = 70001;
  const auto x = random_numbers<TypeParam>(n, 1);
  expect_equal_bits_for_any_threads([&] {
    std::vector<TypeParam> y(x.size());
    pointwise(Pointwise::gelu, n, x.data(), y.data());
    add_dropout(n, y.data(), x.data(), 60000, 5, 9, y.data());
    return y;
  });
}

}  // namespace
}  // namespace attune::kernels::activation_tests
