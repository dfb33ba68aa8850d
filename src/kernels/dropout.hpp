// Dropout of a tile of weights, vectorised over queries: the bits of base/dropout.hpp, 0.1 to 0.2 ns a pair.
#pragma once
#include <cstddef>
#include <cstdint>

namespace attune::kernels {

/// What does not change over the tiles of one head.
struct Dropped {
  std::uint64_t seed;
  std::uint32_t batch, head;
  std::uint32_t threshold;
  std::uint64_t key[14];  // of the seven rounds, in memory: a broadcast from there costs nothing in an xor

  Dropped(std::uint64_t s, int b, int h, std::uint32_t t)
      : seed(s), batch(std::uint32_t(b)), head(std::uint32_t(h)), threshold(t) {
    for (std::uint32_t round = 0; round < 7; ++round) {
      key[2 * round] = std::uint32_t(std::uint32_t(seed) + round * 0x9E3779B9u);
      key[2 * round + 1] = std::uint32_t(std::uint32_t(seed >> 32) + round * 0xBB67AE85u);
    }
  }
};

/// x [keys][queries], rows `stride` apart: x[j][i] becomes x[j][i] * (65536 / threshold) where the pair
/// (query0 + i, key0 + j) of (seed, batch, head) is kept, else 0 (by selection: a NaN that is dropped is gone).
/// threshold 1 .. 65536; at 65536 nothing is dropped.
void drop(float* x, std::ptrdiff_t stride, std::uint64_t seed, int batch, int head, int query0, int queries, int key0,
          int keys, std::uint32_t threshold);
void drop(double* x, std::ptrdiff_t stride, std::uint64_t seed, int batch, int head, int query0, int queries, int key0,
          int keys, std::uint32_t threshold);

/// Bit i of rows[j]: whether the pair (query0 + i, key0 + j) is kept. queries <= 64; bits past them may be anything.
void kept_bits(std::uint64_t* rows, std::uint64_t seed, int batch, int head, int query0, int queries, int key0,
               int keys, std::uint32_t threshold);

}  // namespace attune::kernels
