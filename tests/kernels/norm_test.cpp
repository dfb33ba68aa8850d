// Norms against plain loops in float64; gradients against central differences of those loops.
#include "kernels/norm.hpp"

#include "kernels/compare.hpp"

namespace attune::kernels::norm_tests {
namespace {

using Numbers = std::vector<double>;

/// Rows normalised; centre: layer norm, else RMS norm. Empty weight or bias: 1, 0.
Numbers reference(std::int64_t rows, std::int64_t width, bool centre, const Numbers& x, const Numbers& weight,
                  const Numbers& bias, double epsilon, Numbers* mean = nullptr, Numbers* rstd = nullptr) {
  Numbers y(x.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    const double* row = x.data() + r * width;
    double m = 0, squares = 0;
    for (std::int64_t c = 0; centre && c < width; ++c) m += row[c] / double(width);
    for (std::int64_t c = 0; c < width; ++c) squares += (row[c] - m) * (row[c] - m);
    const double scale = 1 / std::sqrt(squares / double(width) + epsilon);
    for (std::int64_t c = 0; c < width; ++c) {
      const auto at = std::size_t(c);
      y[std::size_t(r * width + c)] =
          (row[c] - m) * scale * (weight.empty() ? 1 : weight[at]) + (bias.empty() ? 0 : bias[at]);
    }
    if (mean) mean->push_back(m);
    if (rstd) rstd->push_back(scale);
  }
  return y;
}

/// sum of dout * reference as a function of one number of `input`, differentiated at every place.
template <class F>
Numbers differences(Numbers input, F&& loss) {
  Numbers d;
  for (double& v : input) {
    const double at = v, h = 1e-5;
    v = at + h;
    const double up = loss(input);
    v = at - h;
    d.push_back((up - loss(input)) / (2 * h));
    v = at;
  }
  return d;
}

template <class T>
class NormTest : public testing::Test {};
TYPED_TEST_SUITE(NormTest, Scalars);

TYPED_TEST(NormTest, Forward) {
  using T = TypeParam;
  for (const auto& [rows, width] : {std::array{1, 1}, {3, 5}, {17, 33}, {40, 128}, {9, 1000}}) {
    for (int given = 0; given < 4; ++given) {
      const auto x = random_numbers<T>(rows * width, 1, 2, 5), w = random_numbers<T>(width, 2),
                 b = random_numbers<T>(width, 3);
      const T* weight = given & 1 ? w.data() : nullptr;
      const T* bias = given & 2 ? b.data() : nullptr;
      const Numbers ww = weight ? to_double(w) : Numbers{}, bb = bias ? to_double(b) : Numbers{};
      std::vector<T> y(x.size()), mean(std::size_t(rows), T(0)), rstd = mean;
      Numbers want_mean, want_rstd, rms;
      layer_norm(rows, width, x.data(), weight, bias, 1e-5, y.data(), mean.data(), rstd.data());
      // One number in a row has variance 0: only epsilon is left, and differences of equal numbers are exact.
      expect_near(y, reference(rows, width, true, to_double(x), ww, bb, 1e-5, &want_mean, &want_rstd), 40,
                  "layer norm");
      expect_near(mean, want_mean, 8, "mean");
      expect_near(rstd, want_rstd, 40, "rstd");
      rms_norm(rows, width, x.data(), weight, 1e-6, y.data(), rstd.data());
      expect_near(y, reference(rows, width, false, to_double(x), ww, {}, 1e-6, nullptr, &rms), 16, "rms norm");
      expect_near(rstd, rms, 8, "rms rstd");
    }
  }
}

TYPED_TEST(NormTest, LargeMeanDoesNotCancel) {
  using T = TypeParam;
  const std::int64_t width = 65;
  auto x = random_numbers<T>(width, 1);
  for (T& v : x) v += T(1000);
  std::vector<T> y(x.size());
  layer_norm<T>(1, width, x.data(), nullptr, nullptr, 1e-5, y.data(), nullptr, nullptr);
  // The mean itself is rounded to about 1000 * epsilon; mean(x^2) - mean^2 would lose 1000^2 * epsilon of the variance.
  expect_near(y, reference(1, width, true, to_double(x), {}, {}, 1e-5), 4000, "y");
}

TYPED_TEST(NormTest, BackwardIsTheDerivative) {
  using T = TypeParam;
  const double epsilon = 1e-3;
  for (const auto& [rows, width] : {std::array{1, 7}, {4, 21}, {3, 64}}) {
    for (bool centre : {true, false}) {
      for (bool weighted : {true, false}) {
        const auto x = random_numbers<T>(rows * width, 1), w = random_numbers<T>(width, 2, 0.5, 2),
                   dy = random_numbers<T>(rows * width, 3), before = random_numbers<T>(rows * width, 4);
        const T* weight = weighted ? w.data() : nullptr;
        std::vector<T> y(x.size()), mean(std::size_t(rows), T(0)), rstd = mean, dx(x.size()), sum = before;
        std::vector<T> dweight(w.size(), T(1)), dbias(w.size(), T(2));  // gradients are added
        if (centre) {
          layer_norm<T>(rows, width, x.data(), weight, nullptr, epsilon, y.data(), mean.data(), rstd.data());
          layer_norm_backward<T>(rows, width, x.data(), weight, mean.data(), rstd.data(), dy.data(), dx.data(), false,
                                 dweight.data(), dbias.data());
          layer_norm_backward<T>(rows, width, x.data(), weight, mean.data(), rstd.data(), dy.data(), sum.data(), true,
                                 nullptr, nullptr);
        } else {
          rms_norm<T>(rows, width, x.data(), weight, epsilon, y.data(), rstd.data());
          rms_norm_backward<T>(rows, width, x.data(), weight, rstd.data(), dy.data(), dx.data(), false, dweight.data());
          rms_norm_backward<T>(rows, width, x.data(), weight, rstd.data(), dy.data(), sum.data(), true, nullptr);
        }
        const Numbers xd = to_double(x), wd = weighted ? to_double(w) : Numbers(w.size(), 1.0);
        const auto loss = [&, rows = rows, width = width](const Numbers& at, const Numbers& by, const Numbers& plus) {
          const Numbers out = reference(rows, width, centre, at, by, plus, epsilon);
          double total = 0;
          for (std::size_t i = 0; i < out.size(); ++i) total += out[i] * double(dy[i]);
          return total;
        };
        const Numbers none(w.size(), 0.0);
        const Numbers want_dx = differences(xd, [&](const Numbers& v) { return loss(v, wd, none); });
        const Numbers want_dw = differences(wd, [&](const Numbers& v) { return loss(xd, v, none); });
        const Numbers want_db = differences(none, [&](const Numbers& v) { return loss(xd, wd, v); });
        const double tolerance = sizeof(T) == 4 ? 4e-6 : 1e-8;  // of the differences, in float64
        for (std::size_t i = 0; i < dx.size(); ++i) {
          ASSERT_NEAR(double(dx[i]), want_dx[i], tolerance * (1 + std::abs(want_dx[i])));
          ASSERT_NEAR(double(sum[i]), double(before[i]) + want_dx[i], tolerance * (2 + std::abs(want_dx[i])));
        }
        for (std::size_t c = 0; c < w.size(); ++c) {
          ASSERT_NEAR(double(dweight[c]), 1 + want_dw[c], tolerance * (2 + std::abs(want_dw[c])));
          if (centre) {
            ASSERT_NEAR(double(dbias[c]), 2 + want_db[c], tolerance * (3 + std::abs(want_db[c])));
          }
        }
      }
    }
  }
}

TYPED_TEST(NormTest, EqualBitsForAnyThreads) {
  using T = TypeParam;
  const std::int64_t rows = 700, width = 70;
  const auto x = random_numbers<T>(rows * width, 1), dy = random_numbers<T>(rows * width, 2);
  expect_equal_bits_for_any_threads([&] {
    std::vector<T> y(x.size()), dx(x.size()), mean(700, T(0)), rstd = mean, dweight(70, T(0)), dbias = dweight;
    layer_norm<T>(rows, width, x.data(), nullptr, nullptr, 1e-5, y.data(), mean.data(), rstd.data());
    layer_norm_backward<T>(rows, width, x.data(), nullptr, mean.data(), rstd.data(), dy.data(), dx.data(), false,
                           dweight.data(), dbias.data());
    for (const auto* part : {&dx, &dweight, &dbias}) y.insert(y.end(), part->begin(), part->end());
    return y;
  });
}

}  // namespace
}  // namespace attune::kernels::norm_tests
