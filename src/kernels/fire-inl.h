// FIRE's network over a tile: x[j][i] += bias + sum over units u of v_u act(w_u z + b_u), z = psi[m] inverse[i] with
// m = keys - 1 - j + i the diagonal of the pair. Included once per target. A tanh runs for every pair; not so ReLU:
//
// A network of one number with ReLU is a broken line. Along a diagonal psi is one number and z moves between psi low
// and psi high, the tile's smallest and largest inverse: w z + b, rounded, moves between what it is at the ends, so a
// unit that is on at both, or off at both, is so for the whole diagonal, and all that are on make one line a z + c. The
// few units that bend within a diagonal are run for its pairs alone. So 64 x 128 pairs ask 191 times for 32 units
// instead of 8,192 times.
//
// Ladder, 32 units, plain attention's time at width 64, 1,024 tokens, forward / backward (AVX-512, Zen 4; the walk over
// stages alone: 1.03 / 1.07):
//   the network a pair, a loop over lanes for each unit, in C++ under target attributes     2.03 / 3.18
//   lines by diagonals                                                                      1.16 / 1.22
// Two masks of a unit in one struct: slower, they share a register piece by piece.
#if defined(ATTUNE_KERNELS_FIRE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_FIRE_INL_H_
#undef ATTUNE_KERNELS_FIRE_INL_H_
#else
#define ATTUNE_KERNELS_FIRE_INL_H_
#endif

#include <algorithm>
#include <cmath>

#include "kernels/bias_tile.hpp"
#include "kernels/diagonals-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// The tile's diagonals in whole vectors: z at both ends of each, 0 beyond the last one.
struct FireLines {
  static constexpr int kL = kLaneCount<float>;
  const FireTile& t;
  int padded;
  float *z_low, *z_high, *rest;  // [padded] each; the rest of the scratch
  FireLines(const FireTile& tile, float* scratch)
      : t(tile), padded((t.diagonals() + 2 * kL - 1) / (2 * kL) * (2 * kL)) {
    z_low = scratch, z_high = z_low + padded, rest = z_high + padded;
    const Vec<float> low = set(*std::min_element(t.inverse, t.inverse + t.queries));
    const Vec<float> high = set(*std::max_element(t.inverse, t.inverse + t.queries));
    for (int m = 0; m < padded; m += kL) {
      const Vec<float> at = psi(m);
      store(hn::Mul(at, low), z_low + m);
      store(hn::Mul(at, high), z_high + m);
    }
  }
  HWY_INLINE int count(int m) const { return std::clamp(t.diagonals() - m, 0, kL); }
  HWY_INLINE Vec<float> psi(int m) const { return load_first(t.psi + m, count(m)); }
  /// Calls f(first lane, lanes, row j) for every row that meets the diagonals m .. m + kL - 1, rows kL apart after each
  /// other: what one of them writes the next does not read.
  template <class F>
  HWY_INLINE void each_row(int m, F f) const {
    const int top = t.keys - 1 - m, begin = std::max(0, top - kL + 1), end = std::min(t.keys, top + t.queries);
    for (int phase = 0; phase < kL; ++phase) {
      for (int j = begin + phase; j < end; j += kL) {
        const int at = j - top, first = std::max(0, at);  // the lane of diagonal m
        f(first, std::min(t.queries, at + kL) - first, j);
      }
    }
  }
};

/// Unit u of the pairs on those diagonals of m .. m + kL - 1 where it bends.
HWY_NOINLINE void fire_bent(const FireLines& lines, int u, int m, hn::Mask<Lanes<float>> bends, float* x,
                            std::ptrdiff_t stride) {
  const FireTile& t = lines.t;
  if (hn::AllFalse(Lanes<float>(), bends)) return;
  float weight[kLaneCount<float>];
  store(hn::IfThenElseZero(bends, set(t.weight[u])), weight);
  const Vec<float> w = set(t.hidden_weight[u]), b = set(t.hidden_bias[u]);
  lines.each_row(m, [&](int i, int n, int j) HWY_ATTR {
    const int at = t.keys - 1 - j + i;
    const Vec<float> z = hn::Mul(load_first(t.psi + at, n), load_first(t.inverse + i, n)), y = hn::MulAdd(w, z, b);
    const Vec<float> h = hn::IfThenElseZero(hn::Gt(y, zero<float>()), y);
    float* row = x + j * stride + i;
    store_first(hn::MulAdd(load_first(weight + at - m, n), h, load_first(row, n)), row, n);
  });
}

/// x[j][i] += slope[m] inverse[i] + base[m].
template <class C>
HWY_NOINLINE void add_line_columns(C c, const FireTile& t, const float* slope, const float* base, float* x,
                                   std::ptrdiff_t stride) {
  Vec<float> inverse[C::kCount];
  ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) inverse[v] = c.read(t.inverse, v);
  for (int j = 0; j < t.keys; ++j) {
    float* row = x + j * stride;
    const float *a = slope + t.keys - 1 - j, *b = base + t.keys - 1 - j;
    ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) {
      c.write(hn::Add(c.read(row, v), hn::MulAdd(c.read(a, v), inverse[v], c.read(b, v))), row, v);
    }
  }
}

/// Where a unit is on. (Two masks in one struct would be kept in one register, piece by piece: twice the time.)
HWY_INLINE hn::Mask<Lanes<float>> fire_on(Vec<float> w, Vec<float> b, Vec<float> z) {
  return hn::Gt(hn::MulAdd(w, z, b), zero<float>());
}
/// sum + x where `on`.
HWY_INLINE Vec<float> add_where(hn::Mask<Lanes<float>> on, Vec<float> sum, Vec<float> x) {
  return hn::Add(sum, hn::IfThenElseZero(on, x));
}
HWY_INLINE void fire_relu(const FireTile& t, float bias, float* x, std::ptrdiff_t stride, float* scratch) {
  constexpr int kL = kLaneCount<float>;
  const FireLines lines(t, scratch);
  float *slope = lines.rest, *base = slope + lines.padded, *vw = base + lines.padded, *vb = vw + t.hidden;
  for (int u = 0; u < t.hidden; ++u) vw[u] = t.weight[u] * t.hidden_weight[u], vb[u] = t.weight[u] * t.hidden_bias[u];
  // Two vectors at a time share what is read of a unit.
  for (int m = 0; m < lines.padded; m += 2 * kL) {
    const Vec<float> low0 = load(lines.z_low + m), low1 = load(lines.z_low + m + kL);
    const Vec<float> high0 = load(lines.z_high + m), high1 = load(lines.z_high + m + kL);
    Vec<float> a0 = zero<float>(), c0 = set(bias), a1 = a0, c1 = c0;
    for (int u = 0; u < t.hidden; ++u) {
      const Vec<float> w = set(t.hidden_weight[u]), b = set(t.hidden_bias[u]), a = set(vw[u]), c = set(vb[u]);
      const auto on_low0 = fire_on(w, b, low0), on_high0 = fire_on(w, b, high0);
      const auto on_low1 = fire_on(w, b, low1), on_high1 = fire_on(w, b, high1);
      const auto on0 = hn::And(on_low0, on_high0), on1 = hn::And(on_low1, on_high1);
      a0 = add_where(on0, a0, a), c0 = add_where(on0, c0, c);
      a1 = add_where(on1, a1, a), c1 = add_where(on1, c1, c);
      const auto bends0 = hn::Xor(on_low0, on_high0), bends1 = hn::Xor(on_low1, on_high1);
      if (hn::AllFalse(Lanes<float>(), hn::Or(bends0, bends1))) continue;
      fire_bent(lines, u, m, bends0, x, stride);
      fire_bent(lines, u, m + kL, bends1, x, stride);
    }
    store(hn::Mul(a0, lines.psi(m)), slope + m);
    store(hn::Mul(a1, lines.psi(m + kL)), slope + m + kL);
    store(c0, base + m);
    store(c1, base + m + kL);
  }
  over_vectors<float>(t.queries, [&](auto columns) HWY_ATTR { add_line_columns(columns, t, slope, base, x, stride); });
}

/// sum[m] += d[j][i], times[m] += d[j][i] inverse[i].
template <class C>
HWY_NOINLINE void sum_line_columns(C c, const FireTile& t, const float* d, std::ptrdiff_t stride, float* sum,
                                   float* times) {
  Vec<float> inverse[C::kCount];
  ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) inverse[v] = c.read(t.inverse, v);
  float *s = sum + t.keys - 1, *r = times + t.keys - 1;
  DiagonalSums<float, C> sums, products;
  each_row_by_diagonals<float>(
      t.keys, [&]() HWY_ATTR { sums.begin(), products.begin(); },
      [&](int j) HWY_ATTR {
        const float* row = d + j * stride;
        ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) {
          const Vec<float> g = c.read(row, v);
          sums.at[v] = hn::Add(sums.at[v], g);
          products.at[v] = hn::MulAdd(g, inverse[v], products.at[v]);
        }
      },
      [&](int j) HWY_ATTR { sums.next(c, s - j), products.next(c, r - j); },
      [&](int j) HWY_ATTR { sums.end(c, s - j), products.end(c, r - j); });
}
/// dinverse[i] += sum over j of d[j][i] slope[m] psi[m]. Not of the product of slope and psi, which would be rounded
/// once for a whole diagonal: dx of a row sums to 0 or nearly so, and what is left would show it.
template <class C>
HWY_NOINLINE void sum_query_columns(C c, const FireTile& t, const float* d, std::ptrdiff_t stride, const float* slope,
                                    float* dinverse) {
  Vec<float> sum[C::kCount];
  ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) sum[v] = c.read(dinverse, v);
  for (int j = 0; j < t.keys; ++j) {
    const float *row = d + j * stride, *a = slope + t.keys - 1 - j, *psi = t.psi + t.keys - 1 - j;
    ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) {
      sum[v] = hn::MulAdd(hn::Mul(c.read(row, v), c.read(a, v)), c.read(psi, v), sum[v]);
    }
  }
  ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) c.write(sum[v], dinverse, v);
}
/// A power of two so large that sums of v_u w_u over any of the units, each rounded to its last place, are exact. Then
/// all diagonals have the same rounded units, and no rounding of their own.
HWY_INLINE float fire_grid(const FireTile& t) {
  float total = 0;
  for (int u = 0; u < t.hidden; ++u) total += std::abs(t.weight[u] * t.hidden_weight[u]);
  return std::isfinite(total) && total > 0 ? std::ldexp(1.5f, std::ilogb(total) + 1) : 0;
}

/// What unit u gives back for the pairs on the diagonals where it bends: to dpsi and dinverse here, the sum of dx where
/// it is on and the sum of dx z as results.
struct BentSums {
  float sum, times_z;
};
HWY_NOINLINE BentSums fire_bent_back(const FireLines& lines, int u, int m, hn::Mask<Lanes<float>> bends, const float* d,
                                     std::ptrdiff_t stride, float* dpsi, float* dinverse) {
  const FireTile& t = lines.t;
  float here[kLaneCount<float>];
  store(hn::IfThenElseZero(bends, set(1.0f)), here);
  const Vec<float> w = set(t.hidden_weight[u]), b = set(t.hidden_bias[u]), vw = hn::Mul(set(t.weight[u]), w);
  Vec<float> sum = zero<float>(), times_z = zero<float>();
  lines.each_row(m, [&](int i, int n, int j) HWY_ATTR {
    const int at = t.keys - 1 - j + i;
    const Vec<float> psi = load_first(t.psi + at, n), inverse = load_first(t.inverse + i, n), z = hn::Mul(psi, inverse);
    const Vec<float> bent = load_first(here + at - m, n);
    const auto on = hn::And(hn::Gt(hn::MulAdd(w, z, b), zero<float>()), hn::Gt(bent, zero<float>()));
    const Vec<float> g = hn::IfThenElseZero(on, load_first(d + j * stride + i, n)), dz = hn::Mul(g, vw);
    sum = hn::Add(sum, g);
    times_z = hn::MulAdd(g, z, times_z);
    store_first(hn::MulAdd(dz, inverse, load_first(dpsi + at, n)), dpsi + at, n);
    store_first(hn::MulAdd(dz, psi, load_first(dinverse + i, n)), dinverse + i, n);
  });
  const Lanes<float> all;
  return {hn::GetLane(hn::SumOfLanes(all, sum)), hn::GetLane(hn::SumOfLanes(all, times_z))};
}

/// tanh x as scalar.hpp computes it: a rational function of degree 13 over 6. What the formula's errors have in common
/// over a row, a gradient that sums to 0 over the row takes out again; another tanh would not share them.
HWY_INLINE Vec<float> fire_tanh(Vec<float> a) {
  constexpr float kP[] = {4.89352455891786e-03f,  6.37261928875436e-04f, 1.48572235717979e-05f, 5.12229709037114e-08f,
                          -8.60467152213735e-11f, 2.00018790482477e-13f, -2.76076847742355e-16f};
  constexpr float kQ[] = {4.89352518554385e-03f, 2.26843463243900e-03f, 1.18534705686654e-04f, 1.19825839466702e-06f};
  const Vec<float> x = clamp_keep_nan(a, -7.9f, 7.9f), s = hn::Mul(x, x);
  return hn::Div(hn::Mul(x, polynomial(s, kP)), polynomial(s, kQ));
}
/// With tanh, one vector of queries over all keys.
template <class C>
HWY_NOINLINE void fire_tanh_columns(C c, const FireTile& t, float bias, float* x, std::ptrdiff_t stride) {
  const Vec<float> inverse = c.read(t.inverse, 0);
  for (int j = 0; j < t.keys; ++j) {
    const Vec<float> z = hn::Mul(c.read(t.psi + t.keys - 1 - j, 0), inverse);
    Vec<float> sum = set(bias);
    for (int u = 0; u < t.hidden; ++u) {
      const Vec<float> h = fire_tanh(hn::MulAdd(set(t.hidden_weight[u]), z, set(t.hidden_bias[u])));
      sum = hn::MulAdd(set(t.weight[u]), h, sum);
    }
    float* row = x + j * stride;
    c.write(hn::Add(c.read(row, 0), sum), row, 0);
  }
}
/// h = tanh(w z + b), the unit adds v h: dv = h dx, and s = (1 - h^2) dx gives dw = v s z, db = v s, dz = v s w.
/// units: sums of s z, s and h dx, [hidden][3][kL].
template <class C>
HWY_NOINLINE void fire_tanh_back_columns(C c, const FireTile& t, const float* d, std::ptrdiff_t stride,
                                         const FireGradients& to, float* units) {
  constexpr int kL = kLaneCount<float>;
  const Vec<float> inverse = c.read(t.inverse, 0);
  Vec<float> dinverse = zero<float>();
  for (int j = 0; j < t.keys; ++j) {
    const int m = t.keys - 1 - j;
    const Vec<float> psi = c.read(t.psi + m, 0), z = hn::Mul(psi, inverse), g = c.read(d + j * stride, 0);
    Vec<float> dz = zero<float>();
    for (int u = 0; u < t.hidden; ++u) {
      const Vec<float> w = set(t.hidden_weight[u]);
      const Vec<float> h = fire_tanh(hn::MulAdd(w, z, set(t.hidden_bias[u])));
      const Vec<float> slope = hn::NegMulAdd(h, h, set(1.0f)), s = hn::Mul(slope, g);
      float* sums = units + std::ptrdiff_t(u) * 3 * kL;
      store(hn::MulAdd(s, z, load(sums)), sums);
      store(hn::MulAdd(slope, g, load(sums + kL)), sums + kL);
      store(hn::MulAdd(h, g, load(sums + 2 * kL)), sums + 2 * kL);
      dz = hn::MulAdd(s, set(t.weight[u] * t.hidden_weight[u]), dz);
    }
    c.write(hn::MulAdd(dz, inverse, c.read(to.psi + m, 0)), to.psi + m, 0);
    dinverse = hn::MulAdd(dz, psi, dinverse);
  }
  c.write(dinverse, to.inverse, 0);
}
HWY_INLINE float fire_tanh_back(const FireTile& t, const float* d, std::ptrdiff_t stride, const FireGradients& to,
                                float* scratch) {
  constexpr int kL = kLaneCount<float>;
  const Lanes<float> all;
  // Sums over the keys by lanes, over all lanes, and of dx by diagonals: each sum is a short one.
  const std::ptrdiff_t numbers = std::ptrdiff_t(t.hidden) * 3;
  float *units = scratch, *totals = units + numbers * kL, *sum = totals + numbers;
  std::fill(totals, sum + t.diagonals(), 0.0f);
  std::fill(to.psi, to.psi + t.diagonals(), 0.0f);
  over_single_vectors(t.queries, [&](auto c) HWY_ATTR {
    std::fill(units, totals, 0.0f);
    fire_tanh_back_columns(c, t, d, stride, to, units);
    for (std::ptrdiff_t n = 0; n < numbers; ++n) totals[n] += hn::GetLane(hn::SumOfLanes(all, load(units + n * kL)));
  });
  over_vectors<float>(t.queries, [&](auto c) HWY_ATTR { sum_diagonal_columns(c, d, stride, t.keys, sum); });
  for (int u = 0; u < t.hidden; ++u) {
    to.hidden_weight[u] += t.weight[u] * totals[3 * u];
    to.hidden_bias[u] += t.weight[u] * totals[3 * u + 1];
    to.weight[u] += totals[3 * u + 2];
  }
  float everything = 0;
  for (int m = 0; m < t.diagonals(); ++m) everything += sum[m];
  return everything;
}

HWY_INLINE float fire_relu_back(const FireTile& t, const float* d, std::ptrdiff_t stride, const FireGradients& to,
                                float* scratch) {
  constexpr int kL = kLaneCount<float>;
  const Lanes<float> all;
  const FireLines lines(t, scratch);
  // By diagonals: sums of dx, of dx inverse and of dx z, and the slope of all units that are on.
  float *sum = lines.rest, *times = sum + lines.padded, *slope = times + lines.padded, *times_z = slope + lines.padded;
  std::fill(sum, times_z, 0.0f);
  std::fill(to.psi, to.psi + t.diagonals(), 0.0f);
  std::fill(to.inverse, to.inverse + t.queries, 0.0f);
  over_vectors<float>(t.queries, [&](auto c) HWY_ATTR { sum_line_columns(c, t, d, stride, sum, times); });
  for (int m = 0; m < lines.padded; m += kL) store(hn::Mul(load(times + m), lines.psi(m)), times_z + m);
  const Vec<float> grid = set(fire_grid(t));
  for (int u = 0; u < t.hidden; ++u) {
    // The sum of dx over the pairs where the unit is on gives dv = w (sum of dx z) + b (sum of dx) and db = v (sum).
    const Vec<float> w = set(t.hidden_weight[u]), b = set(t.hidden_bias[u]);
    const Vec<float> vw = hn::Sub(hn::Add(hn::Mul(set(t.weight[u]), w), grid), grid);
    Vec<float> on_sum = zero<float>(), on_times_z = zero<float>();
    BentSums bent{0, 0};
    for (int m = 0; m < lines.padded; m += kL) {
      const auto low = fire_on(w, b, load(lines.z_low + m)), high = fire_on(w, b, load(lines.z_high + m));
      const auto on = hn::And(low, high), bends = hn::Xor(low, high);
      on_sum = add_where(on, on_sum, load(sum + m));
      on_times_z = add_where(on, on_times_z, load(times_z + m));
      store(add_where(on, load(slope + m), vw), slope + m);
      if (!hn::AllFalse(all, bends)) {
        const BentSums s = fire_bent_back(lines, u, m, bends, d, stride, to.psi, to.inverse);
        bent.sum += s.sum;
        bent.times_z += s.times_z;
      }
    }
    const float total = bent.sum + hn::GetLane(hn::SumOfLanes(all, on_sum));
    const float total_z = bent.times_z + hn::GetLane(hn::SumOfLanes(all, on_times_z));
    to.hidden_weight[u] += t.weight[u] * total_z;
    to.hidden_bias[u] += t.weight[u] * total;
    to.weight[u] += t.hidden_weight[u] * total_z + t.hidden_bias[u] * total;
  }
  // dz = slope dx: dpsi = inverse dz by diagonals, dinverse = psi dz by queries.
  Vec<float> everything = zero<float>();
  for (int m = 0; m < lines.padded; m += kL) {
    const int n = lines.count(m);
    const Vec<float> a = load(slope + m);
    store_first(hn::MulAdd(a, load(times + m), load_first(to.psi + m, n)), to.psi + m, n);
    everything = hn::Add(everything, load(sum + m));
  }
  over_vectors<float>(t.queries, [&](auto c) HWY_ATTR { sum_query_columns(c, t, d, stride, slope, to.inverse); });
  return hn::GetLane(hn::SumOfLanes(all, everything));
}

HWY_INLINE void fire_tile(const FireTile& t, float bias, float* x, std::ptrdiff_t stride, float* scratch) {
  if (!t.tanh) return fire_relu(t, bias, x, stride, scratch);
  over_single_vectors(t.queries, [&](auto c) HWY_ATTR { fire_tanh_columns(c, t, bias, x, stride); });
}
HWY_INLINE float fire_back(const FireTile& t, const float* d, std::ptrdiff_t stride, const FireGradients& to,
                           float* scratch) {
  return t.tanh ? fire_tanh_back(t, d, stride, to, scratch) : fire_relu_back(t, d, stride, to, scratch);
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
