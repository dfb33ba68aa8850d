// Shared by the tests of operators and modules.
#pragma once
#include <gtest/gtest.h>

#include <vector>

#include "attune/autograd/gradcheck.hpp"
#include "attune/autograd/tensor.hpp"
#include "attune/base/parallel.hpp"

namespace attune::testing_support {

inline Tensor normal(const Shape& shape, std::uint64_t seed, DType dtype = DType::float64) {
  Generator g(seed);
  return Tensor::randn(shape, g, dtype);
}

using Inputs = std::vector<Tensor>;
template <class F>
void expect_gradients(F f, Inputs inputs, const GradcheckOptions& options = {}) {
  const GradcheckReport r = gradcheck(f, std::move(inputs), options);
  EXPECT_TRUE(r.passed) << r.text;
}

/// Largest |a - b| / largest |b|.
inline double error_of(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.shape(), b.shape());
  const auto x = a.to_vector(), y = b.to_vector();
  double off = 0, top = 1e-300;
  for (std::size_t i = 0; i < x.size(); ++i) {
    off = std::max(off, x[i] == y[i] ? 0 : std::abs(x[i] - y[i]));
    top = std::max(top, std::abs(y[i]));
  }
  return off / top;
}

/// Runs f with 1 and with 2 threads; all results must have equal bits.
template <class F>
void expect_equal_bits_for_any_threads(F f) {
  const int before = num_threads();
  set_num_threads(1);
  const std::vector<Tensor> one = f();
  for (int threads : {2, 3}) {
    set_num_threads(threads);
    const std::vector<Tensor> many = f();
    ASSERT_EQ(one.size(), many.size());
    for (std::size_t i = 0; i < one.size(); ++i) EXPECT_EQ(one[i].to_vector(), many[i].to_vector()) << "result " << i;
  }
  set_num_threads(before);
}

}  // namespace attune::testing_support
