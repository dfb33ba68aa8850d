// The loops of the scores by distance (score/distance.hpp): float32 in kernels, other scalars as they are written.
//
// Ladder, on tiles of 64 x 64 x 64 in float32 with AVX-512, in numbers of a pair per ns (the product kernel: 58):
//   forward   one number of the rows at a time: 21; four, so that a sum is loaded and stored once for them: 29;
//             blocks of 6 keys x 4 vectors of queries in registers (kernels/distance.cpp): 47
//   dquery    one key at a time: 10; four: 23; blocks of 3 numbers x 4 vectors of queries: 43
//   dkey      rows of queries, so that the numbers and not the queries lie in the lanes, one at a time: 7; four: 19;
//             blocks of 3 keys x 4 vectors of numbers: 44
#include "attune/attention/score/distance.hpp"

#include "kernels/distance.hpp"

namespace attune::detail {

template <class T>
void distance_logits(const Features<T>& f, const Tile<T>& x, T factor) {
  const int n = x.area.queries, dim = f.query.rows;
  if constexpr (std::is_same_v<T, float>) {
    kernels::squared_distances({.m = x.area.keys,
                                .n = n,
                                .steps = dim,
                                .factor = factor,
                                .a = f.key.data,
                                .am = f.key.stride,
                                .ak = 1,
                                .b = f.query.data,
                                .bk = f.query.stride,
                                .c = x.data,
                                .stride = x.stride});
  } else {
    for (int j = 0; j < x.area.keys; ++j) {
      T sum[kLanes] = {};
      for (int d = 0; d < dim; ++d) {
        const T* q = f.query[d];
        const T k = f.key[j][d];
        for (int i = 0; i < n; ++i) sum[i] += (q[i] - k) * (q[i] - k);
      }
      for (int i = 0; i < n; ++i) x[j][i] = factor * sum[i];
    }
  }
}

template <class T>
void distance_backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, T factor) {
  const int n = dx.area.queries, keys = dx.area.keys, dim = f.query.rows;
  const T twice = T(2) * factor;
  if constexpr (std::is_same_v<T, float>) {
    kernels::add_distances_by_vector({.m = dim,
                                      .n = n,
                                      .steps = keys,
                                      .factor = twice,
                                      .a = f.key.data,
                                      .am = 1,
                                      .ak = f.key.stride,
                                      .b = dx.data,
                                      .bk = dx.stride,
                                      .own = f.query.data,
                                      .own_stride = f.query.stride,
                                      .c = df.query.data,
                                      .stride = df.query.stride});
    kernels::add_distances_by_number({.m = keys,
                                      .n = dim,
                                      .steps = n,
                                      .factor = twice,
                                      .a = dx.data,
                                      .am = dx.stride,
                                      .ak = 1,
                                      .b = f.query_rows.data,
                                      .bk = f.query_rows.stride,
                                      .own = f.key.data,
                                      .own_stride = f.key.stride,
                                      .c = df.key.data,
                                      .stride = df.key.stride});
  } else {
    for (int j = 0; j < keys; ++j) {
      const T* g = dx[j];
      for (int d = 0; d < dim; ++d) {
        const T *q = f.query[d], k = f.key[j][d];
        T along[kLanes] = {}, *dquery = df.query[d];
        for (int i = 0; i < n; ++i) {
          along[i] = twice * g[i] * (q[i] - k);
          dquery[i] += along[i];
        }
        df.key[j][d] -= sum_lanes(along, n);
      }
    }
  }
}

#define ATTUNE_DISTANCE(T)                                                 \
  template void distance_logits<T>(const Features<T>&, const Tile<T>&, T); \
  template void distance_backward<T>(const Features<T>&, const Tile<T>&, const DFeatures<T>&, T);
ATTUNE_DISTANCE(float)
ATTUNE_DISTANCE(double)
ATTUNE_DISTANCE(Dual<double>)
#undef ATTUNE_DISTANCE

}  // namespace attune::detail
