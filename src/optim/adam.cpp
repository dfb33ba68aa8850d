// Adam and AdamW: one class; they differ in where the weight decay acts.
#include "attune/optim/adam.hpp"

#include <fmt/format.h>

#include "attune/base/error.hpp"
#include "kernels/update.hpp"
#include "optim/typed.hpp"

namespace attune::optim {
namespace {

AdamOptions as_adam(const AdamWOptions& o) {
  return {o.learning_rate, o.schedule, o.betas, o.epsilon, o.weight_decay, o.clip_norm, o.clip_value};
}

}  // namespace

Adam::Adam(const std::vector<Tensor>& parameters, const AdamOptions& options)
    : Adam(std::vector<ParameterGroup>{{parameters}}, options) {}

Adam::Adam(std::vector<ParameterGroup> groups, const AdamOptions& options) : Adam(std::move(groups), options, false) {}

Adam::Adam(std::vector<ParameterGroup> groups, const AdamOptions& o, bool decoupled_decay)
    : Optimizer(std::move(groups), {o.learning_rate, o.schedule, o.weight_decay, o.clip_norm, o.clip_value},
                decoupled_decay),
      own_(o),
      first_(make_array()),
      second_(make_array()) {
  for (const double beta : o.betas) {
    if (!(beta >= 0 && beta < 1)) fail("Adam", "`betas` in [0, 1)", fmt::format("got {}", beta));
  }
  if (!(o.epsilon > 0)) fail("Adam", "`epsilon` above 0", fmt::format("got {}", o.epsilon));
  // AdamW's decay happens in apply(), on the weights.
  if (decoupled_decay) own_.weight_decay = 0;
}

void Adam::propose_range(const Range& r) {
  detail::typed("Adam", flat_.values.dtype(), [&]<class T>(T) {
    const kernels::AdamStep now{.learning_rate = r.learning_rate,
                                .beta1 = own_.betas[0],
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

std::vector<std::pair<std::string, Tensor*>> Adam::arrays() {
  return {{"first_moment", &first_}, {"second_moment", &second_}};
}

AdamW::AdamW(const std::vector<Tensor>& parameters, const AdamWOptions& options)
    : AdamW(std::vector<ParameterGroup>{{parameters}}, options) {}

AdamW::AdamW(std::vector<ParameterGroup> groups, const AdamWOptions& options)
    : Adam(std::move(groups), as_adam(options), true) {}

}  // namespace attune::optim
