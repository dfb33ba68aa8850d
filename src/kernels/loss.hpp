// Softmax over rows and the cross-entropy of logits against labels, fused: probabilities are never stored beside
// logits.
//
//   loss_r = lse(x_r) + z lse(x_r)^2 - (1 - eps) x_r[label] - eps / V sum_v x_r[v]
//   dx_r[v] = grad_scale ((1 + 2 z lse(x_r)) softmax(x_r)[v] - (1 - eps) [v == label] - eps / V)
//
// eps is label smoothing, arXiv:1512.00567; z keeps the log-sum-exp near 0, arXiv:2204.02311.
//
// Rows are contiguous, [rows][width]. T is float or double.
#pragma once
#include <cstdint>

namespace attune::kernels {

template <class T>
struct CrossEntropy {
  std::int64_t rows = 0, classes = 0;    // N, V
  const T* logits = nullptr;             // [N][V]
  const std::int32_t* labels = nullptr;  // [N], each 0 .. V-1 or ignore_index
  double label_smoothing = 0;
  double z_loss = 0;
  std::int32_t ignore_index = -100;  // such a row has loss 0 and gradient 0, whatever its logits hold
  T* loss = nullptr;                 // [N], nats
  T* dlogits = nullptr;              // [N][V]: overwritten; may be logits; null if only the loss is wanted
  T grad_scale = 1;                  // 1 / (rows that count) for a mean
};
template <class T>
void cross_entropy(const CrossEntropy<T>&);

/// Rows of probabilities. A row of -inf only gives zeros. y may be x.
template <class T>
void softmax(std::int64_t rows, std::int64_t width, const T* x, T* y);
/// dx = (or +=) y * (dy - sum(y * dy)). dx may be dy.
template <class T>
void softmax_backward(std::int64_t rows, std::int64_t width, const T* y, const T* dy, T* dx, bool accumulate);

/// y = x - lse(x). y may be x.
template <class T>
void log_softmax(std::int64_t rows, std::int64_t width, const T* x, T* y);
/// dx = (or +=) dy - exp(y) * sum(dy). dx may be dy.
template <class T>
void log_softmax_backward(std::int64_t rows, std::int64_t width, const T* y, const T* dy, T* dx, bool accumulate);

}  // namespace attune::kernels
