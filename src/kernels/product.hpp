// Products of small matrices that lie anywhere, for the instruction set of this machine: see product-inl.h.
#pragma once
#include <cstddef>

#include "kernels/upcoming.hpp"

namespace attune::kernels {

/// c[m][n] += sum_k a[m * am + k * ak] * b[k * bk + n]. Rows of c lie cm apart. Any extents, 0 included; only the given
/// extents are read and written. c overlaps neither a nor b. The bits of a result depend on its own row of a and
/// column of b alone, not on how the matrix is cut. ahead, if given: rows to fetch meanwhile.
void add_product(int m, int n, int k, const float* a, std::ptrdiff_t am, std::ptrdiff_t ak, const float* b,
                 std::ptrdiff_t bk, float* c, std::ptrdiff_t cm, Upcoming* ahead = nullptr);
void add_product(int m, int n, int k, const double* a, std::ptrdiff_t am, std::ptrdiff_t ak, const double* b,
                 std::ptrdiff_t bk, double* c, std::ptrdiff_t cm, Upcoming* ahead = nullptr);

/// The same with =: what c held is not read.
void product(int m, int n, int k, const float* a, std::ptrdiff_t am, std::ptrdiff_t ak, const float* b,
             std::ptrdiff_t bk, float* c, std::ptrdiff_t cm, Upcoming* ahead = nullptr);
void product(int m, int n, int k, const double* a, std::ptrdiff_t am, std::ptrdiff_t ak, const double* b,
             std::ptrdiff_t bk, double* c, std::ptrdiff_t cm, Upcoming* ahead = nullptr);

/// c[m][n] = factor[n] * c[m][n] + sum: the online softmax's correction on the way. factor is readable up to whole
/// vectors (16 floats, 8 doubles).
void rescale_product(int m, int n, int k, const float* a, std::ptrdiff_t am, std::ptrdiff_t ak, const float* b,
                     std::ptrdiff_t bk, float* c, std::ptrdiff_t cm, const float* factor, Upcoming* ahead = nullptr);
void rescale_product(int m, int n, int k, const double* a, std::ptrdiff_t am, std::ptrdiff_t ak, const double* b,
                     std::ptrdiff_t bk, double* c, std::ptrdiff_t cm, const double* factor, Upcoming* ahead = nullptr);

}  // namespace attune::kernels
