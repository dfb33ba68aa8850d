// The loops of the scores by distance (score/distance.hpp), compiled once for every instruction set.
//
// Ladder, on tiles of 64 x 64 x 64 with AVX-512, in numbers of a pair per ns (the product kernel: 58):
//   forward   one number of the rows at a time: 21; four, so that a sum is loaded and stored once for them: 29;
//             sums of 16 lanes kept over the loop instead: 0.7, g++ 12 moves them through memory number by number
//   dquery    one key at a time: 10; four: 23
//   dkey      rows of queries, so that the numbers and not the queries lie in the lanes, one at a time: 7; four: 19
#include "attune/attention/score/distance.hpp"

#include "attune/attention/any_stage.hpp"

namespace attune::detail {
namespace {

template <class T>
void logits_by_distance(const Features<T>& f, const Tile<T>& x, T factor) {
  const int n = x.area.queries, dim = f.query.rows;
  for (int j = 0; j < x.area.keys; ++j) {
    const T* k = f.key[j];
    T sum[kLanes] = {};
    int d = 0;
    for (; d + 4 <= dim; d += 4) {
      const T *q0 = f.query[d], *q1 = f.query[d + 1], *q2 = f.query[d + 2], *q3 = f.query[d + 3];
      const T k0 = k[d], k1 = k[d + 1], k2 = k[d + 2], k3 = k[d + 3];
      for (int i = 0; i < n; ++i) {
        const T a = q0[i] - k0, b = q1[i] - k1, c = q2[i] - k2, e = q3[i] - k3;
        sum[i] += (a * a + b * b) + (c * c + e * e);
      }
    }
    for (; d < dim; ++d) {
      const T* q = f.query[d];
      for (int i = 0; i < n; ++i) sum[i] += (q[i] - k[d]) * (q[i] - k[d]);
    }
    for (int i = 0; i < n; ++i) x[j][i] = factor * sum[i];
  }
}
/// dquery += twice * sum over N keys from j on of dx (query - key).
template <int N, class T>
void distance_to_queries(const Features<T>& f, const Tile<T>& dx, const Matrix<T>& dquery, T twice, int j) {
  for (int d = 0; d < f.query.rows; ++d) {
    const T* q = f.query[d];
    T k[N], *to = dquery[d];
    for (int m = 0; m < N; ++m) k[m] = f.key[j + m][d];
    for (int i = 0; i < dx.area.queries; ++i) {
      T sum(0);
      for (int m = 0; m < N; ++m) sum += dx[j + m][i] * (q[i] - k[m]);
      to[i] += twice * sum;
    }
  }
}
/// dkey j += twice * sum over N queries from i on of dx (key - query).
template <int N, class T>
void distance_to_key(const Features<T>& f, const Tile<T>& dx, T* dkey, T twice, int j, int i) {
  const T *key = f.key[j], *q[N];
  T w[N];
  for (int m = 0; m < N; ++m) q[m] = f.query_rows[i + m], w[m] = dx[j][i + m];
  for (int d = 0; d < f.query.rows; ++d) {
    T sum(0);
    for (int m = 0; m < N; ++m) sum += w[m] * (key[d] - q[m][d]);
    dkey[d] += twice * sum;
  }
}
template <class T>
void backward_by_distance(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, T factor) {
  const int n = dx.area.queries, keys = dx.area.keys;
  const T twice = T(2) * factor;
  int j = 0;
  for (; j + 4 <= keys; j += 4) distance_to_queries<4>(f, dx, df.query, twice, j);
  for (; j < keys; ++j) distance_to_queries<1>(f, dx, df.query, twice, j);
  for (j = 0; j < keys; ++j) {
    int i = 0;
    for (; i + 4 <= n; i += 4) distance_to_key<4>(f, dx, df.key[j], twice, j, i);
    for (; i < n; ++i) distance_to_key<1>(f, dx, df.key[j], twice, j, i);
  }
}

}  // namespace

template <class T>
void distance_logits(const Features<T>& f, const Tile<T>& x, T factor) {
  on_cpu<T>([&] { logits_by_distance(f, x, factor); });
}
template <class T>
void distance_backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, T factor) {
  on_cpu<T>([&] { backward_by_distance(f, dx, df, factor); });
}

#define ATTUNE_DISTANCE(T)                                                 \
  template void distance_logits<T>(const Features<T>&, const Tile<T>&, T); \
  template void distance_backward<T>(const Features<T>&, const Tile<T>&, const DFeatures<T>&, T);
ATTUNE_DISTANCE(float)
ATTUNE_DISTANCE(double)
ATTUNE_DISTANCE(Dual<double>)
#undef ATTUNE_DISTANCE

}  // namespace attune::detail
