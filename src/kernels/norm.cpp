// Layer norm and RMS norm: a row is read from memory once and stays in the first-level cache for the further passes.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/norm.cpp"
#include "kernels/norm.hpp"

#include <cmath>

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/map-inl.h"

#ifndef ATTUNE_KERNELS_NORM_ONCE_
#define ATTUNE_KERNELS_NORM_ONCE_
namespace attune::kernels {

/// Arguments of the backward of one range of rows; pointers are those of row 0.
template <class T>
struct NormBackward {
  std::int64_t width;
  const T* x;
  const T* weight;  // or null
  const T* mean;    // null: RMS norm
  const T* rstd;
  const T* dy;
  T* dx;  // or null
  bool accumulate;
};

}  // namespace attune::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// y = (x - mean) * rstd * weight + bias, mean 0 unless kCentre.
template <bool kCentre, class T>
HWY_INLINE void norm_rows(std::int64_t rows, std::int64_t width, const T* x, const T* weight, const T* bias,
                          double epsilon, T* y, T* mean, T* rstd) {
  using V = Vec<T>;
  for (std::int64_t r = 0; r < rows; ++r, x += width, y += width) {
    T m = 0;
    if constexpr (kCentre) m = sum_map(width, x, x, [](V s, V v, V) HWY_ATTR { return hn::Add(s, v); }) / T(width);
    const V vm = set(m);
    // Squares of centred numbers: mean(x^2) - mean^2 would cancel. The last, partial vector is left to a plain loop,
    // because its empty lanes would add (0 - mean)^2.
    constexpr int kL = kLaneCount<T>;
    const std::int64_t whole = width / kL * kL;
    T squares = sum_map(whole, x, x, [vm](V s, V v, V) HWY_ATTR {
      const V d = hn::Sub(v, vm);
      return hn::MulAdd(d, d, s);
    });
    for (std::int64_t c = whole; c < width; ++c) squares += (x[c] - m) * (x[c] - m);
    const T scale = T(1) / std::sqrt(squares / T(width) + T(epsilon));
    const V vs = set(scale);
    const auto hat = [=](V v) HWY_ATTR { return hn::Mul(hn::Sub(v, vm), vs); };
    if (weight && bias) {
      map(width, x, weight, bias, y, [=](V v, V w, V b) HWY_ATTR { return hn::MulAdd(hat(v), w, b); });
    } else if (weight) {
      map(width, x, weight, y, [=](V v, V w) HWY_ATTR { return hn::Mul(hat(v), w); });
    } else if (bias) {
      map(width, x, bias, y, [=](V v, V b) HWY_ATTR { return hn::Add(hat(v), b); });
    } else {
      map(width, x, y, hat);
    }
    if (mean) mean[r] = m;
    if (rstd) rstd[r] = scale;
  }
}

template <class T>
void layer_norm_range(std::int64_t rows, std::int64_t width, const T* x, const T* weight, const T* bias, double epsilon,
                      T* y, T* mean, T* rstd) {
  norm_rows<true>(rows, width, x, weight, bias, epsilon, y, mean, rstd);
}
template <class T>
void rms_norm_range(std::int64_t rows, std::int64_t width, const T* x, const T* weight, double epsilon, T* y, T* rstd) {
  norm_rows<false, T>(rows, width, x, weight, nullptr, epsilon, y, nullptr, rstd);
}

/// One row: dweight += dy * xhat and dbias += dy (null: not), and the row's sums of g and g * xhat for dx.
template <class T>
HWY_INLINE void norm_backward_row(const NormBackward<T>& p, std::int64_t row, T* dweight, T* dbias) {
  using V = Vec<T>;
  constexpr int kL = kLaneCount<T>;
  const T* x = p.x + row * p.width;
  const T* dy = p.dy + row * p.width;
  const V m = set(p.mean ? p.mean[row] : T(0)), s = set(p.rstd[row]), one = set(T(1));
  V sum_g = zero<T>(), sum_gx = zero<T>();
  const auto pass = [&](std::int64_t c, auto read, auto write) HWY_ATTR {
    // Past the end dy is 0, and so is all that is added.
    const V d = read(dy + c), hat = hn::Mul(hn::Sub(read(x + c), m), s);
    const V g = p.weight ? hn::Mul(d, read(p.weight + c)) : d;
    sum_g = hn::Add(sum_g, g);
    sum_gx = hn::MulAdd(g, hat, sum_gx);
    if (dweight) write(hn::MulAdd(d, hat, read(dweight + c)), dweight + c);
    if (dbias) write(hn::Add(d, read(dbias + c)), dbias + c);
  };
  std::int64_t c = 0;
  const auto load_whole = [](const T* at) HWY_ATTR { return load(at); };
  const auto store_whole = [](V v, T* at) HWY_ATTR { store(v, at); };
  for (; c + kL <= p.width; c += kL) pass(c, load_whole, store_whole);
  const int rest = int(p.width - c);
  if (rest > 0) {
    pass(
        c, [rest](const T* at) HWY_ATTR { return load_first(at, rest); },
        [rest](V v, T* at) HWY_ATTR { store_first(v, at, rest); });
  }
  if (!p.dx) return;

  // dx = rstd * (g - mean(g) - xhat * mean(g * xhat)); without a mean in the forward its term is absent.
  T* dx = p.dx + row * p.width;
  const V mean_g = p.mean ? set(sum_of_lanes<T>(sum_g) / T(p.width)) : zero<T>();
  const V mean_gx = set(sum_of_lanes<T>(sum_gx) / T(p.width));
  const auto gradient = [=](V v, V g) HWY_ATTR {
    const V hat = hn::Mul(hn::Sub(v, m), s);
    return hn::Mul(s, hn::NegMulAdd(hat, mean_gx, hn::Sub(g, mean_g)));
  };
  const T* w = p.weight;
  const auto finish = [&](std::int64_t at, auto read, auto write) HWY_ATTR {
    const V v = gradient(read(x + at), hn::Mul(read(dy + at), w ? read(w + at) : one));
    write(p.accumulate ? hn::Add(v, read(dx + at)) : v, dx + at);
  };
  for (c = 0; c + kL <= p.width; c += kL) finish(c, load_whole, store_whole);
  if (rest > 0) {
    finish(
        c, [rest](const T* at) HWY_ATTR { return load_first(at, rest); },
        [rest](V v, T* at) HWY_ATTR { store_first(v, at, rest); });
  }
}

template <class T>
void norm_backward_range(const NormBackward<T>& p, std::int64_t row, std::int64_t end, T* dweight, T* dbias) {
  for (; row < end; ++row) norm_backward_row(p, row, dweight, dbias);
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/ranges.hpp"

namespace attune::kernels {
namespace {

constexpr std::int64_t kPasses = 4;  // over a row, relative to an addition

template <class T>
T* at_row(T* p, std::int64_t offset) {
  return p ? p + offset : nullptr;
}

template <class T>
void norm_backward(std::int64_t rows, const NormBackward<T>& p, T* dweight, T* dbias) {
  struct Totals;
  const auto range = ATTUNE_DISPATCH(norm_backward_range<T>);
  if (!dweight && !dbias) {
    over_rows(rows, p.width * kPasses,
              [&](std::int64_t r, std::int64_t end) { range(p, r, end, static_cast<T*>(nullptr), nullptr); });
    return;
  }
  // Both sums side by side: [dweight | dbias].
  const std::int64_t width = p.width;
  T* total = scratch<T, Totals>(std::size_t(2 * width));
  sum_over_row_blocks<T>(rows, 2 * width, total, false, [&](std::int64_t r, std::int64_t end, T* partial) {
    range(p, r, end, dweight ? partial : nullptr, dbias ? partial + width : nullptr);
  });
  for (std::int64_t c = 0; dweight && c < width; ++c) dweight[c] += total[c];
  for (std::int64_t c = 0; dbias && c < width; ++c) dbias[c] += total[width + c];
}

}  // namespace

template <class T>
void layer_norm(std::int64_t rows, std::int64_t width, const T* x, const T* weight, const T* bias, double epsilon, T* y,
                T* mean, T* rstd) {
  const auto range = ATTUNE_DISPATCH(layer_norm_range<T>);
  over_rows(rows, width * kPasses, [=](std::int64_t r, std::int64_t end) {
    range(end - r, width, x + r * width, weight, bias, epsilon, y + r * width, at_row(mean, r), at_row(rstd, r));
  });
}

template <class T>
void layer_norm_backward(std::int64_t rows, std::int64_t width, const T* x, const T* weight, const T* mean,
                         const T* rstd, const T* dy, T* dx, bool accumulate, T* dweight, T* dbias) {
  norm_backward<T>(rows, {width, x, weight, mean, rstd, dy, dx, accumulate}, dweight, dbias);
}

template <class T>
void rms_norm(std::int64_t rows, std::int64_t width, const T* x, const T* weight, double epsilon, T* y, T* rstd) {
  const auto range = ATTUNE_DISPATCH(rms_norm_range<T>);
  over_rows(rows, width * kPasses, [=](std::int64_t r, std::int64_t end) {
    range(end - r, width, x + r * width, weight, epsilon, y + r * width, at_row(rstd, r));
  });
}

template <class T>
void rms_norm_backward(std::int64_t rows, std::int64_t width, const T* x, const T* weight, const T* rstd, const T* dy,
                       T* dx, bool accumulate, T* dweight) {
  norm_backward<T>(rows, {width, x, weight, nullptr, rstd, dy, dx, accumulate}, dweight, static_cast<T*>(nullptr));
}

#define ATTUNE_INSTANTIATE(T)                                                                                        \
  template void layer_norm<T>(std::int64_t, std::int64_t, const T*, const T*, const T*, double, T*, T*, T*);         \
  template void layer_norm_backward<T>(std::int64_t, std::int64_t, const T*, const T*, const T*, const T*, const T*, \
                                       T*, bool, T*, T*);                                                            \
  template void rms_norm<T>(std::int64_t, std::int64_t, const T*, const T*, double, T*, T*);                         \
  template void rms_norm_backward<T>(std::int64_t, std::int64_t, const T*, const T*, const T*, const T*, T*, bool, T*);
ATTUNE_INSTANTIATE(float)
ATTUNE_INSTANTIATE(double)
#undef ATTUNE_INSTANTIATE

}  // namespace attune::kernels
#endif
