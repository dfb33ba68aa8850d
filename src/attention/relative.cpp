// The loops of the scores with a row for every distance (score/relative.hpp), compiled once for every instruction set.
#include "attune/attention/score/relative.hpp"

#include "attune/attention/any_stage.hpp"

namespace attune::detail {
namespace {

/// The rows first .. first + count - 1 of it that a tile meets.
struct ClippedRows {
  Clipped table;
  int first, count, distance;  // distance of the tile's first query and first key
  ClippedRows(const Clipped& t, const Area& a) : table(t), distance(a.key - a.query - a.offset) {
    const int one = t.at(distance - a.queries + 1), other = t.at(distance + a.keys - 1);
    first = std::min(one, other);
    count = std::max(one, other) - first + 1;
  }
  /// Of query i and key j of the tile, counted from `first`.
  int operator()(int i, int j) const { return table.at(distance + j - i) - first; }
};

template <class T>
void logits_of_query(const Features<T>& f, const Clipped& clipped, const T* table, const Tile<T>& x, Call<T>& call) {
  const ClippedRows row(clipped, x.area);
  const int n = x.area.queries, dim = f.query.rows;
  T* products = call.scratch(std::size_t(row.count) * kLanes);  // [count][queries]
  attune::product(row.count, n, dim, table + std::ptrdiff_t(row.first) * dim, dim, 1, f.query.data, f.query.stride,
                  products, kLanes);
  for (int j = 0; j < x.area.keys; ++j) {
    T* s = x[j];
    if (row.count == 1) {  // far from the diagonal: one row for all pairs
      for (int i = 0; i < n; ++i) s[i] += products[i];
    } else {
      for (int i = 0; i < n; ++i) s[i] += products[row(i, j) * kLanes + i];
    }
  }
}
template <class T>
void backward_of_query(const Features<T>& f, const Clipped& clipped, const Parameter<T>& table, const Tile<T>& dx,
                       const DFeatures<T>& df, Call<T>& call) {
  const ClippedRows row(clipped, dx.area);
  const int n = dx.area.queries, dim = f.query.rows;
  const std::ptrdiff_t first = std::ptrdiff_t(row.first) * dim;
  T* sums = call.scratch(std::size_t(row.count) * kLanes);  // dx per distance and query
  std::fill(sums, sums + std::size_t(row.count) * kLanes, T(0));
  for (int j = 0; j < dx.area.keys; ++j) {
    const T* g = dx[j];
    if (row.count == 1) {
      for (int i = 0; i < n; ++i) sums[i] += g[i];
    } else {
      for (int i = 0; i < n; ++i) sums[row(i, j) * kLanes + i] += g[i];
    }
  }
  const T* d = sums;
  attune::add_product(dim, n, row.count, table.value + first, 1, dim, d, kLanes, df.query.data, df.query.stride);
  attune::add_product(row.count, dim, n, d, kLanes, 1, f.query_rows.data, f.query_rows.stride, table.grad + first, dim);
}

template <class T>
void logits_of_key(const Features<T>& f, const Clipped& clipped, const T* table, T scale, const Tile<T>& x,
                   Call<T>& call) {
  const ClippedRows row(clipped, x.area);
  const int n = x.area.queries, keys = x.area.keys, dim = f.key.cols, count = row.count;
  T* turned = call.scratch(std::size_t(count) * (dim + keys));  // the table's rows as [D][count]
  T* products = turned + std::ptrdiff_t(count) * dim;           // [keys][count]
  for (int r = 0; r < count; ++r) {
    for (int d = 0; d < dim; ++d) turned[d * count + r] = table[std::ptrdiff_t(row.first + r) * dim + d];
  }
  attune::product(keys, count, dim, f.key.data, f.key.stride, 1, static_cast<const T*>(turned), count, products, count);
  for (int j = 0; j < keys; ++j) {
    T* s = x[j];
    const T* of_key = products + std::ptrdiff_t(j) * count;
    for (int i = 0; i < n; ++i) s[i] += scale * of_key[row(i, j)];
  }
}
template <class T>
void backward_of_key(const Features<T>& f, const Clipped& clipped, const Parameter<T>& table, T scale,
                     const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) {
  const ClippedRows row(clipped, dx.area);
  const int n = dx.area.queries, keys = dx.area.keys, dim = f.key.cols, count = row.count;
  const std::ptrdiff_t first = std::ptrdiff_t(row.first) * dim;
  T* sums = call.scratch(std::size_t(count) * keys);  // dx per key and distance
  std::fill(sums, sums + std::size_t(count) * keys, T(0));
  for (int j = 0; j < keys; ++j) {
    const T* g = dx[j];
    T* of_key = sums + std::ptrdiff_t(j) * count;
    for (int i = 0; i < n; ++i) of_key[row(i, j)] += scale * g[i];
  }
  const T* d = sums;
  attune::add_product(keys, dim, count, d, count, 1, table.value + first, dim, df.key.data, df.key.stride);
  attune::add_product(count, dim, keys, d, 1, count, f.key.data, f.key.stride, table.grad + first, dim);
}

}  // namespace

template <class T>
void add_query_relative(const Features<T>& f, const Clipped& clipped, const T* table, const Tile<T>& x, Call<T>& call) {
  on_cpu<T>([&] { logits_of_query(f, clipped, table, x, call); });
}
template <class T>
void add_query_relative_backward(const Features<T>& f, const Clipped& clipped, const Parameter<T>& table,
                                 const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) {
  on_cpu<T>([&] { backward_of_query(f, clipped, table, dx, df, call); });
}
template <class T>
void add_key_relative(const Features<T>& f, const Clipped& clipped, const T* table, T scale, const Tile<T>& x,
                      Call<T>& call) {
  on_cpu<T>([&] { logits_of_key(f, clipped, table, scale, x, call); });
}
template <class T>
void add_key_relative_backward(const Features<T>& f, const Clipped& clipped, const Parameter<T>& table, T scale,
                               const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) {
  on_cpu<T>([&] { backward_of_key(f, clipped, table, scale, dx, df, call); });
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
