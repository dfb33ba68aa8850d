// Spectral norms by Lanczos steps on W^T W, in float64. Stateless: a start that is fixed and some 40 products with a
// vector cost less than a product with a batch of tokens, and leave nothing to be kept between steps, saved or resumed.
// Power iteration, which the paper uses, would need hundreds: the largest singular values of a random matrix lie close
// together, and a vector that has not settled makes a wrong gradient.
#include "attune/autograd/ops/spectral.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "attune/base/rng.hpp"
#include "autograd/impl.hpp"
#include "autograd/loops.hpp"

namespace attune {
namespace {

/// A part of a matrix: rows [R, C], and its largest singular value with its vectors.
struct Singular {
  double sigma = 0;
  std::vector<double> u, v;  // [R], [C], of length 1
};

constexpr int kBisections = 90, kInverseIterations = 3;  // to the last bit; the first of the latter does most
constexpr std::size_t kPartials = 8;                     // sums side by side, added in a fixed order: a vector's worth

template <class T>
double dot_of(const T* a, const double* b, std::size_t n) {
  std::array<double, kPartials> sums{};
  std::size_t i = 0;
  for (; i + kPartials <= n; i += kPartials)
    for (std::size_t k = 0; k < kPartials; ++k) sums[k] += double(a[i + k]) * b[i + k];
  for (; i < n; ++i) sums[0] += double(a[i]) * b[i];
  double sum = 0;
  for (const double s : sums) sum += s;
  return sum;
}

/// Divides by the length, which it returns; a vector of zeros stays.
double normalize(std::vector<double>& x) {
  const double length = std::sqrt(dot_of(x.data(), x.data(), x.size()));
  if (length > 0)
    for (double& value : x) value /= length;
  return length;
}

/// The largest eigenvalue of the symmetric tridiagonal matrix with this diagonal and off-diagonal, and its vector.
/// Bisection counts eigenvalues above a guess by the signs of pivots; inverse iteration from just above the largest one
/// needs no pivoting, since the matrix to be solved is definite.
double largest_of_tridiagonal(const std::vector<double>& diagonal, const std::vector<double>& beside,
                              std::vector<double>& vector) {
  const std::size_t n = diagonal.size();
  double high = 0;
  for (std::size_t i = 0; i < n; ++i)
    high = std::max(high, diagonal[i] + (i > 0 ? beside[i - 1] : 0) + (i + 1 < n ? beside[i] : 0));
  double low = 0;
  for (int i = 0; i < kBisections; ++i) {
    const double guess = low + (high - low) / 2;
    bool above = false;  // whether an eigenvalue lies above the guess
    double pivot = 1;
    for (std::size_t k = 0; k < n && !above; ++k) {
      pivot = guess - diagonal[k] - (k > 0 ? beside[k - 1] * beside[k - 1] / pivot : 0);
      above = !(pivot > 0);
    }
    (above ? low : high) = guess;
  }
  const double shift = high * (1 + 1e-13);  // no eigenvalue lies above high
  vector.assign(n, 1 / std::sqrt(double(n)));
  std::vector<double> pivots(n);
  for (int i = 0; i < kInverseIterations; ++i) {
    for (std::size_t k = 0; k < n; ++k) {  // (shift - T) x = vector: forward ...
      pivots[k] = shift - diagonal[k] - (k > 0 ? beside[k - 1] * beside[k - 1] / pivots[k - 1] : 0);
      if (k > 0) vector[k] += beside[k - 1] / pivots[k - 1] * vector[k - 1];
    }
    for (std::size_t k = n; k-- > 0;)  // ... and back
      vector[k] = (vector[k] + (k + 1 < n ? beside[k] * vector[k + 1] : 0)) / pivots[k];
    normalize(vector);
  }
  return high;
}

/// w [rows, cols]. Lanczos on W^T W with full reorthogonalisation, then the largest eigenvector of what it projects on.
template <class T>
Singular largest_singular(const T* w, std::size_t rows, std::size_t cols, int steps) {
  Singular s{.u = std::vector<double>(rows), .v = std::vector<double>(cols)};
  const auto multiply = [&](const std::vector<double>& v) {  // u = W v
    for (std::size_t r = 0; r < rows; ++r) s.u[r] = dot_of(w + r * cols, v.data(), cols);
  };
  Generator start(0x7370656374726cull);
  for (double& x : s.v) x = start.normal();
  normalize(s.v);
  std::vector<std::vector<double>> basis{s.v};
  std::vector<double> diagonal, beside, weights;
  while (true) {
    multiply(basis.back());
    std::vector<double> next(cols, 0.0);  // W^T W times the last
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < cols; ++c) next[c] += s.u[r] * double(w[r * cols + c]);
    diagonal.push_back(dot_of(next.data(), basis.back().data(), cols));
    if (!std::isfinite(diagonal.back())) return {.sigma = diagonal.back()};
    if (diagonal.front() == 0) return {};  // a matrix of zeros
    if (basis.size() == std::min(std::size_t(steps), cols)) break;
    for (int twice = 0; twice < 2; ++twice) {
      for (const std::vector<double>& q : basis) {
        const double along = dot_of(next.data(), q.data(), cols);
        for (std::size_t c = 0; c < cols; ++c) next[c] -= along * q[c];
      }
    }
    const double length = normalize(next);
    if (!(length > 1e-14 * diagonal.front())) break;  // the space is exhausted: what is known is exact
    beside.push_back(length);
    basis.push_back(std::move(next));
  }
  largest_of_tridiagonal(diagonal, beside, weights);
  std::fill(s.v.begin(), s.v.end(), 0.0);
  for (std::size_t k = 0; k < basis.size(); ++k)
    for (std::size_t c = 0; c < cols; ++c) s.v[c] += weights[k] * basis[k][c];
  normalize(s.v);
  multiply(s.v);
  s.sigma = normalize(s.u);
  return s;
}

void check_matrix(std::string_view function, const Tensor& x, int steps) {
  detail::check_defined(function, x);
  if (x.rank() != 2 || x.size() == 0) fail(function, "a matrix [R, C] with numbers", "got " + x.shape().text());
  if (steps < 1) fail(function, "an iteration or more", "got " + std::to_string(steps));
}

}  // namespace

double spectral_norm(const Tensor& matrix, std::int64_t first, std::int64_t end, int steps) {
  check_matrix("spectral_norm", matrix, steps);
  if (first < 0 || end <= first || end > matrix.shape()[0])
    fail("spectral_norm", "rows within 0 .. " + std::to_string(matrix.shape()[0]),
         "got " + std::to_string(first) + " .. " + std::to_string(end));
  const std::int64_t cols = matrix.shape()[1];
  double sigma = 0;
  detail::on_compute_type("spectral_norm", matrix.dtype(), [&]<class T>(T) {
    sigma = largest_singular(matrix.data<T>() + first * cols, std::size_t(end - first), std::size_t(cols), steps).sigma;
  });
  return sigma;
}

Tensor spectral_scale(const Tensor& weight, const Tensor& gain, const std::vector<std::int64_t>& bounds, int steps) {
  check_matrix("spectral_scale", weight, steps);
  detail::check_same_dtype("spectral_scale", weight, gain);
  const std::int64_t cols = weight.shape()[1], parts = gain.size();
  bool fits = gain.rank() == 1 && std::int64_t(bounds.size()) == parts + 1 && parts > 0 && bounds.front() == 0 &&
              bounds.back() == weight.shape()[0];
  for (std::size_t i = 0; fits && i + 1 < bounds.size(); ++i) fits = bounds[i] < bounds[i + 1];
  if (!fits)
    fail("spectral_scale", "gain [parts], and rising bounds from 0 to the rows of weight " + weight.shape().text(),
         "got gain " + gain.shape().text() + " and " + std::to_string(bounds.size()) + " bounds");
  Tensor out = Tensor::empty(weight.shape(), weight.dtype());
  std::vector<Singular> singular;
  detail::on_compute_type("spectral_scale", weight.dtype(), [&]<class T>(T) {
    for (std::size_t i = 0; i < std::size_t(parts); ++i) {
      const std::int64_t first = bounds[i] * cols, count = (bounds[i + 1] - bounds[i]) * cols;
      const T* w = weight.data<T>() + first;
      singular.push_back(largest_singular(w, std::size_t(bounds[i + 1] - bounds[i]), std::size_t(cols), steps));
      const double sigma = singular.back().sigma;
      if (!(sigma > 0 && std::isfinite(sigma)))
        fail("spectral_scale", "parts with a finite spectral norm above 0",
             "part " + std::to_string(i) + " has " + std::to_string(sigma));
      const T factor = T(double(gain.data<T>()[i]) / sigma);
      detail::store(out.data<T>() + first, count, false, [=](std::int64_t k) { return factor * w[k]; });
    }
  });
  // out = gain / sigma W:  dgain = <dout, W> / sigma,  dW = gain / sigma (dout - <dout, W> / sigma u v^T).
  record("spectral_scale", out, {weight, gain},
         [weight = weight.detach(), gain = gain.detach(), bounds, singular = std::move(singular)](Backward& b) {
           detail::on_compute_type("spectral_scale", weight.dtype(), [&]<class T>(T) {
             const Tensor dout = b.dout();
             const std::int64_t width = weight.shape()[1];
             std::vector<double> dots;  // <dout, W> / sigma of each part
             for (std::size_t i = 0; i < singular.size(); ++i) {
               double dot = 0;
               for (std::int64_t k = bounds[i] * width; k < bounds[i + 1] * width; ++k)
                 dot += double(dout.data<T>()[k]) * double(weight.data<T>()[k]);
               dots.push_back(dot / singular[i].sigma);
             }
             if (b.wants(0)) {
               GradientSlot dw = b.slot(0);
               for (std::size_t i = 0; i < singular.size(); ++i) {
                 const Singular& s = singular[i];
                 const double factor = double(gain.data<T>()[i]) / s.sigma;
                 for (std::int64_t r = bounds[i]; r < bounds[i + 1]; ++r) {
                   const double along = dots[i] * s.u[std::size_t(r - bounds[i])];
                   T* to = dw.memory.data<T>() + r * width;
                   const T* from = dout.data<T>() + r * width;
                   for (std::int64_t c = 0; c < width; ++c) {
                     const T value = T(factor * (double(from[c]) - along * s.v[std::size_t(c)]));
                     to[c] = dw.accumulate ? to[c] + value : value;
                   }
                 }
               }
             }
             if (b.wants(1)) {
               GradientSlot dgain = b.slot(1);
               for (std::size_t i = 0; i < singular.size(); ++i) {
                 T& to = dgain.memory.data<T>()[i];
                 to = dgain.accumulate ? to + T(dots[i]) : T(dots[i]);
               }
             }
           });
         });
  return out;
}

}  // namespace attune
