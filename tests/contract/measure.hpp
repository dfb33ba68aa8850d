// How far apart two results are, and the bars of the numerical contract.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "contract/oracle.hpp"

namespace attune::contract {

/// max |x - reference| / max |reference| (or / floor, if that is larger). Equal infinities are no error; a NaN, or an
/// infinity where none belongs, is an infinite one.
template <class A, class B>
double error_of(const std::vector<A>& x, const std::vector<B>& reference, double floor = 0) {
  if (x.size() != reference.size()) return std::numeric_limits<double>::infinity();
  double worst = 0, largest = floor;
  for (std::size_t n = 0; n < x.size(); ++n) {
    const double a = double(x[n]), b = double(reference[n]);
    if (std::isfinite(b)) largest = std::max(largest, std::abs(b));
    if (a == b) continue;
    const double d = std::abs(a - b);
    worst = std::isfinite(d) ? std::max(worst, d) : std::numeric_limits<double>::infinity();
  }
  return worst == 0 ? 0 : largest == 0 ? std::numeric_limits<double>::infinity() : worst / largest;
}
template <class A, class B>
double error_of(const Arrays<A>& x, const Arrays<B>& reference, double floor = 0) {
  double worst = x.size() == reference.size() ? 0 : std::numeric_limits<double>::infinity();
  for (std::size_t a = 0; a < std::min(x.size(), reference.size()); ++a) {
    worst = std::max(worst, error_of(x[a], reference[a], floor));
  }
  return worst;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
template <class T>
bool same_bits(const Arrays<T>& a, const Arrays<T>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t n = 0; n < a.size(); ++n) {
    if (!same_bits(a[n], b[n])) return false;
  }
  return true;
}

/// Sum of products over the finite numbers of a; and the Euclidean norm of what such sums are made of.
template <class A, class B>
double dot_of(const std::vector<A>& a, const std::vector<B>& b) {
  double sum = 0;
  for (std::size_t n = 0; n < b.size(); ++n) sum += std::isfinite(double(a[n])) ? double(a[n]) * double(b[n]) : 0;
  return sum;
}
template <class A, class B>
double dot_of(const Arrays<A>& a, const Arrays<B>& b) {
  double sum = 0;
  for (std::size_t n = 0; n < b.size(); ++n) sum += dot_of(a[n], b[n]);
  return sum;
}

/// Largest |logit| that a row sees; the bars grow with it, because exp turns an absolute error into a relative one.
inline double largest_logit(const kernels::ReferenceProblem& p, const kernels::ReferenceForward& f) {
  const auto& s = p.shape;
  double most = 0;
  std::size_t n = 0;
  for (int b = 0; b < s.batch_size; ++b) {
    for (int h = 0; h < s.num_heads; ++h) {
      for (int i = 0; i < s.num_queries; ++i) {
        for (int j = 0; j < s.num_keys; ++j, ++n) {
          if (p.sees(b, h, i, j)) most = std::max(most, std::abs(f.logits[n]));
        }
      }
    }
  }
  return most;
}
inline double forward_bar(double, double logit) { return 1e-13 * (1 + logit); }
inline double forward_bar(float, double logit) { return 2e-6 * (1 + logit / 8); }

}  // namespace attune::contract
