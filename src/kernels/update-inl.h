// The loops of the further optimizers' steps; update.cpp has those of SGD and Adam, and the entry points.
// Included once per target (see dispatch.hpp).
#if defined(ATTUNE_KERNELS_UPDATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_UPDATE_INL_H_
#undef ATTUNE_KERNELS_UPDATE_INL_H_
#else
#define ATTUNE_KERNELS_UPDATE_INL_H_
#endif

#include <cmath>

#include "kernels/map-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// The angle of the point (x, y), x >= 0: atan2(y, x) in -pi/2 .. pi/2; 0 at (0, 0). Relative error some units in the
/// last place. With t = min / max of the magnitudes in [0, 1] and c the nearest of 0, 1/2, 1:
/// atan t = atan c + atan u, u = (t - c) / (1 + t c), |u| < 0.25, and the series of atan converges in a few terms.
template <class T>
HWY_INLINE Vec<T> angle(Vec<T> y, Vec<T> x) {
  using V = Vec<T>;
  constexpr int kTerms = sizeof(T) == 8 ? 13 : 6;
  const V size = hn::Abs(y), large = hn::Max(size, x), small = hn::Min(size, x);
  const auto at_zero = hn::Eq(large, zero<T>());
  const V t = hn::Div(small, hn::IfThenElse(at_zero, set(T(1)), large));
  const auto middle = hn::Gt(t, set(T(0.25))), high = hn::Gt(t, set(T(0.75)));
  const V c = hn::IfThenElse(high, set(T(1)), hn::IfThenElse(middle, set(T(0.5)), zero<T>()));
  const V atan_c = hn::IfThenElse(high, set(T(0.78539816339744830962)),
                                  hn::IfThenElse(middle, set(T(0.46364760900080611621)), zero<T>()));
  const V u = hn::Div(hn::Sub(t, c), hn::MulAdd(t, c, set(T(1)))), u2 = hn::Mul(u, u);
  V series = set(T(1) / T(2 * kTerms - 1));
  ATTUNE_UNROLL for (int i = kTerms - 2; i >= 0; --i) {
    series = hn::Sub(set(T(1) / T(2 * i + 1)), hn::Mul(series, u2));
  }
  V phi = hn::MulAdd(u, series, atan_c);
  phi = hn::IfThenElse(hn::Gt(size, x), hn::Sub(set(T(1.57079632679489661923)), phi), phi);
  return hn::CopySign(phi, y);
}

/// One vector of a step; see AdaptiveStep. `slow` is read and written by Direction::mixed alone.
template <class T>
struct AdaptiveVector {
  using V = Vec<T>;
  V scale, decay, fresh1, fresh2, fresh3, beta2, rate, share, alpha, inverse1, root, epsilon, decay_after;
  Direction direction;

  explicit AdaptiveVector(const AdaptiveStep& s)
      : scale(set(T(s.grad_scale))),
        decay(set(T(s.weight_decay))),
        fresh1(set(T(1 - s.beta1))),
        fresh2(set(T(1 - s.beta2))),
        fresh3(set(T(1 - s.beta3))),
        beta2(set(T(s.beta2))),
        rate(set(T(s.rate))),
        share(set(T(s.gradient_rate))),
        alpha(set(T(s.slow_share))),
        inverse1(set(T(1 / s.correction1))),
        root(set(T(s.root))),
        epsilon(set(T(s.epsilon))),
        decay_after(set(T(s.decay_after))),
        direction(s.direction) {}

  HWY_INLINE V operator()(V g, V w, V& m, V& v, V& slow) const {
    g = hn::MulAdd(decay, w, hn::Mul(scale, g));
    v = hn::MulAdd(beta2, v, hn::Mul(hn::Mul(fresh2, g), g));
    if (direction == Direction::gradient) {
      return hn::Mul(rate, hn::Div(g, hn::Add(hn::Div(hn::Sqrt(v), root), epsilon)));
    }
    m = hn::MulAdd(fresh1, hn::Sub(g, m), m);
    if (direction == Direction::momentum) return hn::Mul(rate, m);
    if (direction == Direction::angle) {
      return hn::Mul(rate, angle<T>(hn::Mul(inverse1, m), hn::Div(hn::Sqrt(v), root)));
    }
    const V denominator = hn::Add(hn::Div(hn::Sqrt(v), root), epsilon);
    if (direction == Direction::nesterov) {
      return hn::MulAdd(share, hn::Div(g, denominator), hn::Mul(rate, hn::Div(m, denominator)));
    }
    V numerator = hn::Mul(inverse1, m);
    if (direction == Direction::mixed) {
      slow = hn::MulAdd(fresh3, hn::Sub(g, slow), slow);
      numerator = hn::MulAdd(alpha, slow, numerator);
    }
    return hn::MulAdd(decay_after, w, hn::Mul(rate, hn::Div(numerator, denominator)));
  }
};

/// Arrays that a step does not need are null; m is null for Direction::gradient.
template <class T>
void adaptive_range(std::int64_t n, const AdaptiveStep& step, const T* weights, const T* grad, T* m, T* v, T* slow,
                    T* update) {
  using V = Vec<T>;
  constexpr int kL = kLaneCount<T>;
  const AdaptiveVector<T> one(step);
  const bool reads_weights = step.weight_decay != 0 || step.decay_after != 0;
  std::int64_t i = 0;
  for (; i + kL <= n; i += kL) {
    V mean = m ? load(m + i) : zero<T>(), square = load(v + i), long_mean = slow ? load(slow + i) : zero<T>();
    store(one(load(grad + i), reads_weights ? load(weights + i) : zero<T>(), mean, square, long_mean), update + i);
    if (m) store(mean, m + i);
    store(square, v + i);
    if (slow) store(long_mean, slow + i);
  }
  if (i == n) return;
  const int rest = int(n - i);
  const auto first = [&](const T* p) HWY_ATTR { return p ? load_first(p + i, rest) : zero<T>(); };
  V mean = first(m), square = first(v), long_mean = first(slow);
  store_first(one(first(grad), reads_weights ? first(weights) : zero<T>(), mean, square, long_mean), update + i, rest);
  if (m) store_first(mean, m + i, rest);
  store_first(square, v + i, rest);
  if (slow) store_first(long_mean, slow + i, rest);
}

template <class T>
void lion_range(std::int64_t n, double rate, double beta1, double beta2, double grad_scale, const T* grad, T* m,
                T* update) {
  using V = Vec<T>;
  const V r = set(T(rate)), fresh1 = set(T(1 - beta1)), fresh2 = set(T(1 - beta2)), scale = set(T(grad_scale));
  map(n, grad, m, update, [=](V g, V mean) HWY_ATTR {
    const V blend = hn::MulAdd(fresh1, hn::Sub(hn::Mul(scale, g), mean), mean);
    return hn::IfThenElse(hn::Gt(blend, zero<T>()), r, hn::IfThenElse(hn::Lt(blend, zero<T>()), hn::Neg(r), zero<T>()));
  });
  map(n, grad, m, m, [=](V g, V mean) HWY_ATTR { return hn::MulAdd(fresh2, hn::Sub(hn::Mul(scale, g), mean), mean); });
}

template <class T>
void blend_range(std::int64_t n, double momentum, bool nesterov, double grad_scale, const T* grad, T* m, T* update) {
  using V = Vec<T>;
  const V keep = set(T(momentum)), fresh = set(T(1 - momentum)), scale = set(T(grad_scale));
  map(n, grad, m, m, [=](V g, V mean) HWY_ATTR { return hn::MulAdd(fresh, hn::Sub(hn::Mul(scale, g), mean), mean); });
  map(n, grad, m, update, [=](V g, V mean) HWY_ATTR {
    g = hn::Mul(scale, g);
    return nesterov ? hn::MulAdd(keep, hn::Sub(mean, g), g) : mean;
  });
}

template <class T>
void averaged_range(std::int64_t n, double share, double part, double decay, const T* update, T* y, T* z) {
  using V = Vec<T>;
  constexpr int kL = kLaneCount<T>;
  const V c = set(T(share)), k = set(T(part)), shrink = set(T(decay));
  const auto one = [=](V u, V& trained, V& base) HWY_ATTR {
    u = hn::MulAdd(shrink, trained, u);
    trained = hn::NegMulAdd(k, u, hn::MulAdd(c, hn::Sub(base, trained), trained));
    base = hn::Sub(base, u);
  };
  std::int64_t i = 0;
  for (; i + kL <= n; i += kL) {
    V trained = load(y + i), base = load(z + i);
    one(load(update + i), trained, base);
    store(trained, y + i);
    store(base, z + i);
  }
  if (i < n) {
    const int rest = int(n - i);
    V trained = load_first(y + i, rest), base = load_first(z + i, rest);
    one(load_first(update + i, rest), trained, base);
    store_first(trained, y + i, rest);
    store_first(base, z + i, rest);
  }
}

template <class T>
void towards_range(std::int64_t n, double share, const T* target, T* x) {
  // From the nearer end, so that a share of 1 is the target exactly.
  const Vec<T> near = set(T(share)), far = set(T(1 - share));
  if (share < 0.5) {
    map(n, target, x, x, [=](Vec<T> t, Vec<T> v) HWY_ATTR { return hn::MulAdd(near, hn::Sub(t, v), v); });
  } else {
    map(n, target, x, x, [=](Vec<T> t, Vec<T> v) HWY_ATTR { return hn::NegMulAdd(far, hn::Sub(t, v), t); });
  }
}

template <class T>
void prodigy_range(std::int64_t n, const ProdigyStep& step, const T* weights, const T* start, const T* grad, T* m, T* v,
                   T* s, ProdigySums& sums) {
  using V = Vec<T>;
  constexpr int kL = kLaneCount<T>, kBlock = 1024;  // elements that are summed in T
  const V scale = set(T(step.grad_scale)), decay = set(T(step.weight_decay)), beta1 = set(T(step.beta1));
  const V beta2 = set(T(step.beta2)), beta3 = set(T(step.beta3)), fresh1 = set(T(step.d * (1 - step.beta1)));
  const V fresh2 = set(T(step.d * step.d * (1 - step.beta2))), fresh3 = set(T(step.gradient_share));
  V distance, size;
  const auto one = [&](V g, V w, V from, V& mean, V& square, V& sum) HWY_ATTR {
    g = hn::MulAdd(decay, w, hn::Mul(scale, g));
    mean = hn::MulAdd(fresh1, g, hn::Mul(beta1, mean));
    square = hn::MulAdd(hn::Mul(fresh2, g), g, hn::Mul(beta2, square));
    sum = hn::MulAdd(fresh3, g, hn::Mul(beta3, sum));
    distance = hn::MulAdd(g, hn::Sub(from, w), distance);
    size = hn::Add(size, hn::Abs(sum));
  };
  sums = {};
  for (std::int64_t i = 0; i < n;) {
    const std::int64_t end = i + kBlock < n ? i + kBlock : n;
    distance = size = zero<T>();
    for (; i + kL <= end; i += kL) {
      V mean = load(m + i), square = load(v + i), sum = load(s + i);
      one(load(grad + i), load(weights + i), load(start + i), mean, square, sum);
      store(mean, m + i);
      store(square, v + i);
      store(sum, s + i);
    }
    if (i < end) {  // lanes past the end hold zeros, which add nothing
      const int rest = int(end - i);
      V mean = load_first(m + i, rest), square = load_first(v + i, rest), sum = load_first(s + i, rest);
      one(load_first(grad + i, rest), load_first(weights + i, rest), load_first(start + i, rest), mean, square, sum);
      store_first(mean, m + i, rest);
      store_first(square, v + i, rest);
      store_first(sum, s + i, rest);
      i = end;
    }
    sums.distance += double(sum_of_lanes<T>(distance));
    sums.size += double(sum_of_lanes<T>(size));
  }
}

template <class T>
void ratio_range(std::int64_t n, double rate, double epsilon, const T* m, const T* v, T* update) {
  using V = Vec<T>;
  const V r = set(T(rate)), e = set(T(epsilon));
  map(n, m, v, update,
      [=](V mean, V square) HWY_ATTR { return hn::Mul(r, hn::Div(mean, hn::Add(hn::Sqrt(square), e))); });
}

/// rows[i] = mean of grad[i][:]^2; columns[j] += sum over i.
template <class T>
void squares_of_matrix(std::int64_t rows, std::int64_t width, T scale, const T* grad, T* row_means, T* column_sums) {
  using V = Vec<T>;
  const V s = set(scale);
  for (std::int64_t i = 0; i < rows; ++i, grad += width) {
    const T sum = sum_map(width, grad, grad, [=](V total, V g, V) HWY_ATTR {
      g = hn::Mul(s, g);
      return hn::MulAdd(g, g, total);
    });
    row_means[i] = sum / T(width);
    map(width, grad, column_sums, column_sums, [=](V g, V total) HWY_ATTR {
      g = hn::Mul(s, g);
      return hn::MulAdd(g, g, total);
    });
  }
}

/// update[i][j] = scale grad[i][j] / sqrt(max(row_factor[i] column[j], least)).
template <class T>
void factored_rows(std::int64_t rows, std::int64_t width, T scale, T least, const T* grad, const T* row_factor,
                   const T* column, T* update) {
  using V = Vec<T>;
  const V s = set(scale), l = set(least);
  for (std::int64_t i = 0; i < rows; ++i, grad += width, update += width) {
    const V factor = set(row_factor[i]);
    map(width, grad, column, update,
        [=](V g, V c) HWY_ATTR { return hn::Div(hn::Mul(s, g), hn::Sqrt(hn::Max(hn::Mul(factor, c), l))); });
  }
}

template <class T>
void scale_range(std::int64_t n, double factor, T* x) {
  const Vec<T> f = set(T(factor));
  map(n, x, x, [=](Vec<T> v) HWY_ATTR { return hn::Mul(v, f); });
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
