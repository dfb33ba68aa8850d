// LAMB and Lion: Adam's direction at the weights' own length, and no length at all.
#include "attune/optim/lamb.hpp"

#include <algorithm>
#include <cmath>

#include "attune/optim/lion.hpp"
#include "kernels/update.hpp"
#include "optim/typed.hpp"

namespace attune::optim {

Lamb::Lamb(std::vector<ParameterGroup> groups, const LambOptions& o)
    : Adaptive(std::move(groups), detail::shared_options(o), {.by_parameter = true}, o.betas, o.epsilon), own_(o) {}

void Lamb::propose_range(const Range& r) {
  propose_with(r, {.rate = 1,
                   .beta1 = momentum_or(own_.betas[0]),
                   .beta2 = own_.betas[1],
                   .correction1 = correction(momentum_or(own_.betas[0])),
                   .root = std::sqrt(correction(own_.betas[1])),
                   .epsilon = own_.epsilon,
                   .decay_after = r.weight_decay});
  detail::typed("Lamb", flat_.values.dtype(), [&]<class T>(T) {
    const std::int64_t n = r.end - r.begin;
    T* u = update_.data<T>() + r.begin;
    double ratio = 1;
    if (r.weight_decay != 0 || own_.always_adapt) {
      const double weight = std::sqrt(kernels::sum_of_squares<T>(n, flat_.values.data<T>() + r.begin));
      const double length = std::sqrt(kernels::sum_of_squares<T>(n, u));
      if (weight > 0 && length > 0) ratio = weight / length;
      if (own_.clip_ratio) ratio = std::min(ratio, 1.0);
    }
    kernels::scale<T>(n, r.learning_rate * ratio, u);
  });
}

Lion::Lion(std::vector<ParameterGroup> groups, const LionOptions& o)
    : Optimizer(std::move(groups), detail::shared_options(o), {.decoupled_decay = true}),
      own_(o),
      momentum_(make_array()) {
  detail::check_betas(o.betas);
}

void Lion::propose_range(const Range& r) {
  detail::typed("Lion", flat_.values.dtype(), [&]<class T>(T) {
    kernels::propose_lion<T>(r.end - r.begin, r.learning_rate, momentum_or(own_.betas[0]), own_.betas[1], r.grad_scale,
                             flat_.gradients.data<T>() + r.begin, momentum_.data<T>() + r.begin,
                             update_.data<T>() + r.begin);
  });
}

}  // namespace attune::optim
