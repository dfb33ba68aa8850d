// The additive score of one tile, logits = sum_h v[h] tanh(q[h] + k[h]), for the instruction set of this machine.
//
// tanh is never computed pair by pair: with Q = e^(2 q) of the queries and K = e^(2 k) of the keys, made once per row,
//
//     tanh(q + k) = 1 - 2 u,   u = 1 / (1 + Q K),   d tanh = 4 u (1 - u)
//
// and two hidden units share one division: 1 / a and 1 / b from 1 / (a b). Features beyond kMostFeature, where Q K
// could leave the range of a float, and NaN take tanh itself, pair by pair; which way a pair takes depends on its own
// two rows alone. Each exists for float and double.
#pragma once
#include <cstddef>

namespace attune::kernels {

/// One tile; queries <= 64.
template <class T>
struct AdditiveTile {
  int keys = 0, queries = 0, hidden = 0;
  const T* query = nullptr;  // forward: [hidden][queries]; backward: [queries][hidden]
  std::ptrdiff_t query_stride = 0;
  const T* key = nullptr;  // [keys][hidden]
  std::ptrdiff_t key_stride = 0;
  const T* v = nullptr;  // [hidden]
};

/// Numbers of scratch memory that a tile needs.
std::size_t additive_scratch(int keys, int hidden);

/// x [keys][queries], overwritten.
void additive_forward(const AdditiveTile<float>&, float* x, std::ptrdiff_t stride, float* scratch);
void additive_forward(const AdditiveTile<double>&, double* x, std::ptrdiff_t stride, double* scratch);

/// From dx [keys][queries]: dquery [hidden][queries], dkey [keys][hidden], dv [hidden], all +=.
void additive_backward(const AdditiveTile<float>&, const float* dx, std::ptrdiff_t stride, float* dquery,
                       std::ptrdiff_t dquery_stride, float* dkey, std::ptrdiff_t dkey_stride, float* dv,
                       float* scratch);
void additive_backward(const AdditiveTile<double>&, const double* dx, std::ptrdiff_t stride, double* dquery,
                       std::ptrdiff_t dquery_stride, double* dkey, std::ptrdiff_t dkey_stride, double* dv,
                       double* scratch);

}  // namespace attune::kernels
