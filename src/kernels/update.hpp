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

/// What an adaptive step moves along: m and v are the moments of adam, d = sqrt(v) / root + epsilon.
enum class Direction : std::uint8_t {
  ratio,     // rate (m / correction1) / d
  nesterov,  // rate m / d + gradient_rate g / d
  momentum,  // rate m
  angle,     // rate atan2(m / correction1, sqrt(v) / root)
  mixed,     // rate (m / correction1 + slow_share slow) / d;  slow += (1 - beta3) (g - slow)
  gradient   // rate g / d: m is neither read nor written and may be null
};
struct AdaptiveStep {
  Direction direction = Direction::ratio;
  double rate = 0, gradient_rate = 0;
  double beta1 = 0.9, beta2 = 0.999, beta3 = 0;
  double slow_share = 0;
  double correction1 = 1, root = 1;
  double epsilon = 1e-8;
  double weight_decay = 0;  // coupled: added to the gradient
  double decay_after = 0;   // times the weights, added to the update (of a ratio or mixed direction)
  double grad_scale = 1;
};
/// g = grad_scale * grad + weight_decay * weights; the moments as in propose_adam(); update = the direction (+
/// decay_after * weights). Without decays weights may be null; slow is null but for Direction::mixed.
template <class T>
void propose_adaptive(std::int64_t n, const AdaptiveStep&, const T* weights, const T* grad, T* m, T* v, T* slow,
                      T* update);

/// update = rate * sign(m + (1 - beta1) (g - m)); m += (1 - beta2) (g - m), g = grad_scale * grad.
template <class T>
void propose_lion(std::int64_t n, double rate, double beta1, double beta2, double grad_scale, const T* grad, T* m,
                  T* update);

/// m += (1 - momentum) (g - m), g = grad_scale * grad; update = nesterov ? g + momentum (m - g) : m.
template <class T>
void blend_momentum(std::int64_t n, double momentum, bool nesterov, double grad_scale, const T* grad, T* m, T* update);

/// Schedule-Free's step, with u = update + decay * y: y = y + share (z - y) - part * u; z = z - u.
template <class T>
void apply_averaged(std::int64_t n, double share, double part, double decay, const T* update, T* y, T* z);
/// x = x + share (target - x); exactly the target for a share of 1.
template <class T>
void move_towards(std::int64_t n, double share, const T* target, T* x);

struct ProdigyStep {
  double d = 0;
  double beta1 = 0.9, beta2 = 0.999, beta3 = 0;
  double gradient_share = 0;  // of g in s
  double weight_decay = 0;    // coupled
  double grad_scale = 1;
};
struct ProdigySums {
  double distance = 0;  // sum of g * (start - weights)
  double size = 0;      // sum of |s|
};
/// g = grad_scale * grad + weight_decay * weights; m = beta1 m + d (1 - beta1) g; v = beta2 v + d^2 (1 - beta2) g^2;
/// s = beta3 s + gradient_share g. Sums over fixed blocks, added in order in double.
template <class T>
ProdigySums prodigy_moments(std::int64_t n, const ProdigyStep&, const T* weights, const T* start, const T* grad, T* m,
                            T* v, T* s);
/// update = rate m / (sqrt(v) + epsilon).
template <class T>
void propose_ratio(std::int64_t n, double rate, double epsilon, const T* m, const T* v, T* update);

/// Of a matrix grad [rows][width], with g = grad_scale * grad: row_means[i] = mean of g[i][:]^2, column_means[j]
/// likewise.
template <class T>
void mean_squares(std::int64_t rows, std::int64_t width, double grad_scale, const T* grad, T* row_means,
                  T* column_means);
/// update[i][j] = grad_scale grad[i][j] / sqrt(max(row_factor[i] column[j], least)).
template <class T>
void propose_factored(std::int64_t rows, std::int64_t width, double grad_scale, double least, const T* grad,
                      const T* row_factor, const T* column, T* update);

/// x = x * factor.
template <class T>
void scale(std::int64_t n, double factor, T* x);

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
