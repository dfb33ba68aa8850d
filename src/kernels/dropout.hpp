// Dropout of a tile of weights, vectorised over queries: the bits of base/dropout.hpp, 0.1 to 0.2 ns a pair.
#pragma once
#include <cstddef>
#include <cstdint>

namespace attune::kernels {

/// x [keys][queries], rows `stride` apart: x[j][i] becomes x[j][i] * (65536 / threshold) where the pair
/// (query0 + i, key0 + j) of (seed, batch, head) is kept, else 0 (by selection: a NaN that is dropped is gone).
/// threshold 1 .. 65536; at 65536 nothing is dropped.
void drop(float* x, std::ptrdiff_t stride, std::uint64_t seed, int batch, int head, int query0, int queries, int key0,
          int keys, std::uint32_t threshold);
void drop(double* x, std::ptrdiff_t stride, std::uint64_t seed, int batch, int head, int query0, int queries, int key0,
          int keys, std::uint32_t threshold);

}  // namespace attune::kernels
