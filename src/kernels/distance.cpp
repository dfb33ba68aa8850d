// distance.hpp, compiled per target and exported. One block of rows x vectors of results stays in registers while the
// third index runs, as in product-inl.h; each step is a subtraction and a multiply-add, which share the ports of a Zen
// 4 so that both take 1.28 times the multiply-add alone.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/distance.cpp"
#include "kernels/distance.hpp"

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// What a step adds to result [m][n], from the number a[m] and the vector b[n] of the step.
enum class Distance {
  square,     // (b - a)^2
  by_vector,  // b (own - a): own[m][n] lies beside the results
  by_number   // a (own - b)
};

#if HWY_TARGET == HWY_AVX3
constexpr int kDistanceVectors = 4;
constexpr int distance_rows(bool own) { return own ? 3 : 6; }
#else  // 16 registers
constexpr int kDistanceVectors = 2;
constexpr int distance_rows(bool own) { return own ? 2 : 5; }
#endif

/// Results [i .. i + kRows - 1][j ..]; where kPartial, there is one vector and it has `last` lanes.
template <Distance kWhat, int kRows, int kVectors, bool kPartial>
HWY_INLINE void distance_block(const DistanceSum& s, int i, int j, [[maybe_unused]] int last) {
  constexpr int kL = kLaneCount<float>;
  constexpr bool kOwn = kWhat != Distance::square;
  const auto read = [&](const float* row, int v) HWY_ATTR {
    if constexpr (kPartial)
      return load_first(row, last);
    else
      return load(row + v * kL);
  };
  const float *a = s.a + i * s.am, *b = s.b + j;
  Vec<float> sum[kRows][kVectors], own[kOwn ? kRows : 1][kVectors];
  ATTUNE_UNROLL for (int r = 0; r < kRows; ++r) {
    ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = zero<float>();
      if constexpr (kOwn) own[r][v] = read(s.own + (i + r) * s.own_stride + j, v);
    }
  }
  for (int e = 0; e < s.steps; ++e) {
    Vec<float> row[kVectors];
    ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) row[v] = read(b, v);
    ATTUNE_UNROLL for (int r = 0; r < kRows; ++r) {
      Vec<float> x = set(a[r * s.am]);
      if constexpr (kVectors > 1) keep_in_register(x);
      ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
        if constexpr (kWhat == Distance::square) {
          const Vec<float> t = hn::Sub(row[v], x);
          sum[r][v] = hn::MulAdd(t, t, sum[r][v]);
        } else if constexpr (kWhat == Distance::by_vector) {
          sum[r][v] = hn::MulAdd(row[v], hn::Sub(own[r][v], x), sum[r][v]);
        } else {
          sum[r][v] = hn::MulAdd(x, hn::Sub(own[r][v], row[v]), sum[r][v]);
        }
      }
    }
    a += s.ak;
    b += s.bk;
  }
  const Vec<float> factor = set(s.factor);
  ATTUNE_UNROLL for (int r = 0; r < kRows; ++r) {
    float* c = s.c + (i + r) * s.stride + j;
    ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
      const Vec<float> y = kOwn ? hn::MulAdd(factor, sum[r][v], read(c, v)) : hn::Mul(factor, sum[r][v]);
      if constexpr (kPartial)
        store_first(y, c, last);
      else
        store(y, c + v * kL);
    }
  }
}
template <Distance kWhat, int kVectors, bool kPartial>
HWY_NOINLINE void distance_columns(const DistanceSum& s, int j, int last) {
  constexpr int kRows = distance_rows(kWhat != Distance::square);
  int i = 0;
  for (; i + kRows <= s.m; i += kRows) distance_block<kWhat, kRows, kVectors, kPartial>(s, i, j, last);
  for (; i < s.m; ++i) distance_block<kWhat, 1, kVectors, kPartial>(s, i, j, last);
}
template <Distance kWhat>
HWY_INLINE void distance_sum(const DistanceSum& s) {
  constexpr int kL = kLaneCount<float>;
  int j = 0;
  for (; j + kDistanceVectors * kL <= s.n; j += kDistanceVectors * kL)
    distance_columns<kWhat, kDistanceVectors, false>(s, j, kL);
  for (; j < s.n; j += kL) distance_columns<kWhat, 1, true>(s, j, s.n - j < kL ? s.n - j : kL);
}

void distance_square(const DistanceSum& s) { distance_sum<Distance::square>(s); }
void distance_by_vector(const DistanceSum& s) { distance_sum<Distance::by_vector>(s); }
void distance_by_number(const DistanceSum& s) { distance_sum<Distance::by_number>(s); }

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

void squared_distances(const DistanceSum& s) { ATTUNE_DISPATCH(distance_square)(s); }
void add_distances_by_vector(const DistanceSum& s) { ATTUNE_DISPATCH(distance_by_vector)(s); }
void add_distances_by_number(const DistanceSum& s) { ATTUNE_DISPATCH(distance_by_number)(s); }

}  // namespace attune::kernels
#endif
