// Holds gradients against the function itself, in float64, by two tests that need nothing but the forward pass.
//
//   central differences   (L(x + e) - L(x - e)) / 2e  against every component of the gradient
//   Taylor                |L(x + h v) - L(x) - h <g, v>| must fall as h^2 for h = 2^-3 ... 2^-9: a wrong term, however
//                         small, falls as h and shows as a slope of 1
//
// L = <w, f(x)> with fixed random weights w, so every output takes part. Piecewise functions are checked where no kink
// is crossed; the caller picks such inputs.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "attune/autograd/tensor.hpp"

namespace attune {

struct GradcheckOptions {
  double epsilon = 1e-6;             // step of the central differences
  double absolute = 1e-6;            // bound on |difference| ...
  double relative = 1e-5;            // ... + relative * |gradient|
  std::int64_t most_elements = 512;  // of one input that differences are taken of; evenly spread if it has more
  double taylor_length = 1;          // length scale of the direction v
  double skip_remainder = 1e-11;     // remainders below this are rounding
  std::uint64_t seed = 1;
};

struct GradcheckReport {
  bool passed = false;
  double worst_difference = 0;  // largest |difference - gradient|
  double taylor_slope = 2;      // 2 if every remainder was too small to tell (a linear function)
  std::string text;             // what failed, or "passed"
};

/// Checks every input of a function from tensors to one tensor. The inputs must be float64; their gradients are
/// replaced. The function must give the same result for the same inputs (fix the seed of dropout).
GradcheckReport gradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& function, std::vector<Tensor> inputs,
                          const GradcheckOptions& options = {});

}  // namespace attune
