// Functions of single numbers and dropout.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/activation.cpp"
#include "kernels/activation.hpp"

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/map-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

// gelu_tanh: x * sigmoid(2 z) with z = sqrt(2 / pi) * (x + 0.044715 x^3), since (1 + tanh z) / 2 = sigmoid(2 z).
template <class T>
constexpr T kGeluSlope = T(1.5957691216057307117);  // 2 sqrt(2 / pi)
template <class T>
constexpr T kGeluCube = T(0.044715);

template <class T>
void pointwise_range(Pointwise f, std::int64_t n, const T* x, T* y) {
  using V = Vec<T>;
  switch (f) {
    case Pointwise::relu:
      return map(n, x, y, [](V v) HWY_ATTR { return relu_of<T>(v); });
    case Pointwise::gelu:
      return map(n, x, y, [](V v) HWY_ATTR { return gelu_of<T>(v); });
    case Pointwise::gelu_tanh:
      return map(n, x, y, [](V v) HWY_ATTR {
        const V b = bounded_below(v, kGeluLow<T>);
        const V z = hn::Mul(b, hn::MulAdd(hn::Mul(b, b), set(T(kGeluCube<T>)), set(T(1))));
        return hn::Mul(b, sigmoid_of<T>(hn::Mul(z, set(kGeluSlope<T>))));
      });
    case Pointwise::silu:
      return map(n, x, y, [](V v) HWY_ATTR { return silu_of<T>(v); });
    case Pointwise::sigmoid:
      return map(n, x, y, [](V v) HWY_ATTR { return sigmoid_of<T>(v); });
    case Pointwise::tanh:
      return map(n, x, y, [](V v) HWY_ATTR { return tanh_of<T>(v); });
    case Pointwise::exp:
      return map(n, x, y, [](V v) HWY_ATTR { return exp_of<T>(v); });
    case Pointwise::log:
      for (std::int64_t i = 0; i < n; ++i) y[i] = std::log(x[i]);
      return;
    case Pointwise::sqrt:
      return map(n, x, y, [](V v) HWY_ATTR { return hn::Sqrt(v); });
  }
}

/// f'(s) * dy, where s is x or y. Bounds on x keep inf * 0 from becoming NaN where the limit is 0 or 1.
template <class T>
HWY_INLINE Vec<T> gradient_of(Pointwise f, Vec<T> s, Vec<T> dy) {
  using V = Vec<T>;
  const V one = set(T(1));
  switch (f) {
    case Pointwise::relu:
      return hn::IfThenElse(hn::Le(s, zero<T>()), zero<T>(), dy);
    case Pointwise::gelu: {
      const V b = bounded(s, -kGeluLow<T>);
      const Normal<T> normal = normal_of<T>(b);
      return hn::Mul(hn::MulAdd(b, normal.density, normal.distribution), dy);
    }
    case Pointwise::gelu_tanh: {
      // y = x p, p = sigmoid(u): y' = p + x p (1 - p) u'.
      const V b = bounded(s, -kGeluLow<T>), square = hn::Mul(b, b);
      const V u = hn::Mul(hn::Mul(b, hn::MulAdd(square, set(kGeluCube<T>), one)), set(kGeluSlope<T>));
      const V slope = hn::Mul(hn::MulAdd(square, set(T(3) * kGeluCube<T>), one), set(kGeluSlope<T>));
      const V p = sigmoid_of<T>(u), q = sigmoid_of<T>(hn::Neg(u));
      return hn::Mul(hn::MulAdd(hn::Mul(hn::Mul(b, p), q), slope, p), dy);
    }
    case Pointwise::silu: {
      const V b = bounded(s, -kSiluLow<T>), p = sigmoid_of<T>(b), q = sigmoid_of<T>(hn::Neg(b));
      return hn::Mul(hn::MulAdd(hn::Mul(b, p), q, p), dy);
    }
    case Pointwise::sigmoid:
      return hn::Mul(hn::Mul(s, hn::Sub(one, s)), dy);
    case Pointwise::tanh:
      return hn::Mul(hn::NegMulAdd(s, s, one), dy);
    case Pointwise::exp:
      return hn::Mul(s, dy);
    case Pointwise::log:
      return hn::Div(dy, s);
    case Pointwise::sqrt:
      return hn::Div(hn::Mul(set(T(0.5)), dy), s);
  }
  return dy;
}

template <Pointwise kF, class T>
HWY_INLINE void backward_of(std::int64_t n, const T* saved, const T* dy, T* dx, bool accumulate) {
  using V = Vec<T>;
  if (accumulate) {
    map(n, saved, dy, dx, dx, [](V s, V d, V x) HWY_ATTR { return hn::Add(x, gradient_of<T>(kF, s, d)); });
  } else {
    map(n, saved, dy, dx, [](V s, V d) HWY_ATTR { return gradient_of<T>(kF, s, d); });
  }
}

template <class T>
void backward_range(Pointwise f, std::int64_t n, const T* saved, const T* dy, T* dx, bool accumulate) {
  switch (f) {
    case Pointwise::relu:
      return backward_of<Pointwise::relu>(n, saved, dy, dx, accumulate);
    case Pointwise::gelu:
      return backward_of<Pointwise::gelu>(n, saved, dy, dx, accumulate);
    case Pointwise::gelu_tanh:
      return backward_of<Pointwise::gelu_tanh>(n, saved, dy, dx, accumulate);
    case Pointwise::silu:
      return backward_of<Pointwise::silu>(n, saved, dy, dx, accumulate);
    case Pointwise::sigmoid:
      return backward_of<Pointwise::sigmoid>(n, saved, dy, dx, accumulate);
    case Pointwise::tanh:
      return backward_of<Pointwise::tanh>(n, saved, dy, dx, accumulate);
    case Pointwise::exp:
      return backward_of<Pointwise::exp>(n, saved, dy, dx, accumulate);
    case Pointwise::log:
      return backward_of<Pointwise::log>(n, saved, dy, dx, accumulate);
    case Pointwise::sqrt:
      return backward_of<Pointwise::sqrt>(n, saved, dy, dx, accumulate);
  }
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/elementwise_dropout.hpp"
#include "kernels/ranges.hpp"

namespace attune::kernels {

constexpr std::int64_t kFunctionCost = 4;  // of an exponential, relative to an addition

template <class T>
void pointwise(Pointwise f, std::int64_t n, const T* x, T* y) {
  const auto range = ATTUNE_DISPATCH(pointwise_range<T>);
  over_elements(
      n, [=](std::int64_t i, std::int64_t end) { range(f, end - i, x + i, y + i); }, kFunctionCost);
}

template <class T>
void pointwise_backward(Pointwise f, std::int64_t n, const T* saved, const T* dy, T* dx, bool accumulate) {
  const auto range = ATTUNE_DISPATCH(backward_range<T>);
  over_elements(
      n, [=](std::int64_t i, std::int64_t end) { range(f, end - i, saved + i, dy + i, dx + i, accumulate); },
      kFunctionCost);
}

template <class T>
void dropout(std::int64_t n, const T* x, std::uint32_t threshold, std::uint64_t seed, std::uint64_t offset, T* y) {
  over_elements(
      n,
      [=](std::int64_t i, std::int64_t end) {
        drop_elements(end - i, x + i, threshold, seed, offset + std::uint64_t(i), y + i);
      },
      kFunctionCost);
}
template <class T>
void add_dropout(std::int64_t n, const T* base, const T* x, std::uint32_t threshold, std::uint64_t seed,
                 std::uint64_t offset, T* y) {
  over_elements(
      n,
      [=](std::int64_t i, std::int64_t end) {
        add_dropped_elements(end - i, base + i, x + i, threshold, seed, offset + std::uint64_t(i), y + i);
      },
      kFunctionCost);
}

#define ATTUNE_INSTANTIATE(T)                                                                        \
  template void pointwise<T>(Pointwise, std::int64_t, const T*, T*);                                 \
  template void pointwise_backward<T>(Pointwise, std::int64_t, const T*, const T*, T*, bool);        \
  template void dropout<T>(std::int64_t, const T*, std::uint32_t, std::uint64_t, std::uint64_t, T*); \
  template void add_dropout<T>(std::int64_t, const T*, const T*, std::uint32_t, std::uint64_t, std::uint64_t, T*);
ATTUNE_INSTANTIATE(float)
ATTUNE_INSTANTIATE(double)
#undef ATTUNE_INSTANTIATE

}  // namespace attune::kernels
#endif
