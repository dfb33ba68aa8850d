// threshold.hpp, compiled per target and exported.
//
// The sum over a row's weights falls in tau; so does its norm h(tau) = (sum (scale x - tau)^(1/scale))^scale, which is
// convex too, and a straight line where the support is one key or several equal ones. Newton on h from the left of the
// root rises monotonically and needs three to six steps where the sum itself needs five to fifteen:
//
//     tau += (S - S^(1 - scale)) / sum u^(1/scale - 1),   S = sum u^(1/scale),   u = max(scale x - tau, 0)
//
// The threshold of some keys of a row is never above that of all. So the first one comes from the largest logits of
// kParts parts of the row; what does not reach above it is out of the support, and the rest, few keys, are copied side
// by side for the last steps.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/threshold.cpp"
#include "kernels/threshold.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/cells-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// Most queries of a tile.
constexpr int kWide = 64;
/// Parts of a row whose largest logits give the first threshold: key j belongs to part j % kParts.
constexpr int kParts = 16;

// How a weight follows from u > 0: p, its slope s = p^(2 - alpha) = p / u and log p.
struct Linear {
  HWY_INLINE explicit Linear(float) {}
  HWY_INLINE void at(Vec<float> u, Vec<float>& p, Vec<float>& s) const { p = u, s = set(1.0f); }
  HWY_INLINE Vec<float> log_of(Vec<float> u) const { return log(u); }
  HWY_INLINE Vec<float> short_of(Vec<float>) const { return set(1.0f); }  // S^(1 - scale)
};
struct Square {
  HWY_INLINE explicit Square(float) {}
  HWY_INLINE void at(Vec<float> u, Vec<float>& p, Vec<float>& s) const { p = hn::Mul(u, u), s = u; }
  HWY_INLINE Vec<float> log_of(Vec<float> u) const { return hn::Mul(set(2.0f), log(u)); }
  HWY_INLINE Vec<float> short_of(Vec<float> sum) const { return hn::Sqrt(sum); }
};
struct Power {
  float power, rest;
  HWY_INLINE explicit Power(float scale) : power(1 / scale), rest(1 - scale) {}
  HWY_INLINE void at(Vec<float> u, Vec<float>& p, Vec<float>& s) const {
    p = exp_of<float>(log_of(u));
    s = hn::Div(p, u);
  }
  HWY_INLINE Vec<float> log_of(Vec<float> u) const { return hn::Mul(set(power), log(u)); }
  HWY_INLINE Vec<float> short_of(Vec<float> sum) const { return exp_of<float>(hn::Mul(set(rest), log(sum))); }
};
/// Calls f with the one of them that serves.
template <class F>
HWY_INLINE void with_power(float scale, F f) {
  if (scale == 1) return f(Linear(scale));
  if (scale == 0.5f) return f(Square(scale));
  f(Power(scale));
}

/// u of one cell and whether it is in the support; a NaN is.
template <class C>
HWY_INLINE auto above(C c, const float* x, float scale, const float* tau, Vec<float>& u) {
  u = hn::MulSub(c.read(x, 0), set(scale), c.read(tau, 0));
  return hn::Gt(u, zero<float>());
}
template <class C>
HWY_INLINE auto above_or_nan(C c, const float* x, float scale, const float* tau, Vec<float>& u) {
  u = hn::MulSub(c.read(x, 0), set(scale), c.read(tau, 0));
  return hn::Not(hn::Le(u, zero<float>()));
}
template <class M>
HWY_INLINE Vec<float> selected(M mask, Vec<float> x) {
  return hn::IfThenElseZero(mask, x);
}

/// Raises tau to the threshold of these rows.
template <class P>
void raise(const P& power, float scale, const float* x, std::ptrdiff_t stride, int keys, int queries, float* tau) {
  constexpr int kMostSteps = 60;
  over_cells(queries, [&](auto c) HWY_ATTR {
    for (int step = 0; step < kMostSteps; ++step) {
      Vec<float> sum = zero<float>(), slope = zero<float>();
      for (int j = 0; j < keys; ++j) {
        Vec<float> u, p, s;
        const auto in = above(c, x + j * stride, scale, tau, u);
        power.at(hn::IfThenElse(in, u, set(1.0f)), p, s);
        sum = hn::Add(sum, selected(in, p));
        slope = hn::Add(slope, selected(in, s));
      }
      const Vec<float> before = c.read(tau, 0);
      const Vec<float> next = hn::Add(before, hn::Div(hn::Sub(sum, power.short_of(sum)), slope));
      // Not where the sum is 0, and a row that has come to rest stays: its bits are its own.
      const auto rises = hn::Gt(next, before);
      if (hn::AllFalse(Lanes<float>(), rises)) break;
      c.write(hn::IfThenElse(rises, next, before), tau, 0);
    }
  });
}

/// Copies what lies above tau to [..][kWide], key after key of each query, the shorter lists filled up with -infinity.
/// Returns the length of the longest; -1 if so many are above that copying would not pay.
int candidates(float scale, const float* x, std::ptrdiff_t stride, int keys, int queries, const float* tau, float* to) {
  int count[kWide] = {};
  std::int64_t left = std::int64_t(keys) * queries / 4;
  for (int j = 0; j < keys; ++j) {
    const float* row = x + j * stride;
    over_cells(queries, [&](auto c) HWY_ATTR {
      Vec<float> u;
      std::uint64_t bits = bits_of(above(c, row, scale, tau, u));
      for (; bits != 0; bits &= bits - 1, --left) {
        const int i = c.first + std::countr_zero(bits);
        to[count[i]++ * kWide + i] = row[i];
      }
    });
    if (left < 0) return -1;
  }
  const int longest = *std::max_element(count, count + queries);
  for (int i = 0; i < queries; ++i) {
    for (int s = count[i]; s < longest; ++s) to[s * kWide + i] = -std::numeric_limits<float>::infinity();
  }
  return longest;
}

template <class P>
void forward_rows(const P& power, float scale, float* x, std::ptrdiff_t stride, int keys, int queries, float* tau,
                  float* scratch) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  std::fill_n(scratch, kParts * kWide, kNone);
  for (int j = 0; j < keys; ++j) {
    float* part = scratch + j % kParts * kWide;
    over_cells(queries, [&](auto c) HWY_ATTR {
      const Vec<float> s = c.read(x + j * stride, 0), most = c.read(part, 0);
      c.write(hn::IfThenElse(hn::Gt(s, most), s, most), part, 0);  // a NaN is passed over
    });
  }
  for (int i = 0; i < queries; ++i) {
    float most = kNone;
    for (int part = 0; part < kParts; ++part) most = std::max(most, scratch[part * kWide + i]);
    tau[i] = most == kNone ? 0.0f : most * scale - 1;
  }
  raise(power, scale, scratch, kWide, kParts, queries, tau);
  const int longest = candidates(scale, x, stride, keys, queries, tau, scratch);
  if (longest < 0)
    raise(power, scale, x, stride, keys, queries, tau);
  else
    raise(power, scale, scratch, kWide, longest, queries, tau);
  for (int j = 0; j < keys; ++j) {
    float* row = x + j * stride;
    over_cells(queries, [&](auto c) HWY_ATTR {
      Vec<float> u, p = zero<float>(), s;
      const auto in = above_or_nan(c, row, scale, tau, u);
      if (!hn::AllFalse(Lanes<float>(), in)) {
        power.at(hn::IfThenElse(in, u, set(1.0f)), p, s);
        p = selected(in, p);
      }
      c.write(p, row, 0);
    });
  }
}
void threshold_forward_f32(float scale, float* x, std::ptrdiff_t stride, int keys, int queries, float* tau,
                           float* scratch) {
  with_power(scale, [&](auto power) HWY_ATTR { forward_rows(power, scale, x, stride, keys, queries, tau, scratch); });
}

void threshold_pairs_f32(float scale, const float* x, std::ptrdiff_t stride, int keys, int queries, const float* tau,
                         std::uint64_t* pairs) {
  const std::uint64_t all = ~std::uint64_t(0) >> (64 - queries);
  for (int j = 0; j < keys; ++j) {
    std::uint64_t word = 0;
    over_cells(queries, [&](auto c) HWY_ATTR {
      Vec<float> u;
      word |= bits_of(above_or_nan(c, x + j * stride, scale, tau, u)) << c.first;
    });
    pairs[j] = word & all;
  }
}

template <bool kBends, class P>
void sweep_tile(const P& power, float scale, const float* x, const float* dp, std::ptrdiff_t stride, int keys,
                int queries, const float* tau, const ThresholdSums& sums) {
  for (int j = 0; j < keys; ++j) {
    over_cells(queries, [&](auto c) HWY_ATTR {
      Vec<float> u, p, s;
      const auto in = above_or_nan(c, x + j * stride, scale, tau, u);
      if (hn::AllFalse(Lanes<float>(), in)) return;
      u = hn::IfThenElse(in, u, set(1.0f));
      power.at(u, p, s);
      const Vec<float> d = c.read(dp + j * stride, 0);
      const auto add = [&](float* sum, Vec<float> y)
                           HWY_ATTR { c.write(hn::Add(c.read(sum, 0), selected(in, y)), sum, 0); };
      add(sums.slope, s);
      add(sums.slope_dp, hn::Mul(s, d));
      if constexpr (kBends) {
        const Vec<float> h = hn::Mul(p, power.log_of(u));
        add(sums.bend, h);
        add(sums.bend_dp, hn::Mul(h, d));
      }
    });
  }
}
void threshold_sweep_f32(float scale, const float* x, const float* dp, std::ptrdiff_t stride, int keys, int queries,
                         const float* tau, const ThresholdSums& sums) {
  with_power(scale, [&](auto power) HWY_ATTR {
    if (sums.bend)
      sweep_tile<true>(power, scale, x, dp, stride, keys, queries, tau, sums);
    else
      sweep_tile<false>(power, scale, x, dp, stride, keys, queries, tau, sums);
  });
}

template <class P>
void backward_tile_of(const P& power, float scale, float* x, float* dp, std::ptrdiff_t stride, int keys, int queries,
                      const float* tau, const float* delta) {
  for (int j = 0; j < keys; ++j) {
    float *row = x + j * stride, *gradient = dp + j * stride;
    over_cells(queries, [&](auto c) HWY_ATTR {
      Vec<float> u, p = zero<float>(), d = zero<float>(), s;
      const auto in = above_or_nan(c, row, scale, tau, u);
      if (!hn::AllFalse(Lanes<float>(), in)) {
        power.at(hn::IfThenElse(in, u, set(1.0f)), p, s);
        p = selected(in, p);
        d = selected(in, hn::Mul(s, hn::Sub(c.read(gradient, 0), c.read(delta, 0))));
      }
      c.write(p, row, 0);
      c.write(d, gradient, 0);
    });
  }
}
void threshold_backward_f32(float scale, float* x, float* dp, std::ptrdiff_t stride, int keys, int queries,
                            const float* tau, const float* delta) {
  with_power(scale,
             [&](auto power) HWY_ATTR { backward_tile_of(power, scale, x, dp, stride, keys, queries, tau, delta); });
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

std::size_t threshold_scratch(int keys) { return std::size_t(std::max(keys, 16)) * 64; }
void threshold_forward(float scale, float* x, std::ptrdiff_t stride, int keys, int queries, float* tau,
                       float* scratch) {
  ATTUNE_DISPATCH(threshold_forward_f32)(scale, x, stride, keys, queries, tau, scratch);
}
void threshold_pairs(float scale, const float* x, std::ptrdiff_t stride, int keys, int queries, const float* tau,
                     std::uint64_t* pairs) {
  ATTUNE_DISPATCH(threshold_pairs_f32)(scale, x, stride, keys, queries, tau, pairs);
}
void threshold_sweep(float scale, const float* x, const float* dp, std::ptrdiff_t stride, int keys, int queries,
                     const float* tau, const ThresholdSums& sums) {
  ATTUNE_DISPATCH(threshold_sweep_f32)(scale, x, dp, stride, keys, queries, tau, sums);
}
void threshold_backward(float scale, float* x, float* dp, std::ptrdiff_t stride, int keys, int queries,
                        const float* tau, const float* delta) {
  ATTUNE_DISPATCH(threshold_backward_f32)(scale, x, dp, stride, keys, queries, tau, delta);
}

}  // namespace attune::kernels
#endif
