// The longer formulas; the short ones stand beside their fields, in the headers.
#include <fmt/format.h>

#include "attune/base/error.hpp"
#include "attune/optim/schedule.hpp"

namespace attune::optim::schedule {
namespace {

double rise_of(Curve curve, double p) {
  switch (curve) {
    case Curve::cosine:
      return 0.5 * (1 - std::cos(std::numbers::pi * p));
    case Curve::one_minus_sqrt:
      return 1 - std::sqrt(1 - p);
    default:
      return p;
  }
}

double fall_of(Curve curve, double p) {
  switch (curve) {
    case Curve::cosine:
      return half_wave(p);
    case Curve::one_minus_sqrt:
      return 1 - std::sqrt(p);
    case Curve::exponential:
      return 2 * std::pow(0.5, p) - 1;
    case Curve::square:
      return (1 - p) * (1 - p);
    default:
      return 1 - p;
  }
}

/// Values that are passed one after another, each phase [end of the one before, end) between two of them.
template <std::size_t N>
double along(double t, const std::array<double, N>& ends, const std::array<double, N + 1>& values, Curve curve) {
  double start = 0;
  for (std::size_t i = 0;; ++i) {
    if (t <= ends[i] || i + 1 == N)
      return between(values[i], values[i + 1], progress(t - start, ends[i] - start), curve);
    start = ends[i];
  }
}

}  // namespace

double Wsd::factor(std::int64_t t) const {
  t = step_within(t, total, past_end, name);
  const std::int64_t W = steps_of(warmup, total), D = steps_of(decay, total);
  if (t < W) {
    if (warmup_start == WarmupStart::value) {
      return warmup_from + (1 - warmup_from) * rise_of(warmup_shape, double(t) / double(W));
    }
    return rise_of(warmup_shape, warmup_factor(t, W, warmup_start, 0)) * (1 - min_ratio) + min_ratio;
  }
  if (t < total - D) return 1;
  if (t >= total) return min_ratio;
  return fall_of(decay_shape, double(t - (total - D)) / double(D)) * (1 - min_ratio) + min_ratio;
}

Wsd Wsd::decay_from(std::int64_t t) const {
  const std::int64_t W = steps_of(warmup, total), D = steps_of(decay, total);
  Wsd early = *this;
  early.warmup = double(W);
  early.decay = double(D);
  early.total = std::clamp(t, W, total - D) + D;
  return early;
}

double Polynomial::factor(std::int64_t t) const {
  if (!cycle || past_end == PastEnd::error) t = step_within(t, total, past_end, name);
  const std::int64_t W = steps_of(warmup, total);
  if (t < W) return warmup_factor(t, W, warmup_start, warmup_from);
  double length = double(total - W);
  if (!cycle) {
    if (t >= total) return end_ratio;
  } else {
    length *= std::max(1.0, std::ceil(progress(double(t - W), length)));
  }
  const double p = progress(double(t - W), length);
  return (1 - end_ratio) * std::pow(1 - (k_decay == 1 ? p : std::pow(p, k_decay)), power) + end_ratio;
}

double Exponential::factor(std::int64_t t) const {
  t = step_within(t, total, past_end, name);
  const std::int64_t after = t - steps_of(begin, total);
  const double p = double(after) / double(std::max<std::int64_t>(1, steps_of(interval, total)));
  const double f = after <= 0 ? 1 : std::pow(gamma, staircase ? std::floor(p) : p);
  if (end_ratio == 0) return f;
  return gamma < 1 ? std::max(f, end_ratio) : std::min(f, end_ratio);
}

Exponential WarmupExp::decay() const {
  const std::int64_t W = steps_of(warmup, total);
  return {.gamma = gamma,
          .interval = double(std::max<std::int64_t>(1, steps_of(interval, total))),
          .begin = double(steps_of(begin, total)),
          .staircase = staircase,
          .end_ratio = end_ratio,
          .total = total > 0 ? std::max<std::int64_t>(1, total - W) : 0,
          .past_end = PastEnd::reference};
}

double WarmupExp::factor(std::int64_t t) const {
  t = step_within(t, total, past_end, name);
  const std::int64_t W = steps_of(warmup, total);
  return t < W ? warmup_factor(t, W, warmup_start, warmup_from) : decay().factor(t - W);
}

double Sgdr::factor(std::int64_t t) const {
  t = step_within(t, total, past_end, name);
  const std::int64_t W = steps_of(warmup, total);
  if (t < W) return warmup_factor(t, W, warmup_start, warmup_from);
  double i = 0, since = double(t - W), period = double(std::max<std::int64_t>(1, steps_of(first_period, total)));
  if (period_factor == 1) {
    i = std::floor(since / period);
    since -= i * period;
  } else {
    for (; since >= period; ++i) {
      since -= period;
      period *= period_factor;
    }
  }
  if (cycles > 0 && i >= double(cycles)) return min_ratio;
  const double p = since / period, height = std::pow(gamma, i);
  const double wave = half_wave(k_decay == 1 ? p : std::pow(p, k_decay));
  return min_ratio + (gamma_of == GammaOf::peak ? height - min_ratio : (1 - min_ratio) * height) * wave;
}

namespace {

/// The value of a one-cycle at step t: from `start` to `peak`, then, with three phases, back, and to `end`.
double one_cycle_at(const OneCycle& c, std::int64_t t, double start, double peak, double end) {
  const double T = double(c.total);
  if (c.past_end == PastEnd::hold) {
    t = std::min(t, c.total - 1);
  } else if (t > c.total) {
    fail("schedule onecycle", fmt::format("a step of at most {}", c.total), fmt::format("got {}", t));
  }
  const double first = c.rise * T - 1;
  if (c.three_phase) {
    return along<3>(double(t), {first, 2 * c.rise * T - 2, T - 1}, {start, peak, start, end}, c.shape);
  }
  return along<2>(double(t), {first, T - 1}, {start, peak, end}, c.shape);
}

}  // namespace

double OneCycle::factor(std::int64_t t) const { return one_cycle_at(*this, t, 1 / div, 1, 1 / div / final_div); }

std::optional<double> OneCycle::momentum(std::int64_t t) const {
  if (!cycle_momentum) return std::nullopt;
  return one_cycle_at(*this, t, max_momentum, min_momentum, max_momentum);
}

double OneCycleOptax::factor(std::int64_t t) const {
  t = step_within(t, total, past_end, name);
  const double T = double(total), end = 1 / (div * final_div), top = std::floor(rise * T);
  const double x = std::min(double(t), T);
  // A phase holds up to, and without, its end: at the peak itself the fall has begun.
  if (shape == Curve::cosine) {
    return x < top ? between(1 / div, 1, x / top, shape) : between(1, end, progress(x - top, T - top), shape);
  }
  const double valley = std::floor(back * T);
  if (x < top) return between(1 / div, 1, x / top, shape);
  if (x < valley) return between(1, 1 / div, (x - top) / (valley - top), shape);
  return between(1 / div, end, progress(x - valley, T - valley), shape);
}

double Cyclic::height(std::int64_t t) const {
  t = step_within(t, total, past_end, name);
  const double rising = double(std::max<std::int64_t>(1, steps_of(up, total)));
  const double whole = rising + (down > 0 ? double(std::max<std::int64_t>(1, steps_of(down, total))) : rising);
  const double ratio = rising / whole, cycle = std::floor(1 + double(t) / whole);
  const double x = 1 + double(t) / whole - cycle;
  const double h = x <= ratio ? x / ratio : (x - 1) / (ratio - 1);
  switch (mode) {
    case CycleScale::triangular2:
      return h * std::pow(2.0, 1 - cycle);
    case CycleScale::exp_range:
      return h * std::pow(gamma, double(t));
    default:
      return h;
  }
}

double Cyclic::factor(std::int64_t t) const { return min_ratio + (1 - min_ratio) * height(t); }

std::optional<double> Cyclic::momentum(std::int64_t t) const {
  if (!cycle_momentum) return std::nullopt;
  return max_momentum - (max_momentum - min_momentum) * height(t);
}

double PiecewiseConstant::factor(std::int64_t t) const {
  t = step_within(t, total, past_end, name);
  double f = 1;
  for (std::size_t i = 0; i < milestones.size() && steps_of(milestones[i], total) <= t; ++i) f *= scales[i];
  return f;
}

double Interpolate::factor(std::int64_t t) const {
  t = step_within(t, total, past_end, name);
  double from = 1;
  std::int64_t start = 0;
  for (std::size_t i = 0; i < milestones.size(); ++i) {
    const std::int64_t end = steps_of(milestones[i], total);
    if (t < end) return between(from, from * scales[i], double(t - start) / double(end - start), shape);
    from *= scales[i];
    start = end;
  }
  return from;
}

std::pair<const Schedule*, std::int64_t> Sequential::at(std::int64_t t) const {
  t = step_within(t, total, past_end, name);
  std::size_t i = 0;
  while (i < milestones.size() && steps_of(milestones[i], total) <= t) ++i;
  return {&schedules[i], i > 0 && restart ? t - steps_of(milestones[i - 1], total) : t};
}

double Sequential::factor(std::int64_t t) const {
  const auto [schedule, step] = at(t);
  return schedule->factor(step);
}

std::optional<double> Sequential::momentum(std::int64_t t) const {
  const auto [schedule, step] = at(t);
  return schedule->momentum(step);
}

double Chained::factor(std::int64_t t) const {
  t = step_within(t, total, past_end, name);
  double product = 1;
  for (const Schedule& s : schedules) product *= s.factor(t);
  return product;
}

std::optional<double> Chained::momentum(std::int64_t t) const {
  t = step_within(t, total, past_end, name);
  for (const Schedule& s : schedules) {
    if (const auto m = s.momentum(t)) return m;
  }
  return std::nullopt;
}

const Schedule& PerGroup::of(std::string_view group) const {
  const Schedule* rest = nullptr;
  for (const auto& [name, schedule] : groups) {
    if (name == group) return schedule;
    if (name == kOtherwise) rest = &schedule;
  }
  return *rest;  // check() has seen that there is one
}

double PerGroup::factor(std::int64_t t) const { return of(kOtherwise).factor(t); }

std::optional<double> PerGroup::momentum(std::int64_t t) const { return of(kOtherwise).momentum(t); }

}  // namespace attune::optim::schedule
