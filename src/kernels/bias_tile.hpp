// What the library's own biases do to a tile of logits [keys][queries], rows `stride` apart, for the instruction set of
// this machine. Exact extents: nothing outside of them is read or written.
#pragma once
#include <cstddef>
#include <cstdint>

namespace attune::kernels {

/// x[j][i] -= slope * |distance + i - j|: ALiBi. distance: position of the first query minus the first key.
void subtract_distance(float* x, std::ptrdiff_t stride, int keys, int queries, float slope, int distance);
void subtract_distance(double* x, std::ptrdiff_t stride, int keys, int queries, double slope, int distance);

/// x = cap * tanh(x / cap), cap > 0; slope, if given, = 1 - tanh(x / cap)^2, rows as far apart as x's, without the
/// difference's cancellation. An element's bits depend on itself alone. Relative error of tanh at most 4e-7.
void soft_cap(float* x, std::ptrdiff_t stride, int keys, int queries, float cap, float* slope);

/// x = p = 1 / (1 + e^-(x + bias)).
void sigmoid_forward(float* x, std::ptrdiff_t stride, int keys, int queries, float bias);
/// The same, and dp = p (1 - p) dp.
void sigmoid_backward(float* x, float* dp, std::ptrdiff_t stride, int keys, int queries, float bias);

/// Whose noise: the pair (query + i, key + j), and the seed in keys of Philox' ten rounds.
struct NoiseAt {
  int query, key, head, batch;
  std::uint64_t round_key[20];
  NoiseAt(int q, int k, int h, int b, std::uint32_t seed) : query(q), key(k), head(h), batch(b) {
    for (std::uint32_t round = 0; round < 10; ++round) {
      round_key[2 * round] = std::uint32_t(seed + round * 0x9E3779B9u);
      round_key[2 * round + 1] = std::uint32_t(0x6d75u + round * 0xBB67AE85u);
    }
  }
};
/// x = (x + g) * inverse, g = -log(-log u), u = (word + 1/2) / 2^32; word: number key % 4 of Philox 4x32-10 with key
/// (seed, 0x6d75) and counter (query, key / 4, head, batch). Error of g at most 4e-7 (1 + |g|).
void add_gumbel(float* x, std::ptrdiff_t stride, int keys, int queries, const NoiseAt& at, float inverse);

/// A tile for FIRE's network (fire-inl.h). Diagonal m of the pair (j, i) is keys - 1 - j + i.
struct FireTile {
  int keys, queries, hidden;
  bool tanh;                                          // else ReLU
  const float *hidden_weight, *hidden_bias, *weight;  // [hidden]
  const float *psi, *inverse;                         // [diagonals], [queries], none negative: z = psi inverse
  int diagonals() const { return keys + queries - 1; }
};
/// Where gradients go: those of the units +=, those of psi and inverse =.
struct FireGradients {
  float *hidden_weight, *hidden_bias, *weight, *psi, *inverse;
};
/// Numbers of scratch that both want.
constexpr std::size_t fire_scratch(int keys, int queries, int hidden) {
  return 6 * (std::size_t(keys) + std::size_t(queries) + 32) + 51 * std::size_t(hidden);
}
/// x[j][i] += bias + sum over u of weight[u] act(hidden_weight[u] z + hidden_bias[u]).
void add_fire(const FireTile& t, float bias, float* x, std::ptrdiff_t stride, float* scratch);
/// Returns the sum of dx.
float fire_backward(const FireTile& t, const float* dx, std::ptrdiff_t stride, const FireGradients& to, float* scratch);

/// x[j][i] += value[keys - 1 - j + i]; value [keys + queries - 1].
void add_diagonals(float* x, std::ptrdiff_t stride, int keys, int queries, const float* value);
void add_diagonals(double* x, std::ptrdiff_t stride, int keys, int queries, const double* value);
/// sum[keys - 1 - j + i] += x[j][i].
void sum_diagonals(const float* x, std::ptrdiff_t stride, int keys, int queries, float* sum);
void sum_diagonals(const double* x, std::ptrdiff_t stride, int keys, int queries, double* sum);

/// x *= y.
void multiply_tile(float* x, const float* y, std::ptrdiff_t stride, int keys, int queries);
void multiply_tile(double* x, const double* y, std::ptrdiff_t stride, int keys, int queries);

}  // namespace attune::kernels
