// What Adam's relatives share, and those of them that are a formula beside it: NAdam, RAdam, AdEMAMix.
#include "attune/optim/adaptive.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "attune/base/error.hpp"
#include "attune/optim/ademamix.hpp"
#include "attune/optim/nadam.hpp"
#include "attune/optim/radam.hpp"
#include "kernels/update.hpp"
#include "optim/typed.hpp"

namespace attune::optim {

Adaptive::Adaptive(std::vector<ParameterGroup> groups, OptimizerOptions options, Manner manner,
                   std::span<const double> betas, double epsilon, bool has_first)
    : Optimizer(std::move(groups), std::move(options), manner),
      second_(make_array()),
      beta2_(betas.back()),
      epsilon_(epsilon) {
  detail::check_betas(betas);
  if (!(epsilon > 0)) fail("Optimizer", "`epsilon` above 0", fmt::format("got {}", epsilon));
  if (has_first) first_ = make_array();
}

double Adaptive::correction(double beta) const { return 1 - std::pow(beta, double(step() + 1)); }

void Adaptive::propose_with(const Range& r, kernels::AdaptiveStep now, Tensor slow) {
  now.grad_scale = r.grad_scale;
  detail::typed("Adaptive", flat_.values.dtype(), [&]<class T>(T) {
    kernels::propose_adaptive<T>(r.end - r.begin, now, flat_.values.data<T>() + r.begin,
                                 flat_.gradients.data<T>() + r.begin, first_ ? first_.data<T>() + r.begin : nullptr,
                                 second_.data<T>() + r.begin, slow ? slow.data<T>() + r.begin : nullptr,
                                 update_.data<T>() + r.begin);
  });
}

EpsilonCount Adaptive::epsilon_count(std::size_t i, std::int64_t first, std::int64_t end) const {
  const Slice slice = rows(i, first, end);
  EpsilonCount count;
  if (step() == 0 || epsilon_ == 0) return count;
  const double limit = 100 * epsilon_ * epsilon_ * (1 - std::pow(beta2_, double(step())));
  detail::typed("Adaptive", second_.dtype(), [&]<class T>(T) {
    const T* v = second_.data<T>() + slice.begin;
    for (std::int64_t k = 0; k < slice.count; ++k) {
      count.moved += v[k] > 0;
      count.small += v[k] > 0 && double(v[k]) < limit;
    }
  });
  return count;
}

std::vector<std::pair<std::string, Tensor*>> Adaptive::arrays() {
  if (!first_) return {{"second_moment", &second_}};
  return {{"first_moment", &first_}, {"second_moment", &second_}};
}

// --- NAdam -----------------------------------------------------------------------------------------------------------

NAdam::NAdam(std::vector<ParameterGroup> groups, const NAdamOptions& o)
    : Adaptive(std::move(groups), detail::shared_options(o), {.decoupled_decay = o.decoupled_decay}, o.betas,
               o.epsilon),
      own_(o) {
  if (!(o.momentum_decay >= 0 && std::isfinite(o.momentum_decay))) {
    fail("NAdam", "`momentum_decay` of 0 or more", fmt::format("got {}", o.momentum_decay));
  }
}

void NAdam::begin_step(double) {
  const double beta1 = momentum_or(own_.betas[0]);
  const auto mu = [&](double t) { return beta1 * (1 - 0.5 * std::pow(0.96, t * own_.momentum_decay)); };
  now_ = mu(double(step() + 1));
  next_ = mu(double(step() + 2));
  product_ *= now_;
}

void NAdam::propose_range(const Range& r) {
  propose_with(r, {.direction = kernels::Direction::nesterov,
                   .rate = r.learning_rate * next_ / (1 - product_ * next_),
                   .gradient_rate = r.learning_rate * (1 - now_) / (1 - product_),
                   .beta1 = momentum_or(own_.betas[0]),
                   .beta2 = own_.betas[1],
                   .root = std::sqrt(correction(own_.betas[1])),
                   .epsilon = own_.epsilon,
                   .weight_decay = own_.decoupled_decay ? 0 : r.weight_decay});
}

// --- RAdam -----------------------------------------------------------------------------------------------------------

RAdam::RAdam(std::vector<ParameterGroup> groups, const RAdamOptions& o)
    : Adaptive(std::move(groups), detail::shared_options(o), {.decoupled_decay = o.decoupled_decay}, o.betas,
               o.epsilon),
      own_(o) {}

void RAdam::propose_range(const Range& r) {
  const double beta2 = own_.betas[1], t = double(step() + 1), correction2 = correction(beta2);
  const double most = 2 / (1 - beta2) - 1, rho = most - 2 * t * std::pow(beta2, t) / correction2;
  kernels::AdaptiveStep now{.direction = kernels::Direction::momentum,
                            .rate = r.learning_rate / correction(momentum_or(own_.betas[0])),
                            .beta1 = momentum_or(own_.betas[0]),
                            .beta2 = beta2,
                            .epsilon = own_.epsilon,
                            .weight_decay = own_.decoupled_decay ? 0 : r.weight_decay};
  if (rho > 5) {
    now.direction = kernels::Direction::ratio;
    now.rate *= std::sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)) * std::sqrt(correction2);
  }
  propose_with(r, now);
}

// --- AdEMAMix --------------------------------------------------------------------------------------------------------

AdEMAMix::AdEMAMix(std::vector<ParameterGroup> groups, const AdEMAMixOptions& o)
    : Adaptive(std::move(groups), detail::shared_options(o), {.decoupled_decay = true}, o.betas, o.epsilon),
      own_(o),
      slow_(make_array()) {
  if (!(o.alpha >= 0 && std::isfinite(o.alpha)))
    fail("AdEMAMix", "`alpha` of 0 or more", fmt::format("got {}", o.alpha));
  detail::check_betas(std::array{o.beta3});
  if (o.mix_warmup < 0) fail("AdEMAMix", "`mix_warmup` of 0 or more steps", fmt::format("got {}", o.mix_warmup));
  if (o.mix_warmup > 0 && (o.betas[0] == 0 || o.beta3 == 0)) {
    fail("AdEMAMix", "`beta3` and the first of `betas` above 0 with `mix_warmup`", "got 0");
  }
}

void AdEMAMix::propose_range(const Range& r) {
  const double t = double(step() + 1), warmup = double(own_.mix_warmup);
  double alpha = own_.alpha, beta3 = own_.beta3;
  if (warmup > 0) {
    const double fast = std::log(momentum_or(own_.betas[0])), slow = std::log(beta3), p = t / warmup;
    alpha = std::min(alpha, alpha * p);
    beta3 = p < 1 ? std::min(beta3, std::exp(fast * slow / ((1 - p) * slow + p * fast))) : beta3;
  }
  propose_with(r,
               {.direction = kernels::Direction::mixed,
                .rate = r.learning_rate,
                .beta1 = momentum_or(own_.betas[0]),
                .beta2 = own_.betas[1],
                .beta3 = beta3,
                .slow_share = alpha,
                .correction1 = correction(momentum_or(own_.betas[0])),
                .root = std::sqrt(correction(own_.betas[1])),
                .epsilon = own_.epsilon},
               slow_);
}

std::vector<std::pair<std::string, Tensor*>> AdEMAMix::arrays() {
  auto all = Adaptive::arrays();
  all.emplace_back("slow_moment", &slow_);
  return all;
}

}  // namespace attune::optim
