// Adam and AdamW: one class; they differ in where the weight decay acts.
#include "attune/optim/adam.hpp"

#include <fmt/format.h>

#include <cmath>

#include "attune/base/error.hpp"
#include "kernels/update.hpp"
#include "optim/typed.hpp"

namespace attune::optim {
namespace {

AdamOptions as_adam(const AdamWOptions& o) {
  return {o.learning_rate, o.schedule,   o.betas,       o.epsilon,       o.weight_decay,
          o.clip_norm,     o.clip_value, o.atan2_scale, o.clip_adaptive, o.clip_zscore};
}

}  // namespace

Adam::Adam(const std::vector<Tensor>& parameters, const AdamOptions& options)
    : Adam(std::vector<ParameterGroup>{{parameters}}, options) {}

Adam::Adam(std::vector<ParameterGroup> groups, const AdamOptions& options) : Adam(std::move(groups), options, false) {}

Adam::Adam(std::vector<ParameterGroup> groups, const AdamOptions& o, bool decoupled_decay)
    : Adaptive(std::move(groups), detail::shared_options(o), {.decoupled_decay = decoupled_decay}, o.betas, o.epsilon),
      own_(o) {
  if (!(o.atan2_scale >= 0 && std::isfinite(o.atan2_scale))) {
    fail("Adam", "`atan2_scale` of 0 or more", fmt::format("got {}", o.atan2_scale));
  }
  if (o.atan2_scale > 0) epsilon_ = 0;  // an angle has none
  // AdamW's decay happens in apply(), on the weights.
  if (decoupled_decay) own_.weight_decay = 0;
}

void Adam::propose_range(const Range& r) {
  if (own_.atan2_scale > 0) {
    return propose_with(r, {.direction = kernels::Direction::angle,
                            .rate = r.learning_rate * own_.atan2_scale,
                            .beta1 = momentum_or(own_.betas[0]),
                            .beta2 = own_.betas[1],
                            .correction1 = correction(momentum_or(own_.betas[0])),
                            .root = std::sqrt(correction(own_.betas[1])),
                            .weight_decay = own_.weight_decay > 0 ? r.weight_decay : 0});
  }
  detail::typed("Adam", flat_.values.dtype(), [&]<class T>(T) {
    const kernels::AdamStep now{.learning_rate = r.learning_rate,
                                .beta1 = momentum_or(own_.betas[0]),
                                .beta2 = own_.betas[1],
                                .epsilon = own_.epsilon,
                                .weight_decay = own_.weight_decay > 0 ? r.weight_decay : 0,
                                .step = step() + 1,
                                .grad_scale = r.grad_scale};
    kernels::propose_adam<T>(r.end - r.begin, now, flat_.values.data<T>() + r.begin,
                             flat_.gradients.data<T>() + r.begin, first_.data<T>() + r.begin,
                             second_.data<T>() + r.begin, update_.data<T>() + r.begin);
  });
}

AdamW::AdamW(const std::vector<Tensor>& parameters, const AdamWOptions& options)
    : AdamW(std::vector<ParameterGroup>{{parameters}}, options) {}

AdamW::AdamW(std::vector<ParameterGroup> groups, const AdamWOptions& options)
    : Adam(std::move(groups), as_adam(options), true) {}

}  // namespace attune::optim
