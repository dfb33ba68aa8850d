// What outlives a step: the optimizer's state, and the weights to evaluate with beside those that are trained.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "attune/base/error.hpp"
#include "attune/optim/optimizer.hpp"

namespace attune::optim {

namespace {

// A Plateau's state as numbers of an optimizer's, all of which are finite.
using Numbers = std::map<std::string, double>;

void put(const schedule::PlateauState& from, Numbers& to) {
  to["plateau_factor"] = from.factor;
  to["plateau_observed"] = from.observed;
  to["plateau_best"] = from.best;
  to["plateau_bad"] = double(from.bad);
  to["plateau_cooldown"] = double(from.cooldown_left);
}

schedule::PlateauState plateau_in(const Numbers& from) {
  const auto number = [&](const char* name) {
    const auto found = from.find(name);
    if (found == from.end()) fail("Optimizer::load_state", fmt::format("a number {}", name), "got none");
    return found->second;
  };
  return {.factor = number("plateau_factor"),
          .observed = number("plateau_observed") != 0,
          .best = number("plateau_best"),
          .bad = std::int64_t(number("plateau_bad")),
          .cooldown_left = std::int64_t(number("plateau_cooldown"))};
}

}  // namespace

double average_decay(const AverageOptions& options, std::int64_t t) {
  if (t <= 0) return 0;
  if (options.warmup_power == 0) return options.decay;
  return std::min(options.decay, 1 - std::pow(1 + double(t), -options.warmup_power));
}

void Optimizer::keep_average(const AverageOptions& options) {
  if (averages())
    fail("Optimizer::keep_average", "an optimizer without averages of its own", fmt::format("got {}", kind()));
  if (!(options.decay > 0 && options.decay < 1)) {
    fail("Optimizer::keep_average", "a decay between 0 and 1", fmt::format("got {}", options.decay));
  }
  if (!(options.warmup_power >= 0 && options.warmup_power <= 1)) {
    fail("Optimizer::keep_average", "a warmup_power of 0 to 1", fmt::format("got {}", options.warmup_power));
  }
  if (step_ > 0 || staged_)
    fail("Optimizer::keep_average", "to be asked before the first step", fmt::format("got {}", step_));
  average_options_ = options;
  average_ = make_array();
}

void Optimizer::eval() {
  if (staged_) fail("Optimizer::eval", "a moment between two steps", "an update is staged");
  if (!has_average() || evaluating()) return;
  trained_ = flat_.values.clone();
  if (step_ == 0) return;  // nothing has been averaged
  if (average_) {
    flat_.values.copy_from(average_);
  } else {
    fill_average(flat_.values);
  }
}

void Optimizer::train() {
  if (!evaluating()) return;
  flat_.values.copy_from(trained_);
  trained_ = Tensor();
}

void Optimizer::require_eval(std::string_view function) const {
  if (has_average() && !evaluating()) {
    fail(function, "the weights to evaluate with (Optimizer::eval() before it)",
         fmt::format("got those that {} trains", kind()));
  }
}

std::vector<std::pair<std::string, Tensor*>> Optimizer::all_arrays() {
  auto all = arrays();
  if (options_.clip_zscore > 0) all.emplace_back("zclip", &zclip_.state);
  if (average_) all.emplace_back("average", &average_);
  if (has_average()) all.emplace_back("trained_weights", &(evaluating() ? trained_ : flat_.values));
  return all;
}

std::vector<std::pair<std::string, double*>> Optimizer::all_numbers() {
  auto all = numbers();
  all.emplace_back("rate_multiplier", &rate_multiplier_);
  return all;
}

OptimizerState Optimizer::state() const {
  if (staged_) fail("Optimizer::state", "a moment between two steps", "an update is staged");
  OptimizerState state{std::string(kind()), step_, skipped_, flat_.offsets, {}, {}};
  // The pointers are for load_state(); nothing is written through them here.
  Optimizer& self = const_cast<Optimizer&>(*this);
  for (const auto& [name, array] : self.all_arrays()) state.arrays.emplace_back(name, array->clone());
  for (const auto& [name, number] : self.all_numbers()) state.numbers[name] = *number;
  if (plateau_) put(plateau_->state(), state.numbers);
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
  train();
  const auto own = all_arrays();
  if (own.size() != state.arrays.size()) {
    differ(fmt::format("{} arrays", own.size()), fmt::format("got {}", state.arrays.size()));
  }
  for (std::size_t k = 0; k < own.size(); ++k) {
    const auto& [name, array] = state.arrays[k];
    const bool fits = name == own[k].first && array.defined() && array.shape() == own[k].second->shape() &&
                      array.dtype() == own[k].second->dtype();
    if (!fits) differ(fmt::format("array {} of shape {}", own[k].first, own[k].second->shape().text()), "got " + name);
  }
  const auto own_numbers = all_numbers();
  for (const auto& [name, number] : own_numbers) {
    if (name != "rate_multiplier" && !state.numbers.contains(name))
      differ(fmt::format("a number {}", name), "got none");
  }
  for (const auto& [name, value] : state.numbers) {
    const bool known = std::any_of(own_numbers.begin(), own_numbers.end(),
                                   [&, &name = name](const auto& n) { return n.first == name; }) ||
                       (plateau_ && name.starts_with("plateau_"));
    if (!known) differ("numbers of this optimizer", fmt::format("got {} = {}", name, value));
  }
  if (plateau_) plateau_->load_state(plateau_in(state.numbers));
  for (std::size_t k = 0; k < own.size(); ++k) own[k].second->copy_from(state.arrays[k].second);
  rate_multiplier_ = 1;
  for (const auto& [name, number] : own_numbers) {
    if (const auto found = state.numbers.find(name); found != state.numbers.end()) *number = found->second;
  }
  step_ = state.step;
  skipped_ = state.skipped;
  asked_ = {};
  guarded_.clear();
}

}  // namespace attune::optim
