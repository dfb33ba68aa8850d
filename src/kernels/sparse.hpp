// Products of tiles in which few pairs of a key and a query have a weight, for the instruction set of this machine.
// Pair (j, i) of a tile [keys][queries] is bit i of pairs[j], queries <= 64; bits past the queries are 0. What has no
// bit is taken for 0 and not looked at. Every sum is taken in the order of the product that looks at all pairs
// (product.hpp) and so has its bits, as long as everything is finite.
#pragma once
#include <cstddef>
#include <cstdint>

namespace attune::kernels {

/// How much of a tile the pairs are.
struct Sparsity {
  std::int64_t pairs = 0;  // bits
  std::int64_t cells = 0;  // sixteen neighbouring queries of a key with a bit among them
};
Sparsity sparsity(const std::uint64_t* pairs, int keys);

/// pairs[j] bit i = x[j][i] is not 0; a NaN is not.
void nonzero_pairs(const float* x, std::ptrdiff_t stride, int keys, int queries, std::uint64_t* pairs);

/// c[j][i] = sum over e < k of a[j][e] * b[e][i] at least at the pairs, and a finite sum or 0 elsewhere: the gradient
/// of weights. Rows of a, b and c lie am, bm and cm apart.
void product_at_pairs(const std::uint64_t* pairs, int keys, int queries, int k, const float* a, std::ptrdiff_t am,
                      const float* b, std::ptrdiff_t bm, float* c, std::ptrdiff_t cm);

/// c[m][i] += sum over keys j of a[j][m] * b[j][i], m < rows: values under weights, keys under dlogits.
void add_pairs_to_lanes(const std::uint64_t* pairs, int keys, int queries, int rows, const float* a, std::ptrdiff_t am,
                        const float* b, std::ptrdiff_t bm, float* c, std::ptrdiff_t cm);

/// c[j][d] += sum over queries i of a[j][i] * b[i][d], d < n: the gradients of values and keys.
void add_pairs_to_rows(const std::uint64_t* pairs, int keys, int n, const float* a, std::ptrdiff_t am, const float* b,
                       std::ptrdiff_t bm, float* c, std::ptrdiff_t cm);

/// c[i][d] += sum over keys j of a[j][i] * b[j][d], d < n: the output and the gradients of queries, row by row. What
/// add_pairs_to_lanes does, in the other layout: that one's work is a multiply-add for each sixteen neighbours with a
/// pair and each row, this one's a load, a multiply-add and a store for each pair and sixteen d.
void add_pairs_to_query_rows(const std::uint64_t* pairs, int keys, int n, const float* a, std::ptrdiff_t am,
                             const float* b, std::ptrdiff_t bm, float* c, std::ptrdiff_t cm);

}  // namespace attune::kernels
