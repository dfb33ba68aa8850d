// Schedule-Free AdamW and Prodigy: optimizers that need no schedule, or no learning rate.
#include "attune/optim/schedule_free.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "attune/base/error.hpp"
#include "attune/optim/prodigy.hpp"
#include "kernels/update.hpp"
#include "optim/typed.hpp"

namespace attune::optim {

ScheduleFree::ScheduleFree(std::vector<ParameterGroup> groups, const ScheduleFreeOptions& o)
    : Adaptive(std::move(groups), detail::shared_options(o), {.decoupled_decay = true}, o.betas, o.epsilon, false),
      own_(o),
      base_(make_array()) {
  if (o.betas[0] == 0) fail("ScheduleFree", "the first of `betas` above 0", "got 0");
  for (const double power : {o.average_power, o.rate_power}) {
    if (!(power >= 0 && std::isfinite(power))) {
      fail("ScheduleFree", "`average_power` and `rate_power` of 0 or more", fmt::format("got {}", power));
    }
  }
}

void ScheduleFree::begin_step(double learning_rate) {
  // The weights may have been loaded after the optimizer was made.
  if (step() == 0) base_.copy_from(flat_.values);
  largest_rate_ = std::max(largest_rate_, learning_rate);
  const double weight = std::pow(double(step() + 1), own_.average_power) * std::pow(largest_rate_, own_.rate_power);
  weights_ += weight;
  share_ = weights_ > 0 ? weight / weights_ : 0;
}

void ScheduleFree::propose_range(const Range& r) {
  propose_with(r, {.direction = kernels::Direction::gradient,
                   .rate = r.learning_rate,
                   .beta2 = own_.betas[1],
                   .root = std::sqrt(correction(own_.betas[1])),
                   .epsilon = own_.epsilon});
}

void ScheduleFree::apply_range(const Range& r, double decay) {
  detail::typed("ScheduleFree", flat_.values.dtype(), [&]<class T>(T) {
    kernels::apply_averaged<T>(r.end - r.begin, share_, 1 - own_.betas[0] * (1 - share_), decay,
                               update_.data<T>() + r.begin, flat_.values.data<T>() + r.begin,
                               base_.data<T>() + r.begin);
  });
}

void ScheduleFree::fill_average(Tensor& weights) const {
  // y = b1 x + (1 - b1) z
  detail::typed("ScheduleFree", weights.dtype(), [&]<class T>(T) {
    kernels::move_towards<T>(weights.size(), 1 - 1 / own_.betas[0], base_.data<T>(), weights.data<T>());
  });
}

std::vector<std::pair<std::string, Tensor*>> ScheduleFree::arrays() {
  auto all = Adaptive::arrays();
  all.emplace_back("base", &base_);
  return all;
}

std::vector<std::pair<std::string, double*>> ScheduleFree::numbers() {
  return {{"largest_rate", &largest_rate_}, {"average_weights", &weights_}};
}

// --- Prodigy ---------------------------------------------------------------------------------------------------------

namespace {

void check_one_rate(double factor, std::string_view what) {
  if (factor != 0 && factor != 1) {
    fail("Prodigy", fmt::format("{} of 0 or 1: one distance is estimated for all parameters", what),
         fmt::format("got {}", factor));
  }
}

}  // namespace

Prodigy::Prodigy(std::vector<ParameterGroup> groups, const ProdigyOptions& o)
    : Optimizer(std::move(groups), detail::shared_options(o), {.decoupled_decay = o.decoupled_decay}),
      own_(o),
      first_(make_array()),
      second_(make_array()),
      sum_(make_array()),
      start_(make_array()),
      distance_(o.first_distance),
      largest_(o.first_distance) {
  detail::check_betas(o.betas);
  const auto check = [](double x, std::string_view name) {
    if (!(x > 0)) fail("Prodigy", fmt::format("`{}` above 0", name), fmt::format("got {}", x));
  };
  check(o.epsilon, "epsilon");
  check(o.coefficient, "coefficient");
  if (!(o.first_distance > 0 && std::isfinite(o.first_distance))) check(0, "first_distance");
  if (!(o.growth > 1)) fail("Prodigy", "`growth` above 1", fmt::format("got {}", o.growth));
  for (const ParameterGroup& group : this->groups()) check_one_rate(group.learning_rate_factor, "factors of groups");
}

void Prodigy::set_row_factors(const std::vector<RowFactor>& factors) {
  for (const RowFactor& f : factors) check_one_rate(f.factor, "factors of rows");
  Optimizer::set_row_factors(factors);
}

void Prodigy::begin_step(double learning_rate) {
  if (step() == 0) start_.copy_from(flat_.values);
  const double t = double(step() + 1), beta3 = std::sqrt(own_.betas[1]);
  const double correction =
      own_.bias_correction ? std::sqrt(1 - std::pow(own_.betas[1], t)) / (1 - std::pow(own_.betas[0], t)) : 1;
  rate_share_ = distance_ * correction;
  const double rate = rate_share_ * learning_rate, large = distance_ / own_.first_distance;
  double along = 0, size = 0;
  for (const Range& r : ranges()) {
    if (r.learning_rate == 0) continue;
    detail::typed("Prodigy", flat_.values.dtype(), [&]<class T>(T) {
      const kernels::ProdigySums sums = kernels::prodigy_moments<T>(
          r.end - r.begin,
          {.d = distance_,
           .beta1 = own_.betas[0],
           .beta2 = own_.betas[1],
           .beta3 = beta3,
           .gradient_share = large * (own_.safeguard_warmup ? distance_ : rate),
           .weight_decay = own_.decoupled_decay ? 0 : r.weight_decay,
           .grad_scale = r.grad_scale},
          flat_.values.data<T>() + r.begin, start_.data<T>() + r.begin, flat_.gradients.data<T>() + r.begin,
          first_.data<T>() + r.begin, second_.data<T>() + r.begin, sum_.data<T>() + r.begin);
      along += large * rate * sums.distance;
      size += sums.size;
    });
  }
  if (size == 0) return;  // no gradient has come yet
  numerator_ = beta3 * numerator_ + along;
  const double estimate = own_.coefficient * numerator_ / size;
  if (distance_ == own_.first_distance) distance_ = std::max(distance_, estimate);
  largest_ = std::max(largest_, estimate);
  distance_ = std::min(largest_, distance_ * own_.growth);
}

void Prodigy::propose_range(const Range& r) {
  detail::typed("Prodigy", flat_.values.dtype(), [&]<class T>(T) {
    kernels::propose_ratio<T>(r.end - r.begin, r.learning_rate * rate_share_, distance_ * own_.epsilon,
                              first_.data<T>() + r.begin, second_.data<T>() + r.begin, update_.data<T>() + r.begin);
  });
}

void Prodigy::apply_range(const Range& r, double decay) { Optimizer::apply_range(r, decay * rate_share_); }

std::vector<std::pair<std::string, Tensor*>> Prodigy::arrays() {
  return {{"first_moment", &first_}, {"second_moment", &second_}, {"gradient_sum", &sum_}, {"start", &start_}};
}

std::vector<std::pair<std::string, double*>> Prodigy::numbers() {
  return {{"distance", &distance_}, {"largest_distance", &largest_}, {"numerator", &numerator_}};
}

}  // namespace attune::optim
