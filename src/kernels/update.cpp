// The optimizer's step, one pass over memory per half, and the reductions that clipping reads.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/update.cpp"
#include "kernels/update.hpp"

#include <cmath>

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/update-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

template <class T>
void sgd_range(std::int64_t n, const SgdStep& step, const T* weights, const T* grad, T* velocity, T* update) {
  using V = Vec<T>;
  const V rate = set(T(step.learning_rate)), scale = set(T(step.grad_scale)), decay = set(T(step.weight_decay));
  const V momentum = set(T(step.momentum)), fresh = set(T(1 - step.dampening));
  // g and the direction d of the step pass through update[], which is in the first-level cache.
  if (step.weight_decay != 0) {
    map(n, grad, weights, update, [=](V g, V w) HWY_ATTR { return hn::MulAdd(decay, w, hn::Mul(scale, g)); });
  } else {
    map(n, grad, update, [=](V g) HWY_ATTR { return hn::Mul(scale, g); });
  }
  if (step.momentum != 0) {
    if (step.first) {
      map(n, update, velocity, [](V g) HWY_ATTR { return g; });
    } else {
      map(n, update, velocity, velocity, [=](V g, V v) HWY_ATTR { return hn::MulAdd(fresh, g, hn::Mul(momentum, v)); });
    }
    map(n, update, velocity, update,
        [=, nesterov = step.nesterov](V g, V v) HWY_ATTR { return nesterov ? hn::MulAdd(momentum, v, g) : v; });
  }
  map(n, update, update, [=](V d) HWY_ATTR { return hn::Mul(rate, d); });
}

/// correction1 = 1 - beta1^step, correction2 = sqrt(1 - beta2^step).
template <class T>
void adam_range(std::int64_t n, const AdamStep& step, double correction1, double correction2, const T* weights,
                const T* grad, T* m, T* v, T* update) {
  using V = Vec<T>;
  constexpr int kL = kLaneCount<T>;
  const V scale = set(T(step.grad_scale)), decay = set(T(step.weight_decay)), fresh1 = set(T(1 - step.beta1));
  const V beta2 = set(T(step.beta2)), fresh2 = set(T(1 - step.beta2)), rate = set(T(step.learning_rate / correction1));
  const V root = set(T(correction2)), epsilon = set(T(step.epsilon));
  const bool decays = step.weight_decay != 0;
  const auto one = [=](V g, V w, V& mean, V& square) HWY_ATTR {
    g = hn::Mul(scale, g);
    if (decays) g = hn::MulAdd(decay, w, g);
    mean = hn::MulAdd(fresh1, hn::Sub(g, mean), mean);
    square = hn::MulAdd(beta2, square, hn::Mul(hn::Mul(fresh2, g), g));
    return hn::Mul(rate, hn::Div(mean, hn::Add(hn::Div(hn::Sqrt(square), root), epsilon)));
  };
  std::int64_t i = 0;
  for (; i + kL <= n; i += kL) {
    V mean = load(m + i), square = load(v + i);
    store(one(load(grad + i), decays ? load(weights + i) : zero<T>(), mean, square), update + i);
    store(mean, m + i);
    store(square, v + i);
  }
  if (i < n) {
    const int rest = int(n - i);
    V mean = load_first(m + i, rest), square = load_first(v + i, rest);
    store_first(one(load_first(grad + i, rest), decays ? load_first(weights + i, rest) : zero<T>(), mean, square),
                update + i, rest);
    store_first(mean, m + i, rest);
    store_first(square, v + i, rest);
  }
}

template <class T>
void apply_range(std::int64_t n, double decay, const T* update, T* weights) {
  const Vec<T> keep = set(T(1 - decay));
  map(n, weights, update, weights, [=](Vec<T> w, Vec<T> u) HWY_ATTR { return hn::Sub(hn::Mul(w, keep), u); });
}

template <class T>
double squares_range(std::int64_t n, const T* x) {
  if constexpr (sizeof(T) == 8) {
    return sum_map(n, x, x, [](Vec<T> s, Vec<T> p, Vec<T> q) HWY_ATTR { return hn::MulAdd(p, q, s); });
  } else {
    double s[8] = {};  // plain loops: the compiler keeps them in vectors of double
    std::int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
      for (int j = 0; j < 8; ++j) s[j] += double(x[i + j]) * double(x[i + j]);
    }
    for (int j = 0; i < n; ++i, ++j) s[j] += double(x[i]) * double(x[i]);
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
  }
}

template <class T>
bool finite_range(std::int64_t n, const T* x) {
  // x - x is 0 for finite x and NaN otherwise; a NaN never leaves a sum.
  const T s = sum_map(n, x, x, [](Vec<T> sum, Vec<T> p, Vec<T> q) HWY_ATTR { return hn::Add(sum, hn::Sub(p, q)); });
  return s == T(0);
}

template <class T>
void clamp_range(std::int64_t n, T low, T high, T* x) {
  const Vec<T> l = set(low), h = set(high);
  map(n, x, x, [=](Vec<T> v) HWY_ATTR {
    return hn::IfThenElse(hn::Lt(v, l), l, hn::IfThenElse(hn::Gt(v, h), h, v));  // comparisons leave NaN alone
  });
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <atomic>

#include "kernels/ranges.hpp"

namespace attune::kernels {

template <class T>
void propose_sgd(std::int64_t n, const SgdStep& step, const T* weights, const T* grad, T* velocity, T* update) {
  const auto range = ATTUNE_DISPATCH(sgd_range<T>);
  parallel_ranges(n, kRangeElements / 4, [&](std::int64_t i, std::int64_t end) {
    range(end - i, step, weights ? weights + i : nullptr, grad + i, velocity ? velocity + i : nullptr, update + i);
  });
}

template <class T>
void propose_adam(std::int64_t n, const AdamStep& step, const T* weights, const T* grad, T* m, T* v, T* update) {
  const auto range = ATTUNE_DISPATCH(adam_range<T>);
  const double correction1 = 1 - std::pow(step.beta1, double(step.step));
  const double correction2 = std::sqrt(1 - std::pow(step.beta2, double(step.step)));
  over_elements(n, [&](std::int64_t i, std::int64_t end) {
    range(end - i, step, correction1, correction2, weights ? weights + i : nullptr, grad + i, m + i, v + i, update + i);
  });
}

template <class T>
void propose_adaptive(std::int64_t n, const AdaptiveStep& step, const T* weights, const T* grad, T* m, T* v, T* slow,
                      T* update) {
  const auto range = ATTUNE_DISPATCH(adaptive_range<T>);
  over_elements(n, [&](std::int64_t i, std::int64_t end) {
    range(end - i, step, weights ? weights + i : nullptr, grad + i, m ? m + i : nullptr, v + i,
          slow ? slow + i : nullptr, update + i);
  });
}

template <class T>
void propose_lion(std::int64_t n, double rate, double beta1, double beta2, double grad_scale, const T* grad, T* m,
                  T* update) {
  const auto range = ATTUNE_DISPATCH(lion_range<T>);
  over_elements(n, [=](std::int64_t i, std::int64_t end) {
    for (; i < end; i += kRangeElements / 4) {  // two passes over what is in the first-level cache
      range(std::min(end - i, kRangeElements / 4), rate, beta1, beta2, grad_scale, grad + i, m + i, update + i);
    }
  });
}

template <class T>
void blend_momentum(std::int64_t n, double momentum, bool nesterov, double grad_scale, const T* grad, T* m, T* update) {
  const auto range = ATTUNE_DISPATCH(blend_range<T>);
  over_elements(n, [=](std::int64_t i, std::int64_t end) {
    for (; i < end; i += kRangeElements / 4) {
      range(std::min(end - i, kRangeElements / 4), momentum, nesterov, grad_scale, grad + i, m + i, update + i);
    }
  });
}

template <class T>
void apply_averaged(std::int64_t n, double share, double part, double decay, const T* update, T* y, T* z) {
  const auto range = ATTUNE_DISPATCH(averaged_range<T>);
  over_elements(
      n, [=](std::int64_t i, std::int64_t end) { range(end - i, share, part, decay, update + i, y + i, z + i); });
}

template <class T>
void move_towards(std::int64_t n, double share, const T* target, T* x) {
  const auto range = ATTUNE_DISPATCH(towards_range<T>);
  over_elements(n, [=](std::int64_t i, std::int64_t end) { range(end - i, share, target + i, x + i); });
}

template <class T>
ProdigySums prodigy_moments(std::int64_t n, const ProdigyStep& step, const T* weights, const T* start, const T* grad,
                            T* m, T* v, T* s) {
  const auto range = ATTUNE_DISPATCH(prodigy_range<T>);
  const std::int64_t parts = (n + kRangeElements - 1) / kRangeElements;
  std::vector<ProdigySums> part(static_cast<std::size_t>(parts));
  for_parts(parts, n <= kAloneElements, [&](std::int64_t p) {
    const std::int64_t i = p * kRangeElements, count = std::min(n - i, kRangeElements);
    range(count, step, weights + i, start + i, grad + i, m + i, v + i, s + i, part[std::size_t(p)]);
  });
  ProdigySums total;
  for (const ProdigySums& p : part) {
    total.distance += p.distance;
    total.size += p.size;
  }
  return total;
}

template <class T>
void propose_ratio(std::int64_t n, double rate, double epsilon, const T* m, const T* v, T* update) {
  const auto range = ATTUNE_DISPATCH(ratio_range<T>);
  over_elements(n, [=](std::int64_t i, std::int64_t end) { range(end - i, rate, epsilon, m + i, v + i, update + i); });
}

template <class T>
void mean_squares(std::int64_t rows, std::int64_t width, double grad_scale, const T* grad, T* row_means,
                  T* column_means) {
  const auto block = ATTUNE_DISPATCH(squares_of_matrix<T>);
  sum_over_row_blocks(rows, width, column_means, false, [&](std::int64_t i, std::int64_t end, T* sums) {
    block(end - i, width, T(grad_scale), grad + i * width, row_means + i, sums);
  });
  for (std::int64_t j = 0; j < width; ++j) column_means[j] /= T(rows);
}

template <class T>
void propose_factored(std::int64_t rows, std::int64_t width, double grad_scale, double least, const T* grad,
                      const T* row_factor, const T* column, T* update) {
  const auto block = ATTUNE_DISPATCH(factored_rows<T>);
  over_rows(rows, width, [=](std::int64_t i, std::int64_t end) {
    block(end - i, width, T(grad_scale), T(least), grad + i * width, row_factor + i, column, update + i * width);
  });
}

template <class T>
void scale(std::int64_t n, double factor, T* x) {
  const auto range = ATTUNE_DISPATCH(scale_range<T>);
  over_elements(n, [=](std::int64_t i, std::int64_t end) { range(end - i, factor, x + i); });
}

template <class T>
void apply_update(std::int64_t n, double decay, const T* update, T* weights) {
  const auto range = ATTUNE_DISPATCH(apply_range<T>);
  over_elements(n, [=](std::int64_t i, std::int64_t end) { range(end - i, decay, update + i, weights + i); });
}

template <class T>
double sum_of_squares(std::int64_t n, const T* x) {
  const auto range = ATTUNE_DISPATCH(squares_range<T>);
  return sum_over_ranges(n, [=](std::int64_t i, std::int64_t end) { return range(end - i, x + i); });
}

template <class T>
bool all_finite(std::int64_t n, const T* x) {
  const auto range = ATTUNE_DISPATCH(finite_range<T>);
  std::atomic<bool> finite{true};
  over_elements(n, [&](std::int64_t i, std::int64_t end) {
    if (!range(end - i, x + i)) finite.store(false, std::memory_order_relaxed);
  });
  return finite;
}

template <class T>
void clamp(std::int64_t n, T low, T high, T* x) {
  const auto range = ATTUNE_DISPATCH(clamp_range<T>);
  over_elements(n, [=](std::int64_t i, std::int64_t end) { range(end - i, low, high, x + i); });
}

#define ATTUNE_INSTANTIATE(T)                                                                                          \
  template void propose_sgd<T>(std::int64_t, const SgdStep&, const T*, const T*, T*, T*);                              \
  template void propose_adam<T>(std::int64_t, const AdamStep&, const T*, const T*, T*, T*, T*);                        \
  template void propose_adaptive<T>(std::int64_t, const AdaptiveStep&, const T*, const T*, T*, T*, T*, T*);            \
  template void propose_lion<T>(std::int64_t, double, double, double, double, const T*, T*, T*);                       \
  template void blend_momentum<T>(std::int64_t, double, bool, double, const T*, T*, T*);                               \
  template void apply_averaged<T>(std::int64_t, double, double, double, const T*, T*, T*);                             \
  template void move_towards<T>(std::int64_t, double, const T*, T*);                                                   \
  template ProdigySums prodigy_moments<T>(std::int64_t, const ProdigyStep&, const T*, const T*, const T*, T*, T*, T*); \
  template void propose_ratio<T>(std::int64_t, double, double, const T*, const T*, T*);                                \
  template void mean_squares<T>(std::int64_t, std::int64_t, double, const T*, T*, T*);                                 \
  template void propose_factored<T>(std::int64_t, std::int64_t, double, double, const T*, const T*, const T*, T*);     \
  template void scale<T>(std::int64_t, double, T*);                                                                    \
  template void apply_update<T>(std::int64_t, double, const T*, T*);                                                   \
  template double sum_of_squares<T>(std::int64_t, const T*);                                                           \
  template bool all_finite<T>(std::int64_t, const T*);                                                                 \
  template void clamp<T>(std::int64_t, T, T, T*);
ATTUNE_INSTANTIATE(float)
ATTUNE_INSTANTIATE(double)
#undef ATTUNE_INSTANTIATE

}  // namespace attune::kernels
#endif
