// stick_breaking.hpp, compiled per target and exported.
//
// The ladder, over the plain path at (1, 8, 1024, 64), AVX-512, Zen 4, forward / backward:
//   a loop in C++ under target attributes                      1.33 / 1.20
//   this: what is left of four vectors of queries in registers  1.09 / 1.08
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/stick_breaking.cpp"
#include "kernels/stick_breaking.hpp"

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/columns-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// b and 1 - b, each exact to rounding: e^-|x| never overflows.
HWY_INLINE void break_at(Vec<float> x, Vec<float>& takes, Vec<float>& leaves) {
  const Vec<float> one = set(1.0f), e = exp_of<float>(hn::Neg(hn::Abs(x)));
  const Vec<float> more = hn::Div(one, hn::Add(one, e)), less = hn::Mul(e, more);
  const auto low = hn::Lt(x, zero<float>());
  takes = hn::IfThenElse(low, less, more);
  leaves = hn::IfThenElse(low, more, less);
}

template <class C>
HWY_INLINE void stick_forward_columns(C c, float* x, std::ptrdiff_t stride, int keys, float* left) {
  Vec<float> rest[C::kCount];
  ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) rest[v] = c.read(left, v);
  for (int j = keys - 1; j >= 0; --j) {
    ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) {
      Vec<float> takes, leaves;
      break_at(c.read(x + j * stride, v), takes, leaves);
      c.write(hn::Mul(takes, rest[v]), x + j * stride, v);
      rest[v] = hn::Mul(rest[v], leaves);
    }
  }
  ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) c.write(rest[v], left, v);
}
void stick_breaking_forward_f32(float* x, std::ptrdiff_t stride, int keys, int queries, float* left) {
  over_vectors<float>(queries, [&](auto c) HWY_ATTR { stick_forward_columns(c, x, stride, keys, left); });
}

template <class C>
HWY_INLINE void stick_backward_columns(C c, float* x, float* dp, std::ptrdiff_t stride, int keys, float* left,
                                       float* passed, const float* delta) {
  Vec<float> rest[C::kCount], before[C::kCount];  // what is left of the stick; of delta
  ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) {
    rest[v] = c.read(left, v);
    before[v] = c.read(passed, v);
  }
  for (int j = keys - 1; j >= 0; --j) {
    float *s = x + j * stride, *d = dp + j * stride;
    ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) {
      Vec<float> takes, leaves;
      break_at(c.read(s, v), takes, leaves);
      const Vec<float> p = hn::Mul(takes, rest[v]), product = hn::Mul(p, c.read(d, v));
      c.write(hn::NegMulAdd(takes, hn::Sub(c.read(delta, v), before[v]), product), d, v);
      c.write(p, s, v);
      before[v] = hn::Add(before[v], product);
      rest[v] = hn::Mul(rest[v], leaves);
    }
  }
  ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) {
    c.write(rest[v], left, v);
    c.write(before[v], passed, v);
  }
}
void stick_breaking_backward_f32(float* x, float* dp, std::ptrdiff_t stride, int keys, int queries, float* left,
                                 float* passed, const float* delta) {
  over_vectors<float>(queries,
                      [&](auto c) HWY_ATTR { stick_backward_columns(c, x, dp, stride, keys, left, passed, delta); });
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

void stick_breaking_forward(float* x, std::ptrdiff_t stride, int keys, int queries, float* left) {
  ATTUNE_DISPATCH(stick_breaking_forward_f32)(x, stride, keys, queries, left);
}
void stick_breaking_backward(float* x, float* dp, std::ptrdiff_t stride, int keys, int queries, float* left,
                             float* passed, const float* delta) {
  ATTUNE_DISPATCH(stick_breaking_backward_f32)(x, dp, stride, keys, queries, left, passed, delta);
}

}  // namespace attune::kernels
#endif
