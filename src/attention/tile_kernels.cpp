// tile.hpp's way to the kernels: a stage written in a header reaches the code for this machine's instruction set here.
#include "attune/attention/tile.hpp"

#include "attune/attention/score/additive.hpp"
#include "kernels/additive.hpp"
#include "kernels/bias_tile.hpp"
#include "kernels/lanes.hpp"
#include "kernels/product.hpp"
#include "kernels/softmax_tile.hpp"

namespace attune::detail {

#define ATTUNE_TILE_KERNELS(T)                                                                                       \
  void add_product(int m, int n, int k, const T* a, std::ptrdiff_t am, std::ptrdiff_t ak, const T* b,                \
                   std::ptrdiff_t bk, T* c, std::ptrdiff_t cm, kernels::Upcoming* ahead) {                           \
    kernels::add_product(m, n, k, a, am, ak, b, bk, c, cm, ahead);                                                   \
  }                                                                                                                  \
  void product(int m, int n, int k, const T* a, std::ptrdiff_t am, std::ptrdiff_t ak, const T* b, std::ptrdiff_t bk, \
               T* c, std::ptrdiff_t cm, kernels::Upcoming* ahead) {                                                  \
    kernels::product(m, n, k, a, am, ak, b, bk, c, cm, ahead);                                                       \
  }                                                                                                                  \
  void scaled_rows(Matrix<const T> x, T scale, Matrix<T> y) {                                                        \
    kernels::scaled_rows(x.data, x.stride, x.rows, x.cols, scale, y.data, y.stride);                                 \
  }                                                                                                                  \
  void add_scaled_rows(Matrix<const T> x, T scale, Matrix<T> y) {                                                    \
    kernels::add_scaled_rows(x.data, x.stride, x.rows, x.cols, scale, y.data, y.stride);                             \
  }                                                                                                                  \
  void softmax_forward(const Tile<T>& x, T* maximum, T* sum, T* factor) {                                            \
    kernels::softmax_forward(x.data, x.stride, x.area.keys, x.area.queries, maximum, sum, factor);                   \
  }                                                                                                                  \
  void softmax_backward(const Tile<T>& x, const Tile<T>& dp, const T* lse, const T* delta) {                         \
    kernels::softmax_backward(x.data, dp.data, x.stride, x.area.keys, x.area.queries, lse, delta);                   \
  }                                                                                                                  \
  void subtract_distance(const Tile<T>& x, T slope) {                                                                \
    const Area& a = x.area;                                                                                          \
    kernels::subtract_distance(x.data, x.stride, a.keys, a.queries, slope, a.query + a.offset - a.key);              \
  }                                                                                                                  \
  void multiply(const Tile<T>& x, const Tile<T>& y) {                                                                \
    kernels::multiply_tile(x.data, y.data, x.stride, x.area.keys, x.area.queries);                                   \
  }                                                                                                                  \
  void add_transposed(const T* rows, std::ptrdiff_t stride, const Tile<T>& x) {                                      \
    kernels::add_from_rows(rows, stride, x.area.queries, x.area.keys, x.data, x.stride);                             \
  }                                                                                                                  \
  void add_transposed(const Tile<T>& x, T* rows, std::ptrdiff_t stride) {                                            \
    kernels::add_to_rows(x.data, x.stride, x.area.keys, x.area.queries, rows, stride);                               \
  }
ATTUNE_TILE_KERNELS(float)
ATTUNE_TILE_KERNELS(double)
#undef ATTUNE_TILE_KERNELS

void sigmoid_forward(const Tile<float>& x, float bias) {
  kernels::sigmoid_forward(x.data, x.stride, x.area.keys, x.area.queries, bias);
}
void sigmoid_backward(const Tile<float>& x, const Tile<float>& dp, float bias) {
  kernels::sigmoid_backward(x.data, dp.data, x.stride, x.area.keys, x.area.queries, bias);
}
void soft_cap(const Tile<float>& x, float cap, const Tile<float>* slope) {
  kernels::soft_cap(x.data, x.stride, x.area.keys, x.area.queries, cap, slope ? slope->data : nullptr);
}

#define ATTUNE_ADDITIVE(T)                                                                                           \
  void additive_logits(const Features<T>& f, const Tile<T>& x, const T* v, Call<T>& call) {                          \
    const int keys = x.area.keys, hidden = f.query.rows;                                                             \
    kernels::additive_forward(                                                                                       \
        {keys, x.area.queries, hidden, f.query.data, f.query.stride, f.key.data, f.key.stride, v}, x.data, x.stride, \
        call.scratch(kernels::additive_scratch(keys, hidden)));                                                      \
  }                                                                                                                  \
  void additive_backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, const Parameter<T>& v,     \
                         Call<T>& call) {                                                                            \
    const int keys = dx.area.keys, hidden = f.query.rows;                                                            \
    kernels::additive_backward(                                                                                      \
        {keys, dx.area.queries, hidden, f.query_rows.data, f.query_rows.stride, f.key.data, f.key.stride, v.value},  \
        dx.data, dx.stride, df.query.data, df.query.stride, df.key.data, df.key.stride, v.grad,                      \
        call.scratch(kernels::additive_scratch(keys, hidden)));                                                      \
  }
ATTUNE_ADDITIVE(float)
ATTUNE_ADDITIVE(double)
#undef ATTUNE_ADDITIVE

}  // namespace attune::detail
