// The optimizer's step over flat buffers, and what clipping and overflow checks read. T is float or double.
//
// A step has two halves: propose_*() turns a gradient into update[] and moves the moments; apply_update() changes the
// weights. Between them a controller may look at the update and scale parts of it.
// Adam: arXiv:1412.6980; AdamW: arXiv:1711.05101; Nesterov as in Sutskever et al., ICML 2013. Equal to PyTorch's order
// of operations.
#pragma once
#include <cstdint>

namespace attune::kernels {

struct SgdStep {
  double learning_rate = 0;
  double momentum = 0;  // 0: velocity is neither read nor written and may be null
  double dampening = 0;
  double weight_decay = 0;  // coupled: added to the gradient; 0: weights are not read and may be null
  bool nesterov = false;
  bool first = false;     // the first step: velocity = g, without dampening
  double grad_scale = 1;  // factor on the gradient, for clipping
};
/// g = grad_scale * grad + weight_decay * weights; velocity = momentum * velocity + (1 - dampening) * g;
/// update = learning_rate * (momentum == 0 ? g : nesterov ? g + momentum * velocity : velocity).
template <class T>
void propose_sgd(std::int64_t n, const SgdStep&, const T* weights, const T* grad, T* velocity, T* update);

struct AdamStep {
  double learning_rate = 0;
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;  // coupled (Adam's); for AdamW leave it 0 and decay in apply_update()
  std::int64_t step = 1;    // counts from 1: bias corrections are 1 - beta^step
  double grad_scale = 1;
};
/// g = grad_scale * grad + weight_decay * weights; m += (1 - beta1) * (g - m); v = beta2 * v + (1 - beta2) * g^2;
/// update = learning_rate / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + epsilon).
template <class T>
void propose_adam(std::int64_t n, const AdamStep&, const T* weights, const T* grad, T* m, T* v, T* update);

/// weights = weights * (1 - decay) - update; decay = learning_rate * weight_decay of AdamW, or 0.
template <class T>
void apply_update(std::int64_t n, double decay, const T* update, T* weights);

/// sum x^2: double sums over fixed ranges, added in order.
template <class T>
double sum_of_squares(std::int64_t n, const T* x);
/// True if no element is NaN or infinite.
template <class T>
bool all_finite(std::int64_t n, const T* x);
/// x = min(max(x, low), high); NaN stays NaN.
template <class T>
void clamp(std::int64_t n, T low, T high, T* x);

}  // namespace attune::kernels
