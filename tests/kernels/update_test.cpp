// Optimizer steps against the formulas in float64, over several steps and odd sizes.
#include "kernels/update.hpp"

#include <limits>

#include "kernels/compare.hpp"

namespace attune::kernels::update_tests {
namespace {

template <class T>
class UpdateTest : public testing::Test {};
TYPED_TEST_SUITE(UpdateTest, Scalars);

TYPED_TEST(UpdateTest, Sgd) {
  using T = TypeParam;
  for (const SgdStep& options :
       {SgdStep{.learning_rate = 0.1}, SgdStep{.learning_rate = 0.1, .weight_decay = 0.01, .grad_scale = 0.5},
        SgdStep{.learning_rate = 0.1, .momentum = 0.9, .dampening = 0.3},
        SgdStep{.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 0.1, .nesterov = true}}) {
    for (std::int64_t n : {1, 17, 5003}) {
      auto w = random_numbers<T>(n, 1);
      std::vector<T> velocity(w.size(), T(99)), update(w.size());  // the first step must not read the velocity
      std::vector<double> want = to_double(w), want_velocity(w.size());
      for (int step = 0; step < 4; ++step) {
        const auto grad = random_numbers<T>(n, std::uint64_t(step) + 5);
        SgdStep now = options;
        now.first = step == 0;
        propose_sgd<T>(n, now, now.weight_decay != 0 ? w.data() : nullptr, grad.data(),
                       now.momentum != 0 ? velocity.data() : nullptr, update.data());
        apply_update(n, 0.0, update.data(), w.data());
        for (std::size_t i = 0; i < w.size(); ++i) {
          double d = now.grad_scale * double(grad[i]) + now.weight_decay * want[i];
          if (now.momentum != 0) {
            double& v = want_velocity[i];
            v = now.first ? d : now.momentum * v + (1 - now.dampening) * d;
            d = now.nesterov ? d + now.momentum * v : v;
          }
          want[i] -= now.learning_rate * d;
        }
      }
      expect_near(w, want, 8, "weights");
    }
  }
}

TYPED_TEST(UpdateTest, AdamAndDecoupledDecay) {
  using T = TypeParam;
  for (double coupled : {0.0, 0.1}) {
    for (std::int64_t n : {1, 33, 20001}) {
      auto w = random_numbers<T>(n, 1);
      std::vector<T> m(w.size()), v(w.size()), update(w.size());
      std::vector<double> want = to_double(w), wm(w.size()), wv(w.size());
      for (int step = 1; step <= 5; ++step) {
        const auto grad = random_numbers<T>(n, std::uint64_t(step) + 5);
        const AdamStep now{.learning_rate = 0.01,
                           .beta1 = 0.9,
                           .beta2 = 0.98,
                           .epsilon = 1e-8,
                           .weight_decay = coupled,
                           .step = step,
                           .grad_scale = 0.25};
        propose_adam<T>(n, now, coupled != 0 ? w.data() : nullptr, grad.data(), m.data(), v.data(), update.data());
        apply_update(n, 0.001, update.data(), w.data());
        for (std::size_t i = 0; i < w.size(); ++i) {
          const double g = 0.25 * double(grad[i]) + coupled * want[i];
          wm[i] = 0.9 * wm[i] + 0.1 * g;
          wv[i] = 0.98 * wv[i] + 0.02 * g * g;
          const double change =
              0.01 * (wm[i] / (1 - std::pow(0.9, step))) / (std::sqrt(wv[i] / (1 - std::pow(0.98, step))) + 1e-8);
          want[i] = want[i] * (1 - 0.001) - change;
        }
      }
      // Where a gradient nearly vanishes, m / sqrt(v) magnifies rounding by a few units.
      expect_near(w, want, sizeof(T) == 4 ? 32 : 64, "weights");
      expect_near(m, wm, 8, "first moment");
      expect_near(v, wv, 8, "second moment");
    }
  }
}

TYPED_TEST(UpdateTest, SumOfSquares) {
  using T = TypeParam;
  for (std::int64_t n : {0, 1, 31, 16384, 50001}) {
    const auto x = random_numbers<T>(n, 3);
    double want = 0;
    for (T v : x) want += double(v) * double(v);
    EXPECT_NEAR(sum_of_squares(n, x.data()), want, 1e-13 * (1 + want));
  }
}

TYPED_TEST(UpdateTest, AllFinite) {
  using T = TypeParam;
  for (std::int64_t n : {1, 29, 40000}) {
    auto x = random_numbers<T>(n, 3);
    x[0] = std::numeric_limits<T>::max();
    EXPECT_TRUE(all_finite(n, x.data()));
    for (std::int64_t at : {std::int64_t(0), n / 2, n - 1}) {
      for (T bad : {std::numeric_limits<T>::infinity(), -std::numeric_limits<T>::infinity(),
                    std::numeric_limits<T>::quiet_NaN()}) {
        auto y = x;
        y[std::size_t(at)] = bad;
        EXPECT_FALSE(all_finite(n, y.data())) << at << " of " << n;
      }
    }
  }
  EXPECT_TRUE(all_finite<T>(0, nullptr));
}

TYPED_TEST(UpdateTest, Clamp) {
  using T = TypeParam;
  auto x = random_numbers<T>(1003, 3);
  x[7] = std::numeric_limits<T>::quiet_NaN();
  x[8] = std::numeric_limits<T>::infinity();
  auto y = x;
  clamp(std::int64_t(y.size()), T(-0.5), T(0.25), y.data());
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (i == 7) {
      EXPECT_TRUE(std::isnan(y[i]));
    } else {
      EXPECT_EQ(y[i], std::min(std::max(x[i], T(-0.5)), T(0.25)));
    }
  }
}

TYPED_TEST(UpdateTest, EqualBitsForAnyThreads) {
  using T = TypeParam;
  const std::int64_t n = 100001;
  const auto grad = random_numbers<T>(n, 1);
  expect_equal_bits_for_any_threads([&] {
    std::vector<T> w = random_numbers<T>(n, 2), m(w.size()), v(w.size()), update(w.size());
    propose_adam<T>(n, {.learning_rate = 0.1}, w.data(), grad.data(), m.data(), v.data(), update.data());
    apply_update(n, 0.01, update.data(), w.data());
    w.push_back(T(sum_of_squares(n, w.data())));
    return w;
  });
}

}  // namespace
}  // namespace attune::kernels::update_tests
