// Plateau: the rule, observation by observation, and the schedule that names it.
#include "attune/optim/schedule/plateau.hpp"

#include <fmt/format.h>

#include <array>

#include "attune/base/error.hpp"

namespace attune::optim::schedule {
namespace {

bool is_better(double a, const PlateauState& state, const PlateauOptions& o) {
  if (!std::isfinite(a) || !state.observed) return std::isfinite(a);
  const double best = state.best;
  const bool relative = o.threshold_mode == PlateauThreshold::relative;
  if (o.mode == PlateauMode::min) return a < (relative ? best * (1 - o.threshold) : best - o.threshold);
  return a > (relative ? best * (1 + o.threshold) : best + o.threshold);
}

}  // namespace

Plateau::Plateau(const PlateauOptions& options) : options_(options) {
  const auto expect = [](bool holds, std::string_view expectation, auto finding) {
    if (!holds) fail("Plateau", expectation, fmt::format("got {}", finding));
  };
  expect(options.cut >= 0 && options.cut < 1, "`cut` of 0 or more, below 1", options.cut);
  expect(options.patience >= 0, "`patience` of 0 observations or more", options.patience);
  expect(options.threshold >= 0 && std::isfinite(options.threshold), "`threshold`, a finite number of 0 or more",
         options.threshold);
  expect(options.threshold_mode == PlateauThreshold::absolute || options.threshold < 1,
         "a relative `threshold` below 1", options.threshold);
  expect(options.cooldown >= 0, "`cooldown` of 0 observations or more", options.cooldown);
  expect(options.min_ratio >= 0 && options.min_ratio <= 1, "`min_ratio` between 0 and 1", options.min_ratio);
  expect(options.epsilon >= 0 && options.epsilon < 1, "`epsilon` of 0 or more, below 1", options.epsilon);
}

double Plateau::observe(double metric) {
  if (!std::isfinite(metric) && options_.nan == PlateauNan::error) {
    fail("Plateau::observe", "a finite metric", fmt::format("got {}", metric));
  }
  if (is_better(metric, state_, options_)) {
    state_.best = metric;
    state_.observed = true;
    state_.bad = 0;
  } else {
    ++state_.bad;
  }
  if (state_.cooldown_left > 0) {
    --state_.cooldown_left;
    state_.bad = 0;
  }
  if (state_.bad > options_.patience) {
    const double lower = std::max(state_.factor * options_.cut, options_.min_ratio);
    if (state_.factor - lower > options_.epsilon) state_.factor = lower;
    state_.cooldown_left = options_.cooldown;
    state_.bad = 0;
  }
  return state_.factor;
}

void Plateau::load_state(const PlateauState& state) {
  const bool fits = state.factor >= 0 && state.factor <= 1 && std::isfinite(state.best) && state.bad >= 0 &&
                    state.bad <= options_.patience && state.cooldown_left >= 0 &&
                    state.cooldown_left <= options_.cooldown;
  if (!fits) {
    fail("Plateau::load_state", "a state of a Plateau with these options",
         fmt::format("got factor {}, best {}, {} bad, {} of cooldown", state.factor, state.best, state.bad,
                     state.cooldown_left));
  }
  state_ = state;
}

std::span<const std::string_view> choices_of(PlateauThreshold) {
  static constexpr std::array<std::string_view, 2> kNames{"relative", "absolute"};  // in the order of the enumerators
  return kNames;
}

double ReduceOnPlateau::factor(std::int64_t t) const {
  t = step_within(t, total, past_end, name);
  const std::int64_t W = steps_of(warmup, total);
  return t < W ? warmup_factor(t, W, warmup_start, warmup_from) : 1;
}

void ReduceOnPlateau::check() const {
  check_total(name, total, false);
  check_warmup(*this);
  Plateau{listener()};  // checks its own
}

PlateauOptions ReduceOnPlateau::listener() const {
  return {.cut = cut,
          .patience = patience,
          .threshold = threshold,
          .threshold_mode = threshold_mode,
          .cooldown = cooldown,
          .min_ratio = min_ratio,
          .epsilon = epsilon};
}

}  // namespace attune::optim::schedule
