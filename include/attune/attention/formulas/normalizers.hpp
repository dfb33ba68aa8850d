// The plain formulas of the normalizers (formula.hpp).
#pragma once
#include <algorithm>

#include "attune/attention/formula.hpp"

namespace attune::formula {

namespace detail {
/// exp(x) over its sum; with a sink one more logit, whose probability belongs to no key.
template <class S>
Row<S> softmax_row(std::vector<S> x, std::size_t keys) {
  double top = value_of(x[0]);
  for (const S& z : x) top = std::max(top, value_of(z));
  S sum(0.0);
  for (const S& z : x) sum += exp(z - S(top));
  Row<S> r{std::vector<S>(keys), S(top) + log(sum)};
  for (std::size_t n = 0; n < x.size(); ++n) {
    const S u = exp(x[n] - S(top)) / sum;
    (n < keys ? r.probs[n] : r.sink) = u;
    if (value_of(u) > 0) r.entropy = r.entropy - u * log(u);
  }
  return r;
}
}  // namespace detail

/// exp(x) / sum exp(x).
inline NormalizerFormula softmax() {
  return [](const Pair&, auto x, std::span<const int>, auto) {
    using S = ScalarOf<decltype(x)>;
    return detail::softmax_row(std::vector<S>(x.begin(), x.end()), x.size());
  };
}

/// exp(x) / (exp(sink) + sum exp(x)), array sink [H].
inline NormalizerFormula softmax_with_sink() {
  return [](const Pair& at, auto x, std::span<const int>, auto arrays) {
    using S = ScalarOf<decltype(x)>;
    std::vector<S> all(x.begin(), x.end());
    all.push_back(arrays[0][std::size_t(at.head)]);
    return detail::softmax_row(std::move(all), x.size());
  };
}

/// 1 / (1 + exp(-(x + bias))), array bias [H].
inline NormalizerFormula sigmoid() {
  return [](const Pair& at, auto x, std::span<const int>, auto arrays) {
    using S = ScalarOf<decltype(x)>;
    Row<S> r;
    for (const S& z : x) r.probs.push_back(S(1.0) / (S(1.0) + exp(-(z + arrays[0][std::size_t(at.head)]))));
    return r;
  };
}

/// max(x - tau, 0) with sum 1; tau from the sorted logits.
inline NormalizerFormula sparsemax() {
  return [](const Pair&, auto x, std::span<const int>, auto) {
    using S = ScalarOf<decltype(x)>;
    std::vector<S> sorted(x.begin(), x.end());
    std::stable_sort(sorted.begin(), sorted.end(), [](S lower, S upper) { return value_of(upper) < value_of(lower); });
    S sum(0.0), tau(0.0);
    for (std::size_t n = 0; n < sorted.size(); ++n) {
      sum += sorted[n];
      const S t = (sum - S(1.0)) / S(double(n + 1));
      if (value_of(sorted[n]) > value_of(t)) tau = t;
    }
    Row<S> r;
    for (const S& z : x) r.probs.push_back(value_of(z) > value_of(tau) ? z - tau : S(0.0));
    r.stat = tau;
    return r;
  };
}

}  // namespace attune::formula
