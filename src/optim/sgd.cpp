// SGD: its options checked, and one call of the fused kernel a group.
#include "attune/optim/sgd.hpp"

#include <fmt/format.h>

#include "attune/base/error.hpp"
#include "kernels/update.hpp"
#include "optim/typed.hpp"

namespace attune::optim {

Sgd::Sgd(const std::vector<Tensor>& parameters, const SgdOptions& options)
    : Sgd(std::vector<ParameterGroup>{{parameters}}, options) {}

Sgd::Sgd(std::vector<ParameterGroup> groups, const SgdOptions& o)
    : Optimizer(std::move(groups), detail::shared_options(o), {}), own_(o) {
  if (!(o.momentum >= 0 && o.momentum < 1)) fail("Sgd", "`momentum` in [0, 1)", fmt::format("got {}", o.momentum));
  if (!(o.dampening >= 0 && o.dampening <= 1)) fail("Sgd", "`dampening` in [0, 1]", fmt::format("got {}", o.dampening));
  if (o.nesterov && (o.momentum == 0 || o.dampening != 0)) {
    fail("Sgd", "momentum and no dampening with `nesterov`",
         fmt::format("got momentum {} and dampening {}", o.momentum, o.dampening));
  }
  if (o.momentum > 0) momentum_ = make_array();
}

void Sgd::propose_range(const Range& r) {
  detail::typed("Sgd", flat_.values.dtype(), [&]<class T>(T) {
    const kernels::SgdStep now{.learning_rate = r.learning_rate,
                               .momentum = momentum_ ? momentum_or(own_.momentum) : 0,
                               .dampening = own_.dampening,
                               .weight_decay = r.weight_decay,
                               .nesterov = own_.nesterov,
                               .first = step() == 0,
                               .grad_scale = r.grad_scale};
    kernels::propose_sgd<T>(r.end - r.begin, now, flat_.values.data<T>() + r.begin, flat_.gradients.data<T>() + r.begin,
                            momentum_ ? momentum_.data<T>() + r.begin : nullptr, update_.data<T>() + r.begin);
  });
}

std::vector<std::pair<std::string, Tensor*>> Sgd::arrays() {
  if (!momentum_) return {};
  return {{"momentum", &momentum_}};
}

}  // namespace attune::optim
