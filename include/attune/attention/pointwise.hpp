// A bias of your own from one lambda; its derivative comes from dual numbers.
//
//     auto decay = pointwise([](auto logit, auto at) { return logit - 0.1f * abs(at.query - at.key); });
//     attend(query, key, value, {.bias = decay});
//
// The lambda is called with float, double and Dual logits and with the pair's indices; it must be pure.
#pragma once
#include <string_view>
#include <utility>

#include "attune/attention/stage.hpp"

namespace attune {

/// Where a logit stands. `query` is the query's position among the keys (its index plus the call's offset).
struct PairIndex {
  int batch, head, query, key;
};

template <class F>
struct Pointwise {
  static constexpr std::string_view name = "pointwise";
  static constexpr bool saves = true;
  F f;

  template <class T>
  void apply(Tile<T>& x, Tile<T>* saved, Call<T>&) const {
    const int batch = x.area.batch, head = x.area.head, offset = x.area.offset;
    if (saved) {
      for (int j = 0; j < x.area.keys; ++j) {
        for (int i = 0; i < x.area.queries; ++i) {
          (*saved)[j][i] =
              Dual<T>(f(Dual<T>(x[j][i], T(1)), PairIndex{batch, head, x.area.query + i + offset, x.area.key + j})).d;
        }
      }
    }
    each(x, [=, this](T& s, int i, int j) { s = T(f(s, PairIndex{batch, head, i + offset, j})); });
  }
  template <class T>
  void backward(const Tile<T>* saved, Tile<T>& dx, Call<T>&) const {
    multiply(dx, *saved);
  }
};

/// A bias from f(logit, PairIndex): logits = f(logits, at).
template <class F>
Pointwise<F> pointwise(F f) {
  return {std::move(f)};
}

}  // namespace attune
