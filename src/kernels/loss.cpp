// Softmax over rows and cross-entropy: the maximum, then the exponentials and their sum, then one scaling pass, all on
// a row that stays in the cache.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/loss.cpp"
#include "kernels/loss.hpp"

#include <cmath>
#include <limits>

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/map-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// The largest of the row, -inf for an empty one. Which of NaN and a number wins is not defined.
template <class T>
HWY_INLINE T max_of_row(std::int64_t n, const T* x) {
  constexpr int kL = kLaneCount<T>;
  T top = -std::numeric_limits<T>::infinity();
  std::int64_t i = 0;
  if (n >= kL) {
    Vec<T> a = load(x), b = a;
    for (i = kL; i + 2 * kL <= n; i += 2 * kL) {
      a = hn::Max(a, load(x + i));
      b = hn::Max(b, load(x + i + kL));
    }
    for (; i + kL <= n; i += kL) a = hn::Max(a, load(x + i));
    top = max_of_lanes<T>(hn::Max(a, b));
  }
  for (; i < n; ++i) top = x[i] > top ? x[i] : top;
  return top;
}

/// Sums over a row of e = exp(x - top) and, with kShifts, of x - top; e is stored if y is not null.
template <class T>
struct RowSums {
  T exponentials, shifts;
};
template <bool kShifts, class T>
HWY_INLINE RowSums<T> exponentials_of_row(std::int64_t n, const T* x, T top, T* y) {
  constexpr int kL = kLaneCount<T>;
  const Lanes<T> d;
  const Vec<T> shift = set(top);
  Vec<T> e0 = zero<T>(), e1 = e0, s0 = e0;
  const auto one = [&](std::int64_t i) HWY_ATTR {
    const Vec<T> v = hn::Sub(load(x + i), shift), e = exp_of<T>(v);
    if constexpr (kShifts) s0 = hn::Add(s0, v);
    if (y) store(e, y + i);
    return e;
  };
  std::int64_t i = 0;
  for (; i + 2 * kL <= n; i += 2 * kL) {
    e0 = hn::Add(e0, one(i));
    e1 = hn::Add(e1, one(i + kL));
  }
  for (; i + kL <= n; i += kL) e0 = hn::Add(e0, one(i));
  if (i < n) {
    const int rest = int(n - i);
    const auto inside = hn::FirstN(d, std::size_t(rest));
    const Vec<T> v = hn::Sub(load_first(x + i, rest), shift), e = hn::IfThenElseZero(inside, exp_of<T>(v));
    if constexpr (kShifts) s0 = hn::Add(s0, hn::IfThenElseZero(inside, v));
    e1 = hn::Add(e1, e);
    if (y) store_first(e, y + i, rest);
  }
  return {sum_of_lanes<T>(hn::Add(e0, e1)), sum_of_lanes<T>(s0)};
}

template <class T>
void cross_entropy_range(const CrossEntropy<T>& p, std::int64_t row, std::int64_t end) {
  const std::int64_t n = p.classes;
  const T even = T(p.label_smoothing / double(n)), peak = T(1 - p.label_smoothing);  // of the target
  for (; row < end; ++row) {
    const T* x = p.logits + row * n;
    T* dx = p.dlogits ? p.dlogits + row * n : nullptr;
    const std::int32_t label = p.labels[row];
    if (label == p.ignore_index) {
      p.loss[row] = 0;
      if (dx) map(n, x, dx, [](Vec<T>) HWY_ATTR { return zero<T>(); });
      continue;
    }
    const T top = max_of_row(n, x);
    const T labelled = x[label] - top;  // before dx, which may be x
    const bool smooth = p.label_smoothing != 0;
    const RowSums<T> sums =
        smooth ? exponentials_of_row<true>(n, x, top, dx) : exponentials_of_row<false>(n, x, top, dx);
    // All terms relative to top, which cancels: (1 - eps) + V * eps / V = 1.
    const T log_sum = std::log(sums.exponentials);
    p.loss[row] = log_sum - peak * labelled - (smooth ? even * sums.shifts : T(0));
    T weight = 1;  // of the probabilities in the gradient
    if (p.z_loss != 0) {
      const T lse = top + log_sum;
      p.loss[row] += T(p.z_loss) * lse * lse;
      weight += T(2 * p.z_loss) * lse;
    }
    if (dx) {
      const Vec<T> scale = set(p.grad_scale * weight / sums.exponentials), less = set(p.grad_scale * even);
      map(n, dx, dx, [=](Vec<T> e) HWY_ATTR { return hn::Sub(hn::Mul(e, scale), less); });
      dx[label] -= p.grad_scale * peak;
    }
  }
}

template <class T>
void softmax_range(std::int64_t rows, std::int64_t n, const T* x, T* y) {
  for (std::int64_t r = 0; r < rows; ++r, x += n, y += n) {
    T top = max_of_row(n, x);
    if (top == -std::numeric_limits<T>::infinity()) top = 0;  // -inf - (-inf) would be NaN
    const T sum = exponentials_of_row<false>(n, x, top, y).exponentials;
    const Vec<T> scale = set(sum == T(0) ? T(0) : T(1) / sum);
    map(n, y, y, [scale](Vec<T> e) HWY_ATTR { return hn::Mul(e, scale); });
  }
}

template <class T>
void softmax_backward_range(std::int64_t rows, std::int64_t n, const T* y, const T* dy, T* dx, bool accumulate) {
  using V = Vec<T>;
  for (std::int64_t r = 0; r < rows; ++r, y += n, dy += n, dx += n) {
    const V dot = set(sum_map(n, y, dy, [](V s, V p, V q) HWY_ATTR { return hn::MulAdd(p, q, s); }));
    if (accumulate) {
      map(n, y, dy, dx, dx, [dot](V p, V q, V x) HWY_ATTR { return hn::MulAdd(p, hn::Sub(q, dot), x); });
    } else {
      map(n, y, dy, dx, [dot](V p, V q) HWY_ATTR { return hn::Mul(p, hn::Sub(q, dot)); });
    }
  }
}

template <class T>
void log_softmax_range(std::int64_t rows, std::int64_t n, const T* x, T* y) {
  for (std::int64_t r = 0; r < rows; ++r, x += n, y += n) {
    T top = max_of_row(n, x);
    if (top == -std::numeric_limits<T>::infinity()) top = 0;
    const T sum = exponentials_of_row<false, T>(n, x, top, nullptr).exponentials;
    const Vec<T> shift = set(top), log_sum = set(sum == T(0) ? T(0) : std::log(sum));
    map(n, x, y, [=](Vec<T> v) HWY_ATTR { return hn::Sub(hn::Sub(v, shift), log_sum); });
  }
}

template <class T>
void log_softmax_backward_range(std::int64_t rows, std::int64_t n, const T* y, const T* dy, T* dx, bool accumulate) {
  using V = Vec<T>;
  for (std::int64_t r = 0; r < rows; ++r, y += n, dy += n, dx += n) {
    const V sum = set(sum_map(n, dy, dy, [](V s, V p, V) HWY_ATTR { return hn::Add(s, p); }));
    if (accumulate) {
      map(n, y, dy, dx, dx, [sum](V p, V q, V x) HWY_ATTR { return hn::Add(x, hn::NegMulAdd(exp_of<T>(p), sum, q)); });
    } else {
      map(n, y, dy, dx, [sum](V p, V q) HWY_ATTR { return hn::NegMulAdd(exp_of<T>(p), sum, q); });
    }
  }
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/ranges.hpp"

namespace attune::kernels {

constexpr std::int64_t kRowCost = 6;  // of an element, relative to an addition

template <class T>
void cross_entropy(const CrossEntropy<T>& p) {
  const auto range = ATTUNE_DISPATCH(cross_entropy_range<T>);
  over_rows(p.rows, p.classes * kRowCost, [&](std::int64_t r, std::int64_t end) { range(p, r, end); });
}

template <class T>
void softmax(std::int64_t rows, std::int64_t width, const T* x, T* y) {
  const auto range = ATTUNE_DISPATCH(softmax_range<T>);
  over_rows(rows, width * kRowCost,
            [=](std::int64_t r, std::int64_t end) { range(end - r, width, x + r * width, y + r * width); });
}

template <class T>
void softmax_backward(std::int64_t rows, std::int64_t width, const T* y, const T* dy, T* dx, bool accumulate) {
  const auto range = ATTUNE_DISPATCH(softmax_backward_range<T>);
  over_rows(rows, width * kRowCost, [=](std::int64_t r, std::int64_t end) {
    range(end - r, width, y + r * width, dy + r * width, dx + r * width, accumulate);
  });
}

template <class T>
void log_softmax(std::int64_t rows, std::int64_t width, const T* x, T* y) {
  const auto range = ATTUNE_DISPATCH(log_softmax_range<T>);
  over_rows(rows, width * kRowCost,
            [=](std::int64_t r, std::int64_t end) { range(end - r, width, x + r * width, y + r * width); });
}

template <class T>
void log_softmax_backward(std::int64_t rows, std::int64_t width, const T* y, const T* dy, T* dx, bool accumulate) {
  const auto range = ATTUNE_DISPATCH(log_softmax_backward_range<T>);
  over_rows(rows, width * kRowCost, [=](std::int64_t r, std::int64_t end) {
    range(end - r, width, y + r * width, dy + r * width, dx + r * width, accumulate);
  });
}

#define ATTUNE_INSTANTIATE(T)                                                                  \
  template void cross_entropy<T>(const CrossEntropy<T>&);                                      \
  template void softmax<T>(std::int64_t, std::int64_t, const T*, T*);                          \
  template void softmax_backward<T>(std::int64_t, std::int64_t, const T*, const T*, T*, bool); \
  template void log_softmax<T>(std::int64_t, std::int64_t, const T*, T*);                      \
  template void log_softmax_backward<T>(std::int64_t, std::int64_t, const T*, const T*, T*, bool);
ATTUNE_INSTANTIATE(float)
ATTUNE_INSTANTIATE(double)
#undef ATTUNE_INSTANTIATE

}  // namespace attune::kernels
#endif
