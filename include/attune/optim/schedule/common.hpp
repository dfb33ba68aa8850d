// What schedules share: how a length is given, how a warm-up starts, and what happens after the end.
//
// A schedule is a pure, closed-form function of the step t, the 0-based index of the update about to be applied; it
// gives the factor of the base learning rate, the rate at the schedule's peak. Nothing is carried from step to step, so
// resuming means restoring t. Where a formula in the literature holds a rate (a smallest one, say), the field here is
// its ratio to the base rate.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <numbers>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attune/optim/schedule/fields.hpp"

namespace attune::optim::schedule {

/// The factor of the updates t = 0 .. W-1 of a warm-up of W updates.
enum class WarmupStart : std::uint8_t {
  nonzero,  // (t + 1) / W: the first update already learns
  zero,     // t / W: as most libraries do; the first update is wasted
  value     // v + (1 - v) t / W with v = warmup_from
};
/// What the steps after the last one (t > total) get. Schedules without an end do not ask.
enum class PastEnd : std::uint8_t {
  hold,       // the value at t = total
  reference,  // whatever the formula says there; a cosine rises again
  error       // Error
};
/// The shape of a rise or a fall; p goes from 0 to 1.
enum class Curve : std::uint8_t {
  linear,          // fall 1 - p                 rise p
  cosine,          // fall (1 + cos(pi p)) / 2   rise (1 - cos(pi p)) / 2
  one_minus_sqrt,  // fall 1 - sqrt(p)           rise 1 - sqrt(1 - p)
  exponential,     // fall 2 * 0.5^p - 1         (no rise)
  square           // fall (1 - p)^2             (no rise)
};

std::span<const std::string_view> choices_of(WarmupStart);
std::span<const std::string_view> choices_of(PastEnd);
std::span<const std::string_view> choices_of(Curve);
std::string_view name_of(WarmupStart);
std::string_view name_of(PastEnd);
std::string_view name_of(Curve);

/// A length as a user gives it: a share of the total below 1, a number of steps from 1 on.
inline std::int64_t steps_of(double length, std::int64_t total) {
  return length < 1 ? std::llround(length * double(total)) : std::int64_t(length);
}

/// The factor at step t < W. W = 0 never comes here: a phase without length is a jump.
inline double warmup_factor(std::int64_t t, std::int64_t W, WarmupStart start, double from) {
  switch (start) {
    case WarmupStart::nonzero:
      return double(t + 1) / double(W);
    case WarmupStart::zero:
      return double(t) / double(W);
    default:
      return from + (1 - from) * double(t) / double(W);
  }
}

/// p of a phase of n steps that began i steps ago; a phase without length is over at once.
inline double progress(double i, double n) { return n > 0 ? i / n : 1; }
/// From 1 at p = 0 to 0 at p = 1.
inline double half_wave(double p) { return 0.5 * (1 + std::cos(std::numbers::pi * p)); }
/// From `from` at p = 0 to `to` at p = 1, on a line or half a wave.
inline double between(double from, double to, double p, Curve curve) {
  return curve == Curve::cosine ? to + (from - to) * half_wave(p) : from + (to - from) * p;
}

/// The step at which the formula is asked, by the policy for steps past the end. total = 0 means that there is none.
std::int64_t step_within(std::int64_t t, std::int64_t total, PastEnd past_end, std::string_view schedule);

/// The checks of parse time. Each throws Error naming the schedule and the field.
void check_length(std::string_view schedule, std::string_view field, double length, std::int64_t total);
void check_total(std::string_view schedule, std::int64_t total, bool needed);
void check_ratio(std::string_view schedule, std::string_view field, double ratio);
void check_positive(std::string_view schedule, std::string_view field, double x, bool or_zero = false);
void check_curve(std::string_view schedule, std::string_view field, Curve curve, std::initializer_list<Curve> allowed);
/// Lengths that do not fall, each within the total.
void check_milestones(std::string_view schedule, const std::vector<double>& milestones, std::int64_t total);

template <class S>
void check_warmup(const S& s) {
  check_length(S::name, "warmup", s.warmup, s.total);
  check_ratio(S::name, "warmup_from", s.warmup_from);
}

}  // namespace attune::optim::schedule
