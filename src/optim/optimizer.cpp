// What all optimizers share: the flat buffers, the two halves of a step, slices of an update, and the state.
#include "attune/optim/optimizer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "attune/base/error.hpp"
#include "attune/optim/clip.hpp"
#include "kernels/update.hpp"
#include "optim/typed.hpp"

namespace attune::optim {

std::vector<ParameterGroup> decay_matrices_only(const std::vector<Tensor>& parameters) {
  std::vector<ParameterGroup> groups(2);
  groups[1].weight_decay = false;
  for (const Tensor& p : parameters) groups[p.rank() >= 2 ? 0 : 1].parameters.push_back(p);
  std::erase_if(groups, [](const ParameterGroup& g) { return g.parameters.empty(); });
  return groups;
}

Optimizer::Optimizer(std::vector<ParameterGroup> groups, OptimizerOptions options, bool decoupled_decay)
    : options_(std::move(options)), decoupled_decay_(decoupled_decay) {
  const auto check = [](double x, std::string_view name) {
    if (!(std::isfinite(x) && x >= 0)) {
      fail("Optimizer", fmt::format("`{}`, a finite number of 0 or more", name), fmt::format("got {}", x));
    }
  };
  check(options_.learning_rate, "learning_rate");
  check(options_.weight_decay, "weight_decay");
  check(options_.clip_norm, "clip_norm");
  check(options_.clip_value, "clip_value");
  for (const ParameterGroup& group : groups) {
    check(group.learning_rate_factor, "learning_rate_factor");
    parameters_.insert(parameters_.end(), group.parameters.begin(), group.parameters.end());
  }
  flat_ = flatten(parameters_);
  update_ = make_array();
  std::size_t first = 0;
  for (const ParameterGroup& group : groups) {
    if (group.parameters.empty()) continue;
    const std::size_t end = first + group.parameters.size();
    ranges_.push_back({flat_.offsets[first], end < flat_.offsets.size() ? flat_.offsets[end] : flat_.values.size(), 0,
                       group.weight_decay ? options_.weight_decay : 0});
    rate_factors_.push_back(group.learning_rate_factor);
    first = end;
  }
}

Tensor Optimizer::make_array() const { return Tensor::zeros(flat_.values.shape(), flat_.values.dtype()); }

bool Optimizer::propose(double learning_rate) {
  if (staged_) fail("Optimizer::propose", "apply() between two proposals", "an update is staged already");
  if (!std::isfinite(learning_rate)) {
    fail("Optimizer::propose", "a finite learning rate", fmt::format("got {} at step {}", learning_rate, step_));
  }
  if (options_.clip_value > 0) {
    // Clamping would turn an infinite gradient into a finite one: look first.
    gradient_norm_ = norm_of(flat_.gradients);
    if (std::isfinite(gradient_norm_)) clip_by_value(flat_.gradients, options_.clip_value);
  }
  const double norm = norm_of(flat_.gradients);
  if (options_.clip_value == 0) gradient_norm_ = norm;
  if (!std::isfinite(norm)) {
    ++skipped_;
    return false;
  }
  for (std::size_t g = 0; g < ranges_.size(); ++g) {
    ranges_[g].learning_rate = learning_rate * rate_factors_[g];
    ranges_[g].grad_scale = options_.clip_norm > 0 ? detail::clip_factor(norm, options_.clip_norm) : 1;
    propose_range(ranges_[g]);
  }
  staged_ = true;
  return true;
}

void Optimizer::apply() {
  if (!staged_) fail("Optimizer::apply", "propose() before it", "no update is staged");
  detail::typed("Optimizer::apply", flat_.values.dtype(), [&]<class T>(T) {
    for (const Range& r : ranges_) {
      const double decay = decoupled_decay_ ? r.learning_rate * r.weight_decay : 0;
      kernels::apply_update<T>(r.end - r.begin, decay, update_.data<T>() + r.begin, flat_.values.data<T>() + r.begin);
    }
  });
  staged_ = false;
  ++step_;
}

bool Optimizer::advance() {
  const bool finite = propose();
  if (finite) apply();
  return finite;
}

void Optimizer::zero_grad() { flat_.gradients.fill(0); }

std::size_t Optimizer::index_of(const Tensor& parameter) const {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (parameters_[i].is(parameter)) return i;
  }
  fail("Optimizer::index_of", "one of the parameters", "got another tensor");
}

Optimizer::Slice Optimizer::rows(std::size_t i, std::int64_t first, std::int64_t end) const {
  if (i >= parameters_.size()) {
    fail("Optimizer", fmt::format("a parameter below {}", parameters_.size()), fmt::format("got {}", i));
  }
  const attune::Shape& shape = parameters_[i].shape();
  const std::int64_t count = shape.rank() > 0 ? shape[0] : 1;
  if (first < 0 || end < first || end > count) {
    fail("Optimizer", fmt::format("rows within 0 .. {} of parameter {} {}", count, i, shape.text()),
         fmt::format("got {} .. {}", first, end));
  }
  const std::int64_t width = count > 0 ? shape.size() / count : 0;
  return {flat_.offsets[i] + first * width, (end - first) * width};
}

View Optimizer::update(std::size_t i) {
  const Slice slice = rows(i, 0, 0);
  return detail::typed("Optimizer::update", update_.dtype(),
                       [&]<class T>(T) { return View(update_.data<T>() + slice.begin, parameters_[i].shape()); });
}

void Optimizer::scale_update(std::size_t i, std::int64_t first, std::int64_t end, double factor) {
  if (!staged_) fail("Optimizer::scale_update", "propose() before it", "no update is staged");
  if (!std::isfinite(factor)) fail("Optimizer::scale_update", "a finite factor", fmt::format("got {}", factor));
  const Slice slice = rows(i, first, end);
  detail::typed("Optimizer::scale_update", update_.dtype(), [&]<class T>(T) {
    T* u = update_.data<T>() + slice.begin;
    for (std::int64_t k = 0; k < slice.count; ++k) u[k] *= T(factor);
  });
}

namespace {

double norm_at(const Tensor& flat, std::int64_t begin, std::int64_t count) {
  return detail::typed("Optimizer", flat.dtype(), [&]<class T>(T) {
    return std::sqrt(kernels::sum_of_squares<T>(count, flat.data<T>() + begin));
  });
}

}  // namespace

double Optimizer::update_norm(std::size_t i, std::int64_t first, std::int64_t end) const {
  const Slice slice = rows(i, first, end);
  return norm_at(update_, slice.begin, slice.count);
}

double Optimizer::weight_norm(std::size_t i, std::int64_t first, std::int64_t end) const {
  const Slice slice = rows(i, first, end);
  return norm_at(flat_.values, slice.begin, slice.count);
}

OptimizerState Optimizer::state() const {
  if (staged_) fail("Optimizer::state", "a moment between two steps", "an update is staged");
  OptimizerState state{std::string(kind()), step_, skipped_, flat_.offsets, {}};
  // arrays() hands out pointers for load_state(); nothing is written through them here.
  for (const auto& [name, array] : const_cast<Optimizer*>(this)->arrays()) {
    state.arrays.emplace_back(name, array->clone());
  }
  return state;
}

void Optimizer::load_state(const OptimizerState& state) {
  const auto differ = [](const std::string& expectation, const std::string& finding) {
    fail("Optimizer::load_state", expectation, finding);
  };
  if (staged_) differ("a moment between two steps", "an update is staged");
  if (state.kind != kind()) differ(fmt::format("the state of {}", kind()), "got that of " + state.kind);
  if (state.step < 0 || state.skipped < 0) differ("counts of 0 or more", fmt::format("got step {}", state.step));
  if (state.offsets != flat_.offsets) {
    differ(fmt::format("the state of {} parameters of these sizes", parameters_.size()),
           fmt::format("got that of {} parameters of others", state.offsets.size()));
  }
  const auto own = arrays();
  if (own.size() != state.arrays.size()) {
    differ(fmt::format("{} arrays", own.size()), fmt::format("got {}", state.arrays.size()));
  }
  for (std::size_t k = 0; k < own.size(); ++k) {
    const auto& [name, array] = state.arrays[k];
    const bool fits = name == own[k].first && array.defined() && array.shape() == own[k].second->shape() &&
                      array.dtype() == own[k].second->dtype();
    if (!fits) differ(fmt::format("array {} of shape {}", own[k].first, own[k].second->shape().text()), "got " + name);
  }
  for (std::size_t k = 0; k < own.size(); ++k) own[k].second->copy_from(state.arrays[k].second);
  step_ = state.step;
  skipped_ = state.skipped;
}

}  // namespace attune::optim
