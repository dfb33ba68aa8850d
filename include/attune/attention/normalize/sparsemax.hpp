// Sparsemax: the Euclidean projection of the logits onto the simplex, p = max(x - tau, 0) with sum p = 1.
// "From softmax to sparsemax", arXiv:1602.02068
//
// The threshold is the root of f(tau) = sum max(x - tau, 0) - 1, convex and falling. Newton from tau = max x - 1, left
// of the root, rises monotonically and ends after a handful of steps, once tau moves no more.
#pragma once
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

struct Sparsemax {
  static constexpr std::string_view name = "sparsemax";
  static constexpr std::string_view source = "arXiv:1602.02068", cost = "a threshold a row; holds 64 numbers a key";
  static constexpr Walk walk = Walk::whole_rows;

  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>&) const {
    const int n = r.queries;
    T tau[kLanes] = {}, excess[kLanes] = {}, support[kLanes] = {};
    for (int i = 0; i < n; ++i) tau[i] = kHidden<T>;
    for (int j = 0; j < x.area.keys; ++j) {
      const T* s = x[j];
      for (int i = 0; i < n; ++i) tau[i] = tau[i] < s[i] ? s[i] : tau[i];
    }
    for (int i = 0; i < n; ++i) tau[i] = tau[i] == kHidden<T> ? T(0) : tau[i] - T(1);
    for (int step = 0, last = kMostSteps; step < last; ++step) {
      for (int i = 0; i < n; ++i) {
        excess[i] = T(-1);
        support[i] = T(0);
      }
      for (int j = 0; j < x.area.keys; ++j) {
        const T* s = x[j];
        for (int i = 0; i < n; ++i) {
          const T z = s[i] - tau[i];
          excess[i] += z > T(0) ? z : T(0);
          support[i] += z > T(0) ? T(1) : T(0);
        }
      }
      bool moved = false;
      for (int i = 0; i < n; ++i) {
        if (!(support[i] > T(0))) continue;
        const T next = tau[i] + excess[i] / support[i];
        const bool rises = next > tau[i];
        moved = moved || rises;
        // A row that has converged stays as it is, however long the others of its block take: its bits are its own.
        tau[i] = rises ? next : converged(tau[i], next);
      }
      // On duals one more step after convergence carries the exact tangent.
      if (!moved && last == kMostSteps) last = step + 2;
    }
    for (int j = 0; j < x.area.keys; ++j) {
      T* s = x[j];
      for (int i = 0; i < n; ++i) {
        const T z = s[i] - tau[i];
        s[i] = z > T(0) ? z : T(0);
      }
    }
    for (int i = 0; i < n; ++i) {
      r.factor[i] = T(1);
      r.max[i] = tau[i];
    }
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>&) const {
    for (int i = 0; i < r.queries; ++i) {
      r.factor[i] = T(1);
      r.stat[i] = r.max[i];
    }
  }
  // dx = [x > tau] (dp - mean of dp over the support): the mean needs a walk of its own.
  template <class T>
  void sweep(const Tile<T>& x, const Tile<T>& dp, Rows<T>& r, Call<T>&) const {
    for (int j = 0; j < x.area.keys; ++j) {
      const T *s = x[j], *d = dp[j];
      for (int i = 0; i < r.queries; ++i) {
        r.sum[i] += s[i] > r.stat[i] ? T(1) : T(0);
        r.first[i] += s[i] > r.stat[i] ? d[i] : T(0);
      }
    }
  }
  template <class T>
  void begin_backward(Rows<T>& r, Call<T>&) const {
    for (int i = 0; i < r.queries; ++i) r.delta[i] = r.sum[i] > T(0) ? r.first[i] / r.sum[i] : T(0);
  }
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>& r, Call<T>&) const {
    for (int j = 0; j < x.area.keys; ++j) {
      T *s = x[j], *d = dp[j];
      for (int i = 0; i < r.queries; ++i) {
        const T z = s[i] - r.stat[i];
        d[i] = z > T(0) ? d[i] - r.delta[i] : T(0);
        s[i] = z > T(0) ? z : T(0);
      }
    }
  }

 private:
  template <class T>
  static T converged(T tau, T) {
    return tau;
  }
  template <class S>
  static Dual<S> converged(Dual<S> tau, Dual<S> next) {
    return {tau.v, next.d};
  }

  static constexpr int kMostSteps = 60;  // each but the last removes a key from the support: 5 to 10 in practice
};

}  // namespace attune
