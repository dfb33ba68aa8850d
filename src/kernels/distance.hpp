// The loops of the scores by distance, in float32, for the instruction set of this machine: sums over a third index of
// differences, squared or weighed, as a product takes sums of products. Differences are taken number by number; why,
// says score/distance.hpp.
#pragma once
#include <cstddef>

namespace attune::kernels {

/// One sum over `steps` for every c[m][n]. All strides in numbers; rows of b, own and c are contiguous.
struct DistanceSum {
  int m = 0, n = 0, steps = 0;
  float factor = 1;
  const float* a = nullptr;  // a number for [m][step]: a[m * am + step * ak]
  std::ptrdiff_t am = 0, ak = 0;
  const float* b = nullptr;  // [steps][n]
  std::ptrdiff_t bk = 0;
  const float* own = nullptr;  // [m][n]; not for squares
  std::ptrdiff_t own_stride = 0;
  float* c = nullptr;  // [m][n]
  std::ptrdiff_t stride = 0;
};

/// c = factor * sum of (b - a)^2: logits [keys][queries] of key rows a and query lanes b.
void squared_distances(const DistanceSum&);
/// c += factor * sum of b (own - a): dquery [dim][queries] of dx b, query lanes own, key rows a.
void add_distances_by_vector(const DistanceSum&);
/// c += factor * sum of a (own - b): dkey [keys][dim] of dx a, key rows own, query rows b.
void add_distances_by_number(const DistanceSum&);

}  // namespace attune::kernels
