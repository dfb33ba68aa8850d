// Layer norm and RMS norm over rows, forward and backward.
//
//   layer norm  y = (x - mean) * rstd * weight + bias,  rstd = 1 / sqrt(mean((x - mean)^2) + epsilon)
//   RMS norm    y = x * rstd * weight,                  rstd = 1 / sqrt(mean(x^2) + epsilon)
//
// "Layer normalization", arXiv:1607.06450; "Root mean square layer normalization", arXiv:1910.07467. x, y [rows][width]
// contiguous; weight, bias [width] or null (1, 0); mean, rstd [rows]. T is float or double; statistics are sums in T of
// centred numbers. Gradients of weight and bias are sums over rows in an order that the shape alone fixes.
#pragma once
#include <cstdint>

namespace attune::kernels {

/// mean and rstd may be null. y may be x.
template <class T>
void layer_norm(std::int64_t rows, std::int64_t width, const T* x, const T* weight, const T* bias, double epsilon, T* y,
                T* mean, T* rstd);

/// dx = (or += if accumulate) rstd * (g - mean(g) - xhat * mean(g * xhat)), g = dy * weight, xhat = (x - mean) * rstd;
/// dweight += sum dy * xhat; dbias += sum dy. dx, dweight, dbias may be null; dx may be dy.
template <class T>
void layer_norm_backward(std::int64_t rows, std::int64_t width, const T* x, const T* weight, const T* mean,
                         const T* rstd, const T* dy, T* dx, bool accumulate, T* dweight, T* dbias);

/// rstd may be null. y may be x.
template <class T>
void rms_norm(std::int64_t rows, std::int64_t width, const T* x, const T* weight, double epsilon, T* y, T* rstd);

/// dx = (or +=) rstd * (g - xhat * mean(g * xhat)), xhat = x * rstd; dweight += sum dy * xhat.
template <class T>
void rms_norm_backward(std::int64_t rows, std::int64_t width, const T* x, const T* weight, const T* rstd, const T* dy,
                       T* dx, bool accumulate, T* dweight);

}  // namespace attune::kernels
