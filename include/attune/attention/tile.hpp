// What a stage sees: rows of vectors (Matrix), a rectangle of one head's logits (Tile over an Area), and the loops over
// them. Tiles are [keys][queries]: queries lie in the vector lanes, at most kLanes of them, so that one 64-bit word
// says which queries see a key.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "attune/attention/scalar.hpp"

namespace attune {

namespace kernels {
class Upcoming;  // rows of memory that the library fetches while products run
}

/// Most queries in a tile.
inline constexpr int kLanes = 64;

/// The extents of one call. query [B, H, Tq, query_dim], key [B, Hkv, Tk, key_dim], value [B, Hkv, Tk, value_dim].
struct AttendShape {
  int batch_size = 0, num_heads = 0, num_kv_heads = 0, num_queries = 0, num_keys = 0;
  int query_dim = 0, key_dim = 0, value_dim = 0;
  /// Query heads that share one key head.
  int group() const { return num_heads / num_kv_heads; }
};

/// A rectangle of one head's logits. Query i stands at position i + offset among the keys: alignment and past live
/// there and nowhere else.
struct Area {
  const AttendShape* shape = nullptr;
  int batch = 0, head = 0, kv_head = 0;
  int query = 0, queries = 0;  // first query, number of queries
  int key = 0, keys = 0;       // first key, number of keys
  int offset = 0;
};

/// [rows][cols] numbers, `stride` apart from row to row.
template <class T>
struct Matrix {
  T* data = nullptr;
  int rows = 0, cols = 0;
  std::ptrdiff_t stride = 0;
  T* operator[](int r) const { return data + r * stride; }
  operator Matrix<const T>() const { return {data, rows, cols, stride}; }
  Matrix part(int first, int n) const { return {data + first * stride, n, cols, stride}; }
};

/// Logits, probabilities or their gradients: [keys][queries]. Lanes past area.queries are free to write and never read.
template <class T>
struct Tile {
  T* data = nullptr;
  std::ptrdiff_t stride = 0;
  Area area;
  T* operator[](int j) const { return data + j * stride; }
};

/// Calls f(element, query index, key index) for every pair of the tile.
template <class T, class F>
void each(const Tile<T>& x, F f) {
  const int n = x.area.queries, q = x.area.query, k = x.area.key;
  for (int j = 0; j < x.area.keys; ++j) {
    T* row = x[j];
    for (int i = 0; i < n; ++i) f(row[i], q + i, k + j);
  }
}
/// Calls f(element of x, element of y).
template <class T, class F>
void each(const Tile<T>& x, const Tile<T>& y, F f) {
  const int n = x.area.queries;
  for (int j = 0; j < x.area.keys; ++j) {
    T *a = x[j], *b = y[j];
    for (int i = 0; i < n; ++i) f(a[i], b[i]);
  }
}
/// Calls f(row, queries) for every key: for loops over the lanes that hold more than one number a query.
template <class T, class F>
void each_row(const Tile<T>& x, F f) {
  for (int j = 0; j < x.area.keys; ++j) f(x[j], x.area.queries);
}
/// Adds up f(element, query index, key index), lane by lane, then over the lanes: one fixed order.
template <class T, class F>
T sum_each(const Tile<T>& x, F f) {
  const int n = x.area.queries, q = x.area.query, k = x.area.key;
  T lane[kLanes] = {}, sum = T(0);
  for (int j = 0; j < x.area.keys; ++j) {
    T* row = x[j];
    for (int i = 0; i < n; ++i) lane[i] += f(row[i], q + i, k + j);
  }
  for (int i = 0; i < n; ++i) sum += lane[i];
  return sum;
}
template <class T, class F>
T sum_each(const Tile<T>& x, const Tile<T>& y, F f) {
  const int n = x.area.queries;
  T lane[kLanes] = {}, sum = T(0);
  for (int j = 0; j < x.area.keys; ++j) {
    T *a = x[j], *b = y[j];
    for (int i = 0; i < n; ++i) lane[i] += f(a[i], b[i]);
  }
  for (int i = 0; i < n; ++i) sum += lane[i];
  return sum;
}
/// Sum of n numbers in one fixed order that vectorises.
template <class T>
T sum_lanes(const T* x, int n) {
  T lane[16] = {}, sum = T(0);
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int l = 0; l < 16; ++l) lane[l] += x[i + l];
  }
  for (int l = 0; i < n; ++i, ++l) lane[l] += x[i];
  for (T s : lane) sum += s;
  return sum;
}

namespace detail {
// The library's kernels on tiles, for the instruction set of this machine: src/attention/tile_kernels.cpp.
void add_product(int m, int n, int k, const float* a, std::ptrdiff_t am, std::ptrdiff_t ak, const float* b,
                 std::ptrdiff_t bk, float* c, std::ptrdiff_t cm, kernels::Upcoming* ahead);
void product(int m, int n, int k, const float* a, std::ptrdiff_t am, std::ptrdiff_t ak, const float* b,
             std::ptrdiff_t bk, float* c, std::ptrdiff_t cm, kernels::Upcoming* ahead);
void scaled_rows(Matrix<const float> x, float scale, Matrix<float> y);
void add_scaled_rows(Matrix<const float> x, float scale, Matrix<float> y);
void softmax_forward(const Tile<float>& x, float* maximum, float* sum, float* factor);
void softmax_backward(const Tile<float>& x, const Tile<float>& dp, const float* lse, const float* delta);
void subtract_distance(const Tile<float>& x, float slope);
void multiply(const Tile<float>& x, const Tile<float>& y);
void add_transposed(const float* rows, std::ptrdiff_t stride, const Tile<float>& x);
void add_transposed(const Tile<float>& x, float* rows, std::ptrdiff_t stride);
void soft_cap(const Tile<float>& x, float cap, const Tile<float>* slope);
void sigmoid_forward(const Tile<float>& x, float bias);
void sigmoid_backward(const Tile<float>& x, const Tile<float>& dp, float bias);
void add_product(int m, int n, int k, const double* a, std::ptrdiff_t am, std::ptrdiff_t ak, const double* b,
                 std::ptrdiff_t bk, double* c, std::ptrdiff_t cm, kernels::Upcoming* ahead);
void product(int m, int n, int k, const double* a, std::ptrdiff_t am, std::ptrdiff_t ak, const double* b,
             std::ptrdiff_t bk, double* c, std::ptrdiff_t cm, kernels::Upcoming* ahead);
void scaled_rows(Matrix<const double> x, double scale, Matrix<double> y);
void add_scaled_rows(Matrix<const double> x, double scale, Matrix<double> y);
void softmax_forward(const Tile<double>& x, double* maximum, double* sum, double* factor);
void softmax_backward(const Tile<double>& x, const Tile<double>& dp, const double* lse, const double* delta);
void subtract_distance(const Tile<double>& x, double slope);
void multiply(const Tile<double>& x, const Tile<double>& y);
void add_transposed(const double* rows, std::ptrdiff_t stride, const Tile<double>& x);
void add_transposed(const Tile<double>& x, double* rows, std::ptrdiff_t stride);

/// Whether the library has kernels for the scalar; duals run through the plain loops.
template <class T>
inline constexpr bool kHasKernel = std::is_same_v<T, float> || std::is_same_v<T, double>;
}  // namespace detail

/// x *= y, element by element.
template <class T>
void multiply(const Tile<T>& x, const Tile<T>& y) {
  if constexpr (detail::kHasKernel<T>)
    detail::multiply(x, y);
  else
    each(x, y, [](T& a, T& b) { a *= b; });
}

/// c[m][n] += sum_k a[m * am + k * ak] * b[k * bk + n], c's rows cm apart. Rows of b and c are contiguous.
/// The one product that every score needs; on float and double it runs in the library's SIMD kernel. A stage may pass
/// on Call::ahead, rows that the driver wants fetched meanwhile.
template <class T>
void add_product(int m, int n, int k, const T* a, std::ptrdiff_t am, std::ptrdiff_t ak, const T* b, std::ptrdiff_t bk,
                 T* c, std::ptrdiff_t cm, [[maybe_unused]] kernels::Upcoming* ahead = nullptr) {
  if constexpr (detail::kHasKernel<T>) {
    detail::add_product(m, n, k, a, am, ak, b, bk, c, cm, ahead);
  } else {
    for (int i = 0; i < m; ++i) {
      for (int e = 0; e < k; ++e) {
        const T x = a[i * am + e * ak];
        for (int j = 0; j < n; ++j) c[i * cm + j] += x * b[e * bk + j];
      }
    }
  }
}
/// The same with =: what c held is not read.
template <class T>
void product(int m, int n, int k, const T* a, std::ptrdiff_t am, std::ptrdiff_t ak, const T* b, std::ptrdiff_t bk, T* c,
             std::ptrdiff_t cm, [[maybe_unused]] kernels::Upcoming* ahead = nullptr) {
  if constexpr (detail::kHasKernel<T>) {
    detail::product(m, n, k, a, am, ak, b, bk, c, cm, ahead);
  } else {
    for (int i = 0; i < m; ++i) {
      for (int j = 0; j < n; ++j) c[i * cm + j] = T(0);
    }
    add_product(m, n, k, a, am, ak, b, bk, c, cm);
  }
}

}  // namespace attune
