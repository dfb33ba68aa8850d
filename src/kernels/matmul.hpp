// Matrix products of the layers: c = alpha * op(a) op(b), with what a layer does to it next in the same pass.
//
// Matrices are row-major with any row stride. Forward y = x W^T + b, dx = dy W, dW += dy^T x are each one call. All
// functions here trust their extents; callers check shapes. T is float or double.
#pragma once
#include <cstdint>

namespace attune::kernels {

/// What is done to a finished element.
enum class Epilogue : std::uint8_t {
  none,
  relu,  // max(c, 0)
  gelu,  // c * Phi(c), exact
  silu   // c * sigmoid(c)
};

/// c[m][n] = f(alpha * sum_k op(a)[m][k] * op(b)[k][n] (+ c[m][n] if accumulate) (+ bias[n])).
template <class T>
struct Matmul {
  std::int64_t rows = 0, columns = 0, inner = 0;  // M, N, K; any may be 0
  const T* a = nullptr;                           // [M][K], or [K][M] if transpose_a
  std::int64_t a_stride = 0;                      // elements from row to row
  bool transpose_a = false;
  const T* b = nullptr;  // [K][N], or [N][K] if transpose_b
  std::int64_t b_stride = 0;
  bool transpose_b = false;
  T* c = nullptr;  // [M][N]; overlaps neither a nor b
  std::int64_t c_stride = 0;
  T alpha = 1;
  bool accumulate = false;  // without it, what c held is not read
  const T* bias = nullptr;  // [N] or null
  T* a_sums = nullptr;      // [M] or null, for a transposed a: += sum over k of op(a)[m][k], a bias's gradient
  Epilogue epilogue = Epilogue::none;
  T* slope = nullptr;  // [M][N], rows c_stride apart, or null: f' of the element before f, for a backward
};

/// Runs on the pool. Each sum is taken in one order that the shape alone fixes: equal bits for any thread count.
template <class T>
void matmul(const Matmul<T>&);

/// batch products of one shape; a, b, c (and slope) of product i lie i * step elements on. A step of 0 for a
/// or b serves one matrix to all.
template <class T>
void matmul_batched(const Matmul<T>&, std::int64_t batch, std::int64_t a_step, std::int64_t b_step,
                    std::int64_t c_step);

}  // namespace attune::kernels
