// threshold.hpp, compiled per target and exported.
//
// The sum over a row's weights falls in tau; so does its norm h(tau) = (sum (scale x - tau)^(1/scale))^scale, which is
// convex too, and a straight line where the support is one key or several equal ones. Newton on h from the left of the
// root rises monotonically and needs three to six steps where the sum itself needs five to fifteen:
//
//     tau += (S - S^(1 - scale)) / sum u^(1/scale - 1),   S = sum u^(1/scale),   u = max(scale x - tau, 0)
//
// The threshold of some keys of a row is never above that of all. So the first one comes from the largest logits of
// kParts parts of the row; what does not reach above it is out of the support, and the vectors of logits with one that
// does are copied side by side for the last steps.
//
// All of this is counted from the row's largest logit m: x - m has no rounding error where it matters, and the
// threshold lies between -1 and 0 however large logits are. The way back knows tau = scale m + that number alone, which
// rounding moves by about as much as a logit's last digit; u is at most 1, which it holds to.
//
// The ladder: a forward pass over the plain path's, (1, 8, 1024, 64) with logits from a normal distribution, AVX-512,
// Zen 4; sparsemax, entmax-1.5, a learned alpha. The last two rungs together with those of sparse.cpp.
//   Newton on the sum over all keys, loops in C++ under target attributes, products with all pairs   1.37  1.42  9.6
//   Newton on the norm, what lies above the first threshold copied query by query                     .83  1.22  1.40
//   copied vector by vector, without a branch                                                         .73   .78  1.32
//   a power by one logarithm without a division and one 2^x; the last step is not checked             .73   .78  1.13
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

/// log u of normal u > 0, absolute error at most 1e-7 (1 + |log u|): a polynomial without log()'s division. NaN stays.
HWY_INLINE Vec<float> short_log(Vec<float> u) {
  constexpr float kC[] = {3.3333331174e-1f,  -2.4999993993e-1f, 2.0000714765e-1f,  -1.6668057665e-1f, 1.4249322787e-1f,
                          -1.2420140846e-1f, 1.1676998740e-1f,  -1.1514610310e-1f, 7.0376836292e-2f};
  const Lanes<float> d;
  const hn::RebindToSigned<Lanes<float>> di;
  // u = 2^n m with m from sqrt(1/2) to sqrt(2): the shift rounds n down from the first m of the range.
  const auto bits = hn::BitCast(di, u);
  const auto n = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(di, 0x3f3504f3)));
  const Vec<float> f = hn::Sub(hn::BitCast(d, hn::Sub(bits, hn::ShiftLeft<23>(n))), set(1.0f));
  const Vec<float> bend = hn::MulSub(polynomial<float>(f, kC), f, set(0.5f));
  const Vec<float> y = hn::MulAdd(hn::ConvertTo(d, n), set(0.693147181f), hn::MulAdd(hn::Mul(f, f), bend, f));
  return hn::MulAdd(u, zero<float>(), y);  // where u is NaN, its bits are those of a number
}

// How a weight follows from u > 0: p, its slope s = p^(2 - alpha) = p / u and its bend p / scale - p log p. A step of
// Newton of at most kLast scale leaves about its square over the scale, and is the last one; where weights have a kink,
// steps end when there is none.
struct Linear {
  static constexpr float kLast = 0;
  HWY_INLINE explicit Linear(float) {}
  HWY_INLINE void at(Vec<float> u, Vec<float>& p, Vec<float>& s) const { p = u, s = set(1.0f); }
  HWY_INLINE Vec<float> bend_of(Vec<float> u, Vec<float> p) const { return hn::NegMulAdd(p, log(u), p); }
  HWY_INLINE Vec<float> short_of(Vec<float>) const { return set(1.0f); }  // S^(1 - scale)
};
struct Square {
  static constexpr float kLast = 2e-4f;
  HWY_INLINE explicit Square(float) {}
  HWY_INLINE void at(Vec<float> u, Vec<float>& p, Vec<float>& s) const { p = hn::Mul(u, u), s = u; }
  HWY_INLINE Vec<float> bend_of(Vec<float> u, Vec<float> p) const {
    return hn::Mul(set(2.0f), hn::NegMulAdd(p, log(u), p));
  }
  HWY_INLINE Vec<float> short_of(Vec<float> sum) const { return hn::Sqrt(sum); }
};
struct Power {
  static constexpr float kLast = 2e-4f;
  float power, rest;
  HWY_INLINE explicit Power(float scale) : power(1 / scale), rest(1 - scale) {}
  HWY_INLINE void at(Vec<float> u, Vec<float>& p, Vec<float>& s) const {
    s = exp2(hn::Mul(set((power - 1) * 1.44269504f), short_log(u)));
    p = hn::Mul(s, u);
  }
  HWY_INLINE Vec<float> bend_of(Vec<float> u, Vec<float> p) const {
    return hn::Mul(set(power), hn::NegMulAdd(p, short_log(u), p));
  }
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
HWY_INLINE auto above(Vec<float> x, float scale, Vec<float> tau, Vec<float>& u) {
  u = hn::MulSub(x, set(scale), tau);
  return hn::Gt(u, zero<float>());
}
HWY_INLINE auto above_or_nan(Vec<float> x, float scale, Vec<float> tau, Vec<float>& u) {
  u = hn::MulSub(x, set(scale), tau);
  return hn::Not(hn::Le(u, zero<float>()));
}
/// On the way back: u is at most 1, and 1 outside of the support.
template <class C>
HWY_INLINE auto above_at_most_1(C c, const float* x, float scale, const float* tau, Vec<float>& u) {
  const auto in = above_or_nan(c.read(x, 0), scale, c.read(tau, 0), u);
  u = hn::IfThenElse(hn::AndNot(hn::Gt(u, set(1.0f)), in), u, set(1.0f));
  return in;
}
template <class M>
HWY_INLINE Vec<float> selected(M mask, Vec<float> x) {
  return hn::IfThenElseZero(mask, x);
}

/// Raises tau to the threshold of n cells of one column of vectors, `stride` apart.
template <class P, class C>
HWY_INLINE void raise(C c, const P& power, float scale, const float* x, std::ptrdiff_t stride, int n, float* tau) {
  constexpr int kMostSteps = 60;
  const Lanes<float> d;
  auto goes_on = hn::Eq(zero<float>(), zero<float>());
  for (int step = 0; step < kMostSteps && !hn::AllFalse(d, goes_on); ++step) {
    Vec<float> sum = zero<float>(), slope = zero<float>();
    const Vec<float> before = c.read(tau, 0);
    for (int j = 0; j < n; ++j) {
      Vec<float> u, p, s;
      const auto in = above(c.read(x + j * stride, 0), scale, before, u);
      power.at(hn::IfThenElse(in, u, set(1.0f)), p, s);
      sum = hn::Add(sum, selected(in, p));
      slope = hn::Add(slope, selected(in, s));
    }
    // Not where the sum is 0; and a row that has come to rest stays, its bits are its own.
    const Vec<float> rise = hn::Div(hn::Sub(sum, power.short_of(sum)), slope);
    c.write(hn::IfThenElse(hn::And(goes_on, hn::Gt(rise, zero<float>())), hn::Add(before, rise), before), tau, 0);
    goes_on = hn::And(goes_on, hn::Gt(rise, set(P::kLast * scale)));
  }
}

/// The largest logit of all rows, 0 where there is none, and the first threshold, from the largest logits of parts of
/// them.
template <class P>
void begin(const P& power, float scale, const float* x, std::ptrdiff_t stride, int keys, int queries, float* largest,
           float* tau) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  float parts[kParts * kWide];
  std::fill_n(parts, kParts * kWide, kNone);
  for (int j = 0; j < keys; ++j) {
    float* part = parts + j % kParts * kWide;
    over_cells(queries, [&](auto c) HWY_ATTR {
      const Vec<float> s = c.read(x + j * stride, 0), most = c.read(part, 0);
      c.write(hn::IfThenElse(hn::Gt(s, most), s, most), part, 0);  // a NaN is passed over
    });
  }
  over_cells(queries, [&](auto c) HWY_ATTR {
    Vec<float> most = set(kNone);
    for (int part = 0; part < kParts; ++part) most = hn::Max(most, c.read(parts + part * kWide, 0));
    const auto none = hn::Eq(most, set(kNone));
    most = hn::IfThenElse(none, zero<float>(), most);
    for (int part = 0; part < kParts; ++part) {
      c.write(hn::Sub(c.read(parts + part * kWide, 0), most), parts + part * kWide, 0);
    }
    c.write(most, largest, 0);
    c.write(hn::IfThenElse(none, zero<float>(), set(-1.0f)), tau, 0);
    raise(c, power, scale, parts, kWide, kParts, tau);
  });
}

/// scale m + tau as one number. Where the largest logit m has all the weight, it keeps it on the way back.
HWY_INLINE Vec<float> whole_threshold(Vec<float> m, float scale, Vec<float> tau) {
  constexpr float kDigit = std::numeric_limits<float>::epsilon(), kLowest = std::numeric_limits<float>::lowest();
  const Vec<float> one = set(1.0f), sum = hn::MulAdd(m, set(scale), tau);
  const auto short_of_1 = hn::And(hn::Eq(tau, set(-1.0f)), hn::Lt(hn::MulSub(m, set(scale), sum), one));
  const Vec<float> below = hn::Max(hn::NegMulAdd(hn::Abs(sum), set(kDigit), sum), set(kLowest));
  return hn::IfThenElse(short_of_1, below, sum);
}

/// scratch: the cells that reach above tau, side by side, and behind them their keys.
template <class P>
void forward_rows(const P& power, float scale, float* x, std::ptrdiff_t stride, int keys, int queries, float* tau,
                  float* scratch) {
  constexpr int kL = kLaneCount<float>;
  int* list = reinterpret_cast<int*>(scratch + std::ptrdiff_t(keys) * kL);
  float largest[kWide];
  begin(power, scale, x, stride, keys, queries, largest, tau);
  over_cells(queries, [&](auto c) HWY_ATTR {
    auto here = c;
    here.first = 0;
    float *column = x + c.first, *threshold = tau + c.first;
    const Vec<float> most = here.read(largest + c.first, 0), first = here.read(threshold, 0);
    int n = 0;
    for (int j = 0; j < keys; ++j) {
      Vec<float> u;
      const Vec<float> below = hn::Sub(here.read(column + j * stride, 0), most);
      const auto in = above_or_nan(below, scale, first, u);
      here.write(below, scratch + n * kL, 0);
      here.write(zero<float>(), column + j * stride, 0);
      list[n] = j;
      n += !hn::AllFalse(Lanes<float>(), in);
    }
    raise(here, power, scale, scratch, kL, n, threshold);
    const Vec<float> last = here.read(threshold, 0);
    for (int s = 0; s < n; ++s) {
      Vec<float> u, p, slope;
      const auto in = above_or_nan(here.read(scratch + s * kL, 0), scale, last, u);
      power.at(hn::IfThenElse(in, u, set(1.0f)), p, slope);
      here.write(selected(in, p), column + list[s] * stride, 0);
    }
    here.write(whole_threshold(most, scale, last), threshold, 0);
  });
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
      word |= bits_of(above_or_nan(c.read(x + j * stride, 0), scale, c.read(tau, 0), u)) << c.first;
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
      const auto in = above_at_most_1(c, x + j * stride, scale, tau, u);
      if (hn::AllFalse(Lanes<float>(), in)) return;
      power.at(u, p, s);
      const Vec<float> d = c.read(dp + j * stride, 0);
      const auto add = [&](float* sum, Vec<float> y)
                           HWY_ATTR { c.write(hn::Add(c.read(sum, 0), selected(in, y)), sum, 0); };
      add(sums.slope, s);
      add(sums.slope_dp, hn::Mul(s, d));
      if constexpr (kBends) {
        const Vec<float> h = power.bend_of(u, p);
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
      const auto in = above_at_most_1(c, row, scale, tau, u);
      if (!hn::AllFalse(Lanes<float>(), in)) {
        power.at(u, p, s);
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

std::size_t threshold_scratch(int keys) { return std::size_t(keys) * 17; }
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
