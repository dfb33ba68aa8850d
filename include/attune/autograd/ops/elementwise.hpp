// Operators on single numbers: arithmetic with broadcasting, activations, softmax over the last axis.
//
// Broadcasting is from the right, as everywhere: extents are equal, or 1, or missing in front. The gradient of a
// broadcast input is summed over what it was repeated along, in a fixed order.
#pragma once
#include "attune/autograd/tensor.hpp"

namespace attune {

/// a + b, a - b, a * b, a / b with broadcasting; both of one dtype.
Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
/// factor * x + offset.
Tensor scale(const Tensor& x, double factor, double offset = 0);

inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator*(double factor, const Tensor& x) { return scale(x, factor); }
inline Tensor operator*(const Tensor& x, double factor) { return scale(x, factor); }
inline Tensor operator+(const Tensor& x, double offset) { return scale(x, 1, offset); }
inline Tensor operator-(const Tensor& x, double offset) { return scale(x, 1, -offset); }
inline Tensor operator-(const Tensor& x) { return scale(x, -1); }

/// Element by element.
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);  // natural
Tensor sqrt(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);  // 1 / (1 + exp(-x))
Tensor relu(const Tensor& x);     // max(x, 0); the gradient at 0 is 0
Tensor silu(const Tensor& x);     // x * sigmoid(x)
/// x * Phi(x) with the normal distribution function Phi: the exact form, not the tanh approximation.
Tensor gelu(const Tensor& x);

/// What FeedForward and linear() apply.
enum class Activation : std::uint8_t { none, relu, gelu, silu };
Tensor activate(const Tensor& x, Activation);
/// "none", "relu", "gelu", "silu".
std::string_view name_of(Activation);
/// The reverse; throws Error for any other text.
Activation activation_from_name(std::string_view name);

/// exp(x) / sum exp(x) over the last axis, with the maximum taken out first.
Tensor softmax(const Tensor& x);
/// log(softmax(x)), without ever taking the logarithm of a rounded-off 0.
Tensor log_softmax(const Tensor& x);

}  // namespace attune
