// Cross-entropy and softmax against plain loops in float64.
#include "kernels/loss.hpp"

#include <limits>

#include "kernels/compare.hpp"

namespace attune::kernels::loss_tests {
namespace {

using Numbers = std::vector<double>;

/// log softmax of each row.
Numbers log_probabilities(std::int64_t rows, std::int64_t width, const Numbers& x) {
  Numbers y(x.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    double top = -1e300, sum = 0;
    for (std::int64_t c = 0; c < width; ++c) top = std::max(top, x[std::size_t(r * width + c)]);
    for (std::int64_t c = 0; c < width; ++c) sum += std::exp(x[std::size_t(r * width + c)] - top);
    for (std::int64_t c = 0; c < width; ++c) {
      y[std::size_t(r * width + c)] = x[std::size_t(r * width + c)] - top - std::log(sum);
    }
  }
  return y;
}

template <class T>
class LossTest : public testing::Test {};
TYPED_TEST_SUITE(LossTest, Scalars);

TYPED_TEST(LossTest, CrossEntropyAndItsGradient) {
  using T = TypeParam;
  for (const auto& [rows, classes] : {std::array{1, 1}, {1, 2}, {5, 37}, {23, 128}, {7, 2000}}) {
    for (double smoothing : {0.0, 0.1}) {
      const auto logits = random_numbers<T>(rows * classes, 1, -6, 6);
      std::vector<std::int32_t> labels;
      for (std::int64_t r = 0; r < rows; ++r) labels.push_back(r % 5 == 3 ? -7 : std::int32_t(r * 31 % classes));
      const double scale = 0.25;
      std::vector<T> loss(std::size_t(rows), T(9)), loss_only = loss, dlogits(logits.size(), T(9)), in_place = logits;
      CrossEntropy<T> p{.rows = rows,
                        .classes = classes,
                        .logits = logits.data(),
                        .labels = labels.data(),
                        .label_smoothing = smoothing,
                        .ignore_index = -7,
                        .loss = loss.data(),
                        .dlogits = dlogits.data(),
                        .grad_scale = T(scale)};
      cross_entropy(p);
      p.dlogits = nullptr;
      p.loss = loss_only.data();
      cross_entropy(p);
      EXPECT_EQ(loss, loss_only);
      p.logits = p.dlogits = in_place.data();
      cross_entropy(p);
      EXPECT_EQ(in_place, dlogits);

      const Numbers logp = log_probabilities(rows, classes, to_double(logits));
      Numbers want_loss, want_gradient;
      for (std::int64_t r = 0; r < rows; ++r) {
        const bool counts = labels[std::size_t(r)] != -7;
        double sum = 0;
        for (std::int64_t c = 0; c < classes; ++c) {
          const double target = (c == labels[std::size_t(r)] ? 1 - smoothing : 0) + smoothing / double(classes);
          const double l = logp[std::size_t(r * classes + c)];
          if (counts && target != 0) sum -= target * l;
          want_gradient.push_back(counts ? scale * (std::exp(l) - target) : 0);
        }
        want_loss.push_back(sum);
      }
      expect_near(loss, want_loss, 8 + 0.01 * double(classes), "loss");  // the reference adds in order, too
      expect_near(dlogits, want_gradient, 4, "dlogits");
    }
  }
}

TYPED_TEST(LossTest, TheSquareOfTheLogSumIsAdded) {
  using T = TypeParam;
  const std::int64_t rows = 5, classes = 37;
  const double z = 0.02, scale = 0.25, smoothing = 0.1;
  const auto logits = random_numbers<T>(rows * classes, 1, -6, 9);
  std::vector<std::int32_t> labels = {3, -7, 36, 0, 11};
  std::vector<T> loss(std::size_t(rows), T(9)), dlogits(logits.size(), T(9)), plain_loss = loss, plain = dlogits;
  CrossEntropy<T> p{.rows = rows,
                    .classes = classes,
                    .logits = logits.data(),
                    .labels = labels.data(),
                    .label_smoothing = smoothing,
                    .z_loss = z,
                    .ignore_index = -7,
                    .loss = loss.data(),
                    .dlogits = dlogits.data(),
                    .grad_scale = T(scale)};
  cross_entropy(p);
  p.z_loss = 0, p.loss = plain_loss.data(), p.dlogits = plain.data();
  cross_entropy(p);
  const Numbers x = to_double(logits), logp = log_probabilities(rows, classes, x);
  Numbers want_loss, want_gradient;
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto at = std::size_t(r * classes);
    const bool counts = labels[std::size_t(r)] != -7;
    const double lse = x[at] - logp[at];
    want_loss.push_back(counts ? double(plain_loss[std::size_t(r)]) + z * lse * lse : 0);
    for (std::size_t c = at; c < at + std::size_t(classes); ++c)
      want_gradient.push_back(counts ? double(plain[c]) + scale * 2 * z * lse * std::exp(logp[c]) : 0);
  }
  expect_near(loss, want_loss, 8, "loss");
  expect_near(dlogits, want_gradient, 4, "dlogits");
}

TYPED_TEST(LossTest, LargeLogitsAndForbiddenClasses) {
  using T = TypeParam;
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  // Row 0: beyond exp's range. Row 1: a class that cannot be. Row 2: ignored, and full of NaN.
  const std::vector<T> logits = {T(1e4), T(0), T(-1e4), T(0), T(0), -inf, nan, nan, nan};
  const std::vector<std::int32_t> labels = {0, 1, -100};
  std::vector<T> loss(3), dlogits(9);
  cross_entropy(CrossEntropy<T>{.rows = 3,
                                .classes = 3,
                                .logits = logits.data(),
                                .labels = labels.data(),
                                .loss = loss.data(),
                                .dlogits = dlogits.data()});
  EXPECT_EQ(loss[0], T(0));
  EXPECT_NEAR(double(loss[1]), std::log(2.0), 1e-6);
  EXPECT_EQ(loss[2], T(0));
  const std::vector<double> want = {0, 0, 0, 0.5, -0.5, 0, 0, 0, 0};
  expect_near(dlogits, want, 2, "dlogits");
}

TYPED_TEST(LossTest, SoftmaxForwardAndBackward) {
  using T = TypeParam;
  for (const auto& [rows, width] : {std::array{1, 1}, {4, 9}, {31, 65}, {3, 1500}}) {
    const auto x = random_numbers<T>(rows * width, 1, -9, 9), dy = random_numbers<T>(rows * width, 2),
               before = random_numbers<T>(rows * width, 3);
    std::vector<T> y(x.size()), log_y(x.size()), dx(x.size()), dx_log(x.size()), sum = before, sum_log = before;
    softmax<T>(rows, width, x.data(), y.data());
    log_softmax<T>(rows, width, x.data(), log_y.data());
    softmax_backward<T>(rows, width, y.data(), dy.data(), dx.data(), false);
    softmax_backward<T>(rows, width, y.data(), dy.data(), sum.data(), true);
    log_softmax_backward<T>(rows, width, log_y.data(), dy.data(), dx_log.data(), false);
    log_softmax_backward<T>(rows, width, log_y.data(), dy.data(), sum_log.data(), true);

    const Numbers logp = log_probabilities(rows, width, to_double(x));
    Numbers p, want_dx, want_dx_log, want_sum, want_sum_log;
    for (double l : logp) p.push_back(std::exp(l));
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t row = i / std::size_t(width) * std::size_t(width);
      double dot = 0, total = 0;
      for (std::size_t c = row; c < row + std::size_t(width); ++c) {
        dot += p[c] * double(dy[c]);
        total += double(dy[c]);
      }
      want_dx.push_back(p[i] * (double(dy[i]) - dot));
      want_dx_log.push_back(double(dy[i]) - p[i] * total);
      want_sum.push_back(double(before[i]) + want_dx.back());
      want_sum_log.push_back(double(before[i]) + want_dx_log.back());
    }
    expect_near(y, p, 4, "softmax");
    expect_near(log_y, logp, 4, "log softmax");
    expect_near(dx, want_dx, 4, "dx");
    expect_near(sum, want_sum, 4, "dx added");
    expect_near(dx_log, want_dx_log, 32, "dx of log");
    expect_near(sum_log, want_sum_log, 32, "dx of log added");
    auto in_place = x;
    softmax<T>(rows, width, in_place.data(), in_place.data());
    EXPECT_EQ(in_place, y);
  }
}

TYPED_TEST(LossTest, ARowThatSeesNothingIsZero) {
  using T = TypeParam;
  const T inf = std::numeric_limits<T>::infinity();
  std::vector<T> x(37, -inf), y(x.size(), T(3));
  softmax<T>(1, 37, x.data(), y.data());
  EXPECT_EQ(y, std::vector<T>(37, T(0)));
  x[20] = T(-5);
  softmax<T>(1, 37, x.data(), y.data());
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], i == 20 ? T(1) : T(0));
}

TYPED_TEST(LossTest, EqualBitsForAnyThreads) {
  using T = TypeParam;
  const std::int64_t rows = 90, classes = 300;
  const auto logits = random_numbers<T>(rows * classes, 1, -4, 4);
  const std::vector<std::int32_t> labels(std::size_t(rows), 17);
  expect_equal_bits_for_any_threads([&] {
    std::vector<T> both(logits.size() + std::size_t(rows));
    cross_entropy(CrossEntropy<T>{.rows = rows,
                                  .classes = classes,
                                  .logits = logits.data(),
                                  .labels = labels.data(),
                                  .label_smoothing = 0.1,
                                  .loss = both.data() + logits.size(),
                                  .dlogits = both.data()});
    return both;
  });
}

}  // namespace
}  // namespace attune::kernels::loss_tests
