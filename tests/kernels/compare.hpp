// What the tests of the layer kernels share: random numbers, comparison with a bound, and the same bits for any number
// of threads.
#pragma once
#include <gtest/gtest.h>

#include <array>

#include <cmath>
#include <cstring>
#include <vector>

#include "attune/base/parallel.hpp"
#include "attune/base/rng.hpp"

namespace attune::kernels {

using Scalars = testing::Types<float, double>;

template <class T>
std::vector<T> random_numbers(std::int64_t n, std::uint64_t seed, double low = -1, double high = 1) {
  Generator generator(seed);
  std::vector<T> v(static_cast<std::size_t>(n));
  for (T& x : v) x = T(generator.uniform(low, high));
  return v;
}

template <class T>
std::vector<double> to_double(const std::vector<T>& v) {
  return {v.begin(), v.end()};
}

/// |got - want| <= tolerance * (1 + |want|) everywhere; the tolerance is in units of the epsilon of T.
template <class T>
void expect_near(const std::vector<T>& got, const std::vector<double>& want, double epsilons, const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  const double bound = epsilons * std::pow(2.0, sizeof(T) == 4 ? -23 : -52);
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (double(got[i]) == want[i]) continue;  // infinities
    ASSERT_NEAR(double(got[i]), want[i], bound * (1 + std::abs(want[i]))) << what << " at " << i;
  }
}

/// f() returns a vector of numbers; it must have the same bits with 1, 2, 3 and 8 threads.
template <class F>
void expect_equal_bits_for_any_threads(F&& f) {
  const int before = num_threads();
  set_num_threads(1);
  const auto once = f();
  for (int threads : {2, 3, 8}) {
    set_num_threads(threads);
    const auto again = f();
    EXPECT_EQ(once.size(), again.size());
    EXPECT_EQ(0, std::memcmp(once.data(), again.data(), once.size() * sizeof(once[0]))) << threads << " threads";
  }
  set_num_threads(before);
}

}  // namespace attune::kernels
