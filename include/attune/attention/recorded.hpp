// Reverse mode in sixty lines: numbers that write down what was done to them. With it a mechanism's plain formula has
// exact gradients that share no line with any derivative of the library.
//
//     recording<double>().clear();
//     auto x = Recorded<double>::input(2);
//     auto y = x * exp(x);
//     std::vector<double> gradient(recording<double>().size());
//     gradient[y.id] = 1;
//     rewind(gradient);              // gradient[x.id] is dy / dx
#pragma once
#include <cmath>
#include <cstddef>
#include <type_traits>
#include <vector>

namespace attune {

/// What a recorded number was made of: at most two others, and its slope in each.
template <class S>
struct RecordedNode {
  int a = -1, b = -1;
  S da = S(0), db = S(0);
};
/// The recording of this thread.
template <class S>
std::vector<RecordedNode<S>>& recording() {
  thread_local std::vector<RecordedNode<S>> nodes;
  return nodes;
}

/// A number on the recording; id -1 is a constant.
template <class S>
struct Recorded {
  S v = S(0);
  int id = -1;
  Recorded() = default;
  template <class A>
  requires std::is_arithmetic_v<A> Recorded(A x) : v(S(x)) {}

  static Recorded input(S x) { return make(x, -1, S(0), -1, S(0), true); }
  static Recorded make(S x, int a, S da, int b = -1, S db = S(0), bool always = false) {
    Recorded r;
    r.v = x;
    if (!always && a < 0 && b < 0) return r;
    recording<S>().push_back({a, b, da, db});
    r.id = int(recording<S>().size()) - 1;
    return r;
  }
  friend Recorded operator+(Recorded a, Recorded b) { return make(a.v + b.v, a.id, S(1), b.id, S(1)); }
  friend Recorded operator-(Recorded a, Recorded b) { return make(a.v - b.v, a.id, S(1), b.id, S(-1)); }
  friend Recorded operator-(Recorded a) { return make(-a.v, a.id, S(-1)); }
  friend Recorded operator*(Recorded a, Recorded b) { return make(a.v * b.v, a.id, b.v, b.id, a.v); }
  friend Recorded operator/(Recorded a, Recorded b) {
    return make(a.v / b.v, a.id, S(1) / b.v, b.id, -a.v / (b.v * b.v));
  }
  Recorded& operator+=(Recorded b) { return *this = *this + b; }
  Recorded& operator-=(Recorded b) { return *this = *this - b; }
  Recorded& operator*=(Recorded b) { return *this = *this * b; }
  Recorded& operator/=(Recorded b) { return *this = *this / b; }
  friend bool operator<(Recorded a, Recorded b) { return a.v < b.v; }
  friend bool operator>(Recorded a, Recorded b) { return a.v > b.v; }
  friend bool operator<=(Recorded a, Recorded b) { return a.v <= b.v; }
  friend bool operator>=(Recorded a, Recorded b) { return a.v >= b.v; }
  friend bool operator==(Recorded a, Recorded b) { return a.v == b.v; }
  friend Recorded exp(Recorded a) {
    const S e = std::exp(a.v);
    return make(e, a.id, e);
  }
  friend Recorded log(Recorded a) { return make(std::log(a.v), a.id, S(1) / a.v); }
  friend Recorded sqrt(Recorded a) {
    const S r = std::sqrt(a.v);
    return make(r, a.id, S(1) / (S(2) * r));
  }
  friend Recorded abs(Recorded a) { return make(std::abs(a.v), a.id, a.v < S(0) ? S(-1) : S(1)); }
  friend Recorded tanh(Recorded a) {
    const S t = std::tanh(a.v), c = std::cosh(a.v);
    return make(t, a.id, S(1) / (c * c));
  }
};

/// Gradients of all recorded numbers, given those of the results: walks the recording back once.
template <class S>
void rewind(std::vector<S>& gradient) {
  const auto& nodes = recording<S>();
  for (std::size_t n = nodes.size(); n-- > 0;) {
    if (nodes[n].a >= 0) gradient[std::size_t(nodes[n].a)] += nodes[n].da * gradient[n];
    if (nodes[n].b >= 0) gradient[std::size_t(nodes[n].b)] += nodes[n].db * gradient[n];
  }
}

}  // namespace attune
