// The loops of the scores with a row for every distance (score/relative.hpp).
//
// A strip is 16 queries with all keys of the tile, or 16 keys with all queries. Its pairs meet 16 + 64 - 1 (or + 128)
// distances, in a band of places s = other - own + 15: one product gives every row of the strip all places of its band,
// and seen with rows one number shorter, the band is the strip itself, so that a pair's place is found by an offset and
// not by a gather. The way back adds the gradients to a band of zeros through the same offset.
//
// Ladder, deberta at shape A over plain, forward / backward (AVX-512, Zen 4, one thread):
//   one product of the tile's 191 (127) distances, pairs gather from it and scatter into it     2.19 / 2.25
//   strips of 16 and offsets; what is clipped throughout as one row                              1.51 / 1.55
#include "attune/attention/score/relative.hpp"

#include "attention/steps.hpp"

namespace attune::detail {
namespace {

constexpr int kStrip = 16;

/// Places 0 .. places - 1 of the pairs of n rows of one side with `others` of the other side, and the table's row of
/// each. Places before `low` and behind `high` are clipped: they have the rows of `low` and `high`.
struct Band {
  int places, low, high;
  int row, step;  // of the table: at place `low`, and from place to place
  /// at: the table's row of place 0, unclipped.
  Band(int n, int others, int at, int direction, int rows) : places(n + others - 1), step(direction) {
    low = std::clamp(step > 0 ? -at : at - (rows - 1), 0, places - 1);
    high = std::clamp(step > 0 ? rows - 1 - at : at, low, places - 1);
    row = std::clamp(at + step * low, 0, rows - 1);
  }
  int count() const { return high - low + 1; }
};
/// The tile's pairs seen from the queries: own = query, other = key.
Band from_queries(const Clipped& t, const Area& a, int first, int n) {
  return {n, a.keys, t.sign * (a.key - a.query - a.offset - first - n + 1) + t.zero, t.sign, t.rows};
}
Band from_keys(const Clipped& t, const Area& a, int first, int n) {
  return {n, a.queries, t.sign * (a.key - a.query - a.offset + first + n - 1) + t.zero, -t.sign, t.rows};
}

/// What is clipped takes the number of the band's last row that is not.
template <class T>
void repeat_ends(const Band& b, int n, T* places) {
  for (int r = 0; r < n; ++r) {
    T* p = places + std::ptrdiff_t(r) * b.places;
    std::fill(p, p + b.low, p[b.low]);
    std::fill(p + b.high + 1, p + b.places, p[b.high]);
  }
}
/// The way back: what is clipped adds to it.
template <class T>
void gather_ends(const Band& b, int n, T* places) {
  for (int r = 0; r < n; ++r) {
    T* p = places + std::ptrdiff_t(r) * b.places;
    p[b.low] += sum_lanes(p, b.low);
    p[b.high] += sum_lanes(p + b.high + 1, b.places - b.high - 1);
  }
}

/// The table's rows of a tile's band as [D][count], and the products of strips with them.
template <class T>
struct Turned {
  Band band;
  int own;  // rows of the tile on the strips' side
  const T* data;

  /// memory: dim * band.count() numbers.
  Turned(const Band& b, int n, const T* table, int dim, T* memory) : band(b), own(n), data(memory) {
    const std::ptrdiff_t stride = std::ptrdiff_t(b.step) * dim;
    engine::transpose_rows(Matrix<const T>{table + std::ptrdiff_t(b.row) * dim, b.count(), dim, stride}, memory,
                           b.count());
  }
  /// to [n][places of s] for the strip s of n rows from `first` on; row r, number d: rows[r * am + d * ak].
  void products(const Band& s, int first, int n, int dim, const T* rows, std::ptrdiff_t am, std::ptrdiff_t ak,
                T* to) const {
    const int column = std::clamp(s.low + own - n - first, band.low, band.high) - band.low;
    attune::product(n, s.count(), dim, rows, am, ak, data + column, band.count(), to + s.low, s.places);
    repeat_ends(s, n, to);
  }
};
/// The rows of a table that a band meets, from place `low` on.
template <class T>
Matrix<T> rows_of(const Band& b, T* table, int dim) {
  return {table + std::ptrdiff_t(b.row) * dim, b.count(), dim, std::ptrdiff_t(b.step) * dim};
}

/// x[j][i] += rows[i * stride + j], and back.
template <class T>
void add_strip(const T* rows, std::ptrdiff_t stride, const Tile<T>& x) {
  if constexpr (kHasKernel<T>)
    add_transposed(rows, stride, x);
  else
    each(x, [=, &x](T& s, int i, int j) { s += rows[(i - x.area.query) * stride + j - x.area.key]; });
}
template <class T>
void add_strip(const Tile<T>& x, T* rows, std::ptrdiff_t stride) {
  if constexpr (kHasKernel<T>)
    add_transposed(x, rows, stride);
  else
    each(x, [=, &x](T& s, int i, int j) { rows[(i - x.area.query) * stride + j - x.area.key] += s; });
}
/// y += scale * x.
template <class T>
void add_rows(Matrix<const T> x, T scale, Matrix<T> y) {
  if constexpr (kHasKernel<T>) {
    add_scaled_rows(x, scale, y);
  } else {
    for (int r = 0; r < x.rows; ++r) {
      for (int c = 0; c < x.cols; ++c) y[r][c] += scale * x[r][c];
    }
  }
}
template <class T>
Tile<T> queries_of(const Tile<T>& x, int first, int n) {
  Tile<T> part{x.data + first, x.stride, x.area};
  part.area.query += first;
  part.area.queries = n;
  return part;
}

template <class T>
struct Ones {
  T data[kLanes];
  Ones() { std::fill(data, data + kLanes, T(1)); }
};

}  // namespace

template <class T>
void add_query_relative(const Features<T>& f, const Clipped& clipped, const T* table, const Tile<T>& x, Call<T>& call) {
  const int n = x.area.queries, keys = x.area.keys, dim = f.query.rows;
  const Band all = from_queries(clipped, x.area, 0, n);
  if (all.count() == 1) {  // far from the diagonal: one row for all pairs
    T to_row[kLanes];
    attune::product(1, n, dim, rows_of(all, table, dim).data, dim, 1, f.query.data, f.query.stride, to_row, kLanes);
    return add_rows(Matrix<const T>{to_row, keys, n, 0}, T(1), Matrix<T>{x.data, keys, n, x.stride});
  }
  T* const memory = call.scratch(std::size_t(dim) * all.count() + std::size_t(kStrip) * (kStrip + keys));
  const Turned<T> turned(all, n, table, dim, memory);
  T* const places = memory + std::ptrdiff_t(dim) * all.count();
  for (int i = 0; i < n; i += kStrip) {
    const int m = std::min(kStrip, n - i);
    const Band strip = from_queries(clipped, x.area, i, m);
    turned.products(strip, i, m, dim, f.query.data + i, 1, f.query.stride, places);
    add_strip(places + m - 1, strip.places - 1, queries_of(x, i, m));
  }
}
template <class T>
void add_query_relative_backward(const Features<T>& f, const Clipped& clipped, const Parameter<T>& table,
                                 const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) {
  const int n = dx.area.queries, keys = dx.area.keys, dim = f.query.rows;
  const Matrix<const T>& q = f.query_rows;
  const Band all = from_queries(clipped, dx.area, 0, n);
  if (all.count() == 1) {
    const Matrix<const T> row = rows_of(all, table.value, dim);
    const Ones<T> ones;
    T sum[kLanes];
    attune::product(1, n, keys, ones.data, 0, 0, static_cast<const T*>(dx.data), dx.stride, sum, kLanes);
    const T* s = sum;
    attune::add_product(dim, n, 1, row.data, 1, 0, s, kLanes, df.query.data, df.query.stride);
    return attune::add_product(1, dim, n, s, kLanes, 1, q.data, q.stride, rows_of(all, table.grad, dim).data, dim);
  }
  T* const places = call.scratch(std::size_t(kStrip) * (kStrip + keys + dim));
  T* const dquery = places + std::ptrdiff_t(kStrip) * (kStrip + keys);  // [m][D]
  for (int i = 0; i < n; i += kStrip) {
    const int m = std::min(kStrip, n - i);
    const Band strip = from_queries(clipped, dx.area, i, m);
    std::fill(places, places + std::ptrdiff_t(m) * strip.places, T(0));
    add_strip(queries_of(dx, i, m), places + m - 1, strip.places - 1);
    gather_ends(strip, m, places);
    const Matrix<const T> rows = rows_of(strip, table.value, dim);
    const Matrix<T> drows = rows_of(strip, table.grad, dim);
    const T* g = places + strip.low;
    attune::product(m, dim, rows.rows, g, strip.places, 1, rows.data, rows.stride, dquery, dim);
    Tile<T> lanes{df.query.data + i, df.query.stride, dx.area};  // [D][m]
    lanes.area.key = lanes.area.query = 0;
    lanes.area.keys = dim;
    lanes.area.queries = m;
    add_strip(static_cast<const T*>(dquery), dim, lanes);
    attune::add_product(rows.rows, dim, m, g, 1, strip.places, q[i], q.stride, drows.data, drows.stride);
  }
}

template <class T>
void add_key_relative(const Features<T>& f, const Clipped& clipped, const T* table, T scale, const Tile<T>& x,
                      Call<T>& call) {
  const int n = x.area.queries, keys = x.area.keys, dim = f.key.cols;
  const Band all = from_keys(clipped, x.area, 0, keys);
  if (all.count() == 1) {
    const Ones<T> ones;
    T* const to_row = call.scratch(std::size_t(keys));
    engine::dot_rows(f.key, Matrix<const T>{rows_of(all, table, dim).data, keys, dim, 0}, to_row);
    for (int j = 0; j < keys; ++j) to_row[j] *= scale;
    return attune::add_product(keys, n, 1, static_cast<const T*>(to_row), 1, 0, ones.data, kLanes, x.data, x.stride);
  }
  T* const memory = call.scratch(std::size_t(dim) * all.count() + std::size_t(kStrip) * (kStrip + n));
  const Turned<T> turned(all, keys, table, dim, memory);
  T* const places = memory + std::ptrdiff_t(dim) * all.count();
  for (int j = 0; j < keys; j += kStrip) {
    const int m = std::min(kStrip, keys - j);
    const Band strip = from_keys(clipped, x.area, j, m);
    turned.products(strip, j, m, dim, f.key[j], f.key.stride, 1, places);
    add_rows(Matrix<const T>{places + m - 1, m, n, strip.places - 1}, scale, Matrix<T>{x[j], m, n, x.stride});
  }
}
template <class T>
void add_key_relative_backward(const Features<T>& f, const Clipped& clipped, const Parameter<T>& table, T scale,
                               const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) {
  const int n = dx.area.queries, keys = dx.area.keys, dim = f.key.cols;
  const Band all = from_keys(clipped, dx.area, 0, keys);
  if (all.count() == 1) {
    const Ones<T> ones;
    T* const sum = call.scratch(std::size_t(keys));
    engine::dot_rows(Matrix<const T>{dx.data, keys, n, dx.stride}, Matrix<const T>{ones.data, keys, n, 0}, sum);
    for (int j = 0; j < keys; ++j) sum[j] *= scale;
    const T* s = sum;
    attune::add_product(keys, dim, 1, s, 1, 0, rows_of(all, table.value, dim).data, dim, df.key.data, df.key.stride);
    return attune::add_product(1, dim, keys, s, 0, 1, f.key.data, f.key.stride, rows_of(all, table.grad, dim).data,
                               dim);
  }
  T* const places = call.scratch(std::size_t(kStrip) * (kStrip + n));
  for (int j = 0; j < keys; j += kStrip) {
    const int m = std::min(kStrip, keys - j);
    const Band strip = from_keys(clipped, dx.area, j, m);
    std::fill(places, places + std::ptrdiff_t(m) * strip.places, T(0));
    add_rows(Matrix<const T>{dx[j], m, n, dx.stride}, scale, Matrix<T>{places + m - 1, m, n, strip.places - 1});
    gather_ends(strip, m, places);
    const Matrix<const T> rows = rows_of(strip, table.value, dim);
    const Matrix<T> drows = rows_of(strip, table.grad, dim);
    const T* g = places + strip.low;
    attune::add_product(m, dim, rows.rows, g, strip.places, 1, rows.data, rows.stride, df.key[j], df.key.stride);
    attune::add_product(rows.rows, dim, m, g, 1, strip.places, f.key[j], f.key.stride, drows.data, drows.stride);
  }
}

#define ATTUNE_RELATIVE(T)                                                                                      \
  template void add_query_relative<T>(const Features<T>&, const Clipped&, const T*, const Tile<T>&, Call<T>&);  \
  template void add_query_relative_backward<T>(const Features<T>&, const Clipped&, const Parameter<T>&,         \
                                               const Tile<T>&, const DFeatures<T>&, Call<T>&);                  \
  template void add_key_relative<T>(const Features<T>&, const Clipped&, const T*, T, const Tile<T>&, Call<T>&); \
  template void add_key_relative_backward<T>(const Features<T>&, const Clipped&, const Parameter<T>&, T,        \
                                             const Tile<T>&, const DFeatures<T>&, Call<T>&);
ATTUNE_RELATIVE(float)
ATTUNE_RELATIVE(double)
ATTUNE_RELATIVE(Dual<double>)
#undef ATTUNE_RELATIVE

}  // namespace attune::detail
