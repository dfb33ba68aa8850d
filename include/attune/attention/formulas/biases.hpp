// The plain formulas of the biases (formula.hpp).
#pragma once
#include "attune/attention/formula.hpp"

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

}  // namespace attune::formula
