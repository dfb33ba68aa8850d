// The plain formulas of the biases (formula.hpp).
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "attune/attention/bias/fire.hpp"
#include "attune/attention/bias/kerple.hpp"
#include "attune/attention/bias/log_n.hpp"
#include "attune/attention/formula.hpp"
#include "attune/base/rng.hpp"

namespace attune::formula {

/// x - slope distance, slope 2^(-8 (h + 1) / H) or learned: an array [H].
inline BiasFormula alibi(bool learned = false) {
  return [=](const Pair& at, auto x, auto arrays) {
    using S = decltype(x);
    if (learned) return x - arrays[0][std::size_t(at.head)] * S(double(at.distance()));
    return x - S(std::pow(2.0, -8.0 * (at.head + 1) / at.shape->num_heads) * at.distance());
  };
}

/// cap tanh(x / cap); 0: off.
inline BiasFormula soft_cap(double cap) {
  return [=](const Pair&, auto x, auto) {
    using S = decltype(x);
    return cap > 0 ? S(cap) * tanh(x / S(cap)) : x;
  };
}

/// x + array[B or 1, H or 1, Tq or 1, Tk].
inline BiasFormula dense(Per per, bool broadcast_queries) {
  return [=](const Pair& at, auto x, auto arrays) {
    const AttendShape& s = *at.shape;
    const int copy = per == Per::batch_head ? at.batch * s.num_heads + at.head
                     : per == Per::head     ? at.head
                     : per == Per::batch    ? at.batch
                                            : 0;
    const int row = broadcast_queries ? copy : copy * s.num_queries + at.query;
    return x + arrays[0][std::size_t(row) * std::size_t(s.num_keys) + std::size_t(at.key)];
  };
}

/// x + array[H, buckets] at the bucket of the distance: the first half of a side's buckets for a distance each, the
/// others for powers of one factor.
inline BiasFormula relative_buckets(int buckets, int max_distance, bool causal) {
  return [=](const Pair& at, auto x, auto arrays) {
    const int ahead = at.key - at.position(), side = causal ? buckets : buckets / 2, exact = side / 2;
    const int distance = causal && ahead > 0 ? 0 : at.distance();
    const double factor = std::pow(double(max_distance) / exact, 1.0 / (side - exact));
    int bucket = std::min(distance, exact);
    while (bucket + 1 < side && bucket >= exact && distance > exact * std::pow(factor, bucket + 1 - exact) - 1e-9)
      ++bucket;
    if (!causal && ahead > 0) bucket += side;
    return x + arrays[0][std::size_t(at.head) * std::size_t(buckets) + std::size_t(bucket)];
  };
}

/// x - |r| log(1 + |s| distance), or x - |r| distance^min(|s|, 2); arrays r [H], s [H].
inline BiasFormula kerple(KerpleKernel kernel) {
  return [=](const Pair& at, auto x, auto arrays) {
    using S = decltype(x);
    const S r = abs(arrays[0][std::size_t(at.head)]), s = abs(arrays[1][std::size_t(at.head)]);
    const double d = at.distance();
    if (kernel == KerpleKernel::log) return x - r * log(S(1.0) + s * S(d));
    if (d == 0) return x;
    return x - r * exp((s < S(2.0) ? s : S(2.0)) * S(std::log(d)));
  };
}

/// x + network(log(1 + c distance) / (log(1 + c max(L, position)) + 1e-6)). Arrays: the hidden layer's weight and bias
/// [F], the second's [H, F] and [H], c, and L in units of `length`.
inline BiasFormula fire(int hidden, double length, FireActivation activation) {
  return [=](const Pair& at, auto x, auto arrays) {
    using S = decltype(x);
    const S c = abs(arrays[4][0]), L = S(length) * abs(arrays[5][0]), position = S(double(at.position()));
    const S farthest = L < position ? position : L;
    const S z = log(S(1.0) + c * S(double(at.distance()))) / (log(S(1.0) + c * farthest) + S(1e-6));
    S sum = arrays[3][std::size_t(at.head)];
    for (int u = 0; u < hidden; ++u) {
      const S y = arrays[0][std::size_t(u)] * z + arrays[1][std::size_t(u)];
      const S h = activation == FireActivation::tanh ? S(tanh(y)) : y > S(0.0) ? y : S(0.0);
      sum += arrays[2][std::size_t(at.head * hidden + u)] * h;
    }
    return S(x + sum);
  };
}

/// x / temperature, which is fixed or an array [H].
inline BiasFormula temperature(double fixed, bool learned) {
  return [=](const Pair& at, auto x, auto arrays) {
    using S = decltype(x);
    return S(x / (learned ? arrays[0][std::size_t(at.head)] : S(fixed)));
  };
}

/// x s log n, s fixed or an array [H].
inline BiasFormula log_n(LengthOf length, double fixed, bool learned) {
  return [=](const Pair& at, auto x, auto arrays) {
    using S = decltype(x);
    const int n = std::max(1, length == LengthOf::keys ? at.shape->num_keys : at.position() + 1);
    return S(S(std::log(double(n))) * (learned ? arrays[0][std::size_t(at.head)] : S(fixed)) * x);
  };
}

/// (x + g) / temperature with the noise of the pair's indices.
inline BiasFormula gumbel(double temperature, int seed) {
  return [=](const Pair& at, auto x, auto) {
    using S = decltype(x);
    const auto words =
        philox({std::uint32_t(at.query), std::uint32_t(at.key / 4), std::uint32_t(at.head), std::uint32_t(at.batch)},
               {std::uint32_t(seed), 0x6d75u});
    const double beyond = (4294967295.0 - words[std::size_t(at.key % 4)] + 0.5) / 4294967296.0;  // 1 - u
    return S((x + S(-std::log(-std::log1p(-beyond)))) / S(temperature));
  };
}

}  // namespace attune::formula
