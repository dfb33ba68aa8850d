// The plain formulas of the normalizers (formula.hpp).
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

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

/// exp(x) / (1 + sum exp(x)).
inline NormalizerFormula softmax_off_by_one() {
  return [](const Pair&, auto x, std::span<const int>, auto) {
    using S = ScalarOf<decltype(x)>;
    std::vector<S> all(x.begin(), x.end());
    all.push_back(S(0.0));
    return detail::softmax_row(std::move(all), x.size());
  };
}

/// max(x / 2 - tau, 0)^2 with sum 1; tau from the sorted logits: with the k largest, of mean m and squared deviations
/// d, tau = m - sqrt((1 - d) / k).
inline NormalizerFormula entmax15() {
  return [](const Pair&, auto x, std::span<const int>, auto) {
    using S = ScalarOf<decltype(x)>;
    std::vector<S> sorted;
    for (const S& z : x) sorted.push_back(z / S(2.0));
    std::stable_sort(sorted.begin(), sorted.end(), [](S lower, S upper) { return value_of(upper) < value_of(lower); });
    S sum(0.0), tau(0.0);
    for (std::size_t k = 1; k <= sorted.size(); ++k) {
      sum += sorted[k - 1];
      const S mean = sum / S(double(k));
      S deviation(0.0);
      for (std::size_t n = 0; n < k; ++n) deviation += (sorted[n] - mean) * (sorted[n] - mean);
      const S inside = (S(1.0) - deviation) / S(double(k));
      if (value_of(inside) <= 0) break;
      const S t = mean - sqrt(inside);
      if (value_of(t) > value_of(sorted[k - 1])) break;
      tau = t;
    }
    Row<S> r;
    for (const S& z : x) {
      const S u = z / S(2.0) - tau;
      r.probs.push_back(value_of(u) > 0 ? u * u : S(0.0));
    }
    r.stat = tau;
    return r;
  };
}

/// max((alpha - 1) x - tau, 0)^(1 / (alpha - 1)) with sum 1, alpha = 1 + sigmoid(alpha_logit), array alpha_logit [H].
/// tau by bisection on the numbers; one Newton step on the scalar then makes its derivative.
inline NormalizerFormula entmax() {
  return [](const Pair& at, auto x, std::span<const int>, auto arrays) {
    using S = ScalarOf<decltype(x)>;
    const S scale = S(1.0) / (S(1.0) + exp(-arrays[0][std::size_t(at.head)]));
    const double c = value_of(scale);
    double low = -std::numeric_limits<double>::infinity();
    for (const S& z : x) low = std::max(low, c * value_of(z) - 1);
    double high = low + 1, fall = 0;
    for (int step = 0; step < 100; ++step) {
      const double middle = (low + high) / 2;
      double sum = 0;
      for (const S& z : x) sum += std::pow(std::max(0.0, c * value_of(z) - middle), 1 / c);
      (sum < 1 ? high : low) = middle;
    }
    for (const S& z : x) fall += std::pow(std::max(0.0, c * value_of(z) - low), 1 / c - 1) / c;
    const auto weight = [&](const S& z, const S& tau) {
      const S u = scale * z - tau;
      return value_of(u) > 0 ? exp(log(u) / scale) : S(0.0);
    };
    S tau(low), excess(-1.0);
    for (const S& z : x) excess += weight(z, tau);
    tau += excess / S(fall);
    Row<S> r;
    for (const S& z : x) r.probs.push_back(weight(z, tau));
    r.stat = tau;
    return r;
  };
}

/// max(x, 0)^power / n for n keys.
inline NormalizerFormula relu(int power) {
  return [power](const Pair&, auto x, std::span<const int>, auto) {
    using S = ScalarOf<decltype(x)>;
    const S n = S(double(x.size()));
    Row<S> r;
    for (const S& z : x) r.probs.push_back(value_of(z) > 0 ? (power == 2 ? z * z / n : z / n) : S(0.0));
    r.stat = n;
    return r;
  };
}

/// x.
inline NormalizerFormula unnormalized() {
  return [](const Pair&, auto x, std::span<const int>, auto) {
    using S = ScalarOf<decltype(x)>;
    Row<S> r;
    r.probs.assign(x.begin(), x.end());
    return r;
  };
}

/// 1 at the first of the largest logits, with softmax's derivative: softmax and a constant that makes it 1 or 0.
inline NormalizerFormula hard() {
  return [](const Pair&, auto x, std::span<const int>, auto) {
    using S = ScalarOf<decltype(x)>;
    Row<S> r = detail::softmax_row(std::vector<S>(x.begin(), x.end()), x.size());
    std::size_t best = 0;
    for (std::size_t n = 1; n < x.size(); ++n) best = value_of(x[best]) < value_of(x[n]) ? n : best;
    for (std::size_t n = 0; n < x.size(); ++n) r.probs[n] += S((n == best ? 1.0 : 0.0) - value_of(r.probs[n]));
    r.stat = S(double(best));
    r.entropy = S(0.0);
    return r;
  };
}

/// sigmoid(x) times what the later keys leave: prod of 1 - sigmoid.
inline NormalizerFormula stick_breaking() {
  return [](const Pair&, auto x, std::span<const int>, auto) {
    using S = ScalarOf<decltype(x)>;
    Row<S> r{std::vector<S>(x.size()), S(1.0)};
    for (std::size_t n = x.size(); n-- > 0;) {
      r.probs[n] = r.stat / (S(1.0) + exp(-x[n]));
      r.stat = r.stat / (S(1.0) + exp(x[n]));
    }
    return r;
  };
}

}  // namespace attune::formula
