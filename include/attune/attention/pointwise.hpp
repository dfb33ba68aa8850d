// A bias of your own from one lambda; its derivative comes from dual numbers.
//
//     auto decay = pointwise([](auto logit, auto at) { return logit - 0.1f * abs(at.query - at.key); });
//     attend(query, key, value, {.bias = decay});
//
// With numbers to be learned, one a head or a call:
//
//     auto decay = pointwise([](auto logit, auto at, auto p) { return logit - p[0] * abs(at.query - at.key); },
//                            {{"slope", Per::head}});
//
// The lambda is called with float, double and Dual logits (the learned numbers are of the logit's type) and with the
// pair's indices; it must be pure.
#pragma once
#include <array>
#include <cstddef>
#include <string>
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

/// A learned number of a pointwise bias, and who has a copy of it.
struct PointwiseParameter {
  std::string name;
  Per per = Per::head;
  Start start = Start::at(0);
};

namespace detail {
template <class T>
bool is_nothing(T x) {
  return x == T(0);
}
template <class S>
bool is_nothing(Dual<S> x) {
  return is_nothing(x.v) && is_nothing(x.d);
}
}  // namespace detail

/// Parameters: kCount numbers as listed. What it keeps for the backward is the logit; every number costs the backward
/// one dual evaluation of f a pair, of which the compiler shares what it can: meant for a handful (ALiBi with a learned
/// slope + 5 % of the backward's time at width 64, three numbers + 14 %).
template <class F, std::size_t kCount>
struct PointwiseWith {
  static constexpr std::string_view name = "pointwise";
  static constexpr bool saves = true;
  F f;
  std::array<PointwiseParameter, kCount> learned;

  std::vector<ParameterSpec> parameters(const AttendShape&) const {
    std::vector<ParameterSpec> all;
    for (const PointwiseParameter& p : learned) all.push_back({p.name, {1}, p.per, p.start});
    return all;
  }
  template <class T>
  void apply(Tile<T>& x, Tile<T>* saved, Call<T>& call) const {
    if (saved) each(*saved, x, [](T& kept, T& s) { kept = s; });
    const auto numbers = numbers_of<T>(call);
    const int batch = x.area.batch, head = x.area.head, offset = x.area.offset;
    each(x, [=, this](T& s, int i, int j) { s = T(f(s, PairIndex{batch, head, i + offset, j}, numbers)); });
  }
  // A hidden pair arrives with the gradient 0 and any logit: where f has no finite slope there, 0 it stays.
  template <class T>
  void backward(const Tile<T>* saved, Tile<T>& dx, Call<T>& call) const {
    const auto numbers = numbers_of<Dual<T>>(call);
    const Area& a = dx.area;
    T sum[kCount][kLanes] = {};
    for (int j = 0; j < a.keys; ++j) {
      const T* before = (*saved)[j];
      T* d = dx[j];
      for (std::size_t n = 0; n < kCount; ++n) {
        auto moved = numbers;
        moved[n].d = T(1);
        for (int i = 0; i < a.queries; ++i) {
          const T slope = Dual<T>(f(Dual<T>(before[i]), at(a, i, j), moved)).d;
          sum[n][i] += detail::is_nothing(d[i]) ? T(0) : d[i] * slope;
        }
      }
      for (int i = 0; i < a.queries; ++i) {
        const T slope = Dual<T>(f(Dual<T>(before[i], T(1)), at(a, i, j), numbers)).d;
        d[i] = detail::is_nothing(d[i]) ? T(0) : d[i] * slope;
      }
    }
    for (std::size_t n = 0; n < kCount; ++n) *call.parameter[n].grad += sum_lanes(sum[n], a.queries);
  }

 private:
  static PairIndex at(const Area& a, int i, int j) { return {a.batch, a.head, a.query + i + a.offset, a.key + j}; }
  template <class U, class T>
  static std::array<U, kCount> numbers_of(const Call<T>& call) {
    std::array<U, kCount> all;
    for (std::size_t n = 0; n < kCount; ++n) all[n] = U(*call.parameter[n].value);
    return all;
  }
};

/// A bias from f(logit, PairIndex, numbers) with learned numbers: numbers[n] is the n-th of the list, of this head.
template <class F, std::size_t kCount>
PointwiseWith<F, kCount> pointwise(F f, const PointwiseParameter (&learned)[kCount]) {
  PointwiseWith<F, kCount> stage{std::move(f), {}};
  for (std::size_t n = 0; n < kCount; ++n) stage.learned[n] = learned[n];
  return stage;
}

}  // namespace attune
