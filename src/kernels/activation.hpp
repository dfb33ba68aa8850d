// Functions of single numbers, forward and backward, and dropout.
//
// float: vectorised with own polynomials, relative error <= 3e-7 (gelu's left tail, where it cancels: absolute error
// <= 3e-7). double: the C library. Infinities give the limits, NaN gives NaN. T is float or double.
#pragma once
#include <cstdint>

namespace attune::kernels {

enum class Pointwise : std::uint8_t {
  relu,       // max(x, 0); its derivative at 0 is 0
  gelu,       // x * Phi(x) with the normal distribution function, by erf.  arXiv:1606.08415
  gelu_tanh,  // x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
  silu,       // x * sigmoid(x)
  sigmoid,    // 1 / (1 + exp(-x))
  tanh,
  exp,
  log,
  sqrt
};

/// True if the backward needs y (sigmoid, tanh, exp, sqrt), false if it needs x (the others; relu takes either).
constexpr bool saves_result(Pointwise f) {
  return f == Pointwise::sigmoid || f == Pointwise::tanh || f == Pointwise::exp || f == Pointwise::sqrt;
}

/// y[i] = f(x[i]). y may be x.
template <class T>
void pointwise(Pointwise f, std::int64_t n, const T* x, T* y);

/// dx[i] = (or += if accumulate) f'(x[i]) * dy[i]; saved is x or y as saves_result() says. dx may be dy.
template <class T>
void pointwise_backward(Pointwise f, std::int64_t n, const T* saved, const T* dy, T* dx, bool accumulate);

/// y[i] = x[i] * 65536 / threshold where element offset + i of the seed is kept, else 0 (by selection). y may be x.
/// threshold 1 .. 65536, as dropout_threshold() of base/dropout.hpp gives it. The backward is the same call on dy.
///
/// Element e of a seed: block = Philox 4x32-7 with key = (seed low, seed high) and
/// counter = (b low, b high, 0xffffffff, 0), b = e / 512 * 64 + e % 64; of its eight 16-bit numbers (low half of a word
/// first) the (e % 512 / 64)-th; kept if that is < threshold.
template <class T>
void dropout(std::int64_t n, const T* x, std::uint32_t threshold, std::uint64_t seed, std::uint64_t offset, T* y);
/// y[i] = base[i] + the same: the residual connection, and the accumulating backward. y may be base or x.
template <class T>
void add_dropout(std::int64_t n, const T* base, const T* x, std::uint32_t threshold, std::uint64_t seed,
                 std::uint64_t offset, T* y);

}  // namespace attune::kernels
