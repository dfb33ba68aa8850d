// What makes a schedule: the checks of parse time, what happens past the end, and the names of choices.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "attune/base/error.hpp"
#include "attune/optim/schedule.hpp"

namespace attune::optim::schedule {
namespace {

// In the order of the enumerators.
constexpr std::array<std::string_view, 3> kWarmupStarts{"nonzero", "zero", "value"};
constexpr std::array<std::string_view, 3> kPastEnds{"hold", "reference", "error"};
constexpr std::array<std::string_view, 5> kCurves{"linear", "cosine", "1-sqrt", "exponential", "square"};
constexpr std::array<std::string_view, 2> kGammaOf{"peak", "height"};
constexpr std::array<std::string_view, 3> kCycleScales{"triangular", "triangular2", "exp_range"};

std::string where(std::string_view schedule) { return fmt::format("schedule {}", schedule); }

void check_count(std::string_view schedule, std::size_t milestones, std::size_t scales) {
  if (milestones != scales) {
    fail(where(schedule), "as many `scales` as `milestones`", fmt::format("got {} and {}", scales, milestones));
  }
}

void check_momenta(std::string_view schedule, double least, double most) {
  for (const double m : {least, most}) {
    if (!(m >= 0 && m < 1)) {
      fail(where(schedule), "`min_momentum` and `max_momentum` of 0 or more, below 1", fmt::format("got {}", m));
    }
  }
}

/// A length that counts at least one step.
void check_interval(std::string_view schedule, std::string_view field, double length, std::int64_t total) {
  check_length(schedule, field, length, total);
  if (length == 0) fail(where(schedule), fmt::format("`{}` of 1 step or more, or a share", field), "got 0");
}

void check_scales(std::string_view schedule, const std::vector<double>& scales) {
  for (const double x : scales) check_positive(schedule, "scales", x, true);
}

void check_inside(std::string_view schedule, const Schedule& inside) {
  if (inside.kind() == PerGroup::name) {
    fail(where(schedule), "schedules that hold for all groups", "got a per_group inside");
  }
}

/// Where a schedule holds for a part of the steps or of the weights, nothing may listen for all of them.
void check_deaf(std::string_view schedule, const Schedule& inside) {
  check_inside(schedule, inside);
  if (inside.listener()) fail(where(schedule), "schedules of the step alone", "got a plateau inside");
}

}  // namespace

std::span<const std::string_view> choices_of(WarmupStart) { return kWarmupStarts; }
std::span<const std::string_view> choices_of(PastEnd) { return kPastEnds; }
std::span<const std::string_view> choices_of(Curve) { return kCurves; }
std::span<const std::string_view> choices_of(GammaOf) { return kGammaOf; }
std::span<const std::string_view> choices_of(CycleScale) { return kCycleScales; }
std::string_view name_of(WarmupStart x) { return kWarmupStarts.at(std::size_t(x)); }
std::string_view name_of(PastEnd x) { return kPastEnds.at(std::size_t(x)); }
std::string_view name_of(Curve x) { return kCurves.at(std::size_t(x)); }

std::int64_t step_within(std::int64_t t, std::int64_t total, PastEnd past_end, std::string_view schedule) {
  if (total == 0 || t <= total || past_end == PastEnd::reference) return t;
  if (past_end == PastEnd::error) {
    fail(where(schedule), fmt::format("a step of at most {}", total), fmt::format("got {}", t));
  }
  return total;
}

void check_total(std::string_view schedule, std::int64_t total, bool needed) {
  if (total < (needed ? 1 : 0)) {
    fail(where(schedule), needed ? "`total`, 1 step or more" : "`total` of 0 (no end) or more",
         fmt::format("got {}", total));
  }
}

void check_length(std::string_view schedule, std::string_view field, double length, std::int64_t total) {
  const std::string field_text = fmt::format("`{}`, a share below 1 or a whole number of steps", field);
  if (!(length >= 0) || length > 9e15 || (length >= 1 && length != std::floor(length))) {
    fail(where(schedule), field_text, fmt::format("got {}", length));
  }
  if (length > 0 && length < 1 && total == 0) {
    fail(where(schedule), field_text, fmt::format("got the share {} of a total that is not given", length));
  }
  if (total > 0 && steps_of(length, total) > total) {
    fail(where(schedule), fmt::format("`{}` of at most `total` = {} steps", field, total),
         fmt::format("got {}", length));
  }
}

void check_ratio(std::string_view schedule, std::string_view field, double ratio) {
  if (!(ratio >= 0 && ratio <= 1)) {
    fail(where(schedule), fmt::format("`{}` between 0 and 1", field), fmt::format("got {}", ratio));
  }
}

void check_positive(std::string_view schedule, std::string_view field, double x, bool or_zero) {
  if (!(std::isfinite(x) && (x > 0 || (or_zero && x == 0)))) {
    fail(where(schedule), fmt::format("`{}`, a finite number {}", field, or_zero ? "of 0 or more" : "above 0"),
         fmt::format("got {}", x));
  }
}

void check_curve(std::string_view schedule, std::string_view field, Curve curve, std::initializer_list<Curve> allowed) {
  if (std::find(allowed.begin(), allowed.end(), curve) != allowed.end()) return;
  std::vector<std::string_view> names;
  for (const Curve c : allowed) names.push_back(name_of(c));
  fail(where(schedule), fmt::format("`{}`, one of {}", field, fmt::join(names, ", ")),
       fmt::format("got {}", name_of(curve)));
}

void check_milestones(std::string_view schedule, const std::vector<double>& milestones, std::int64_t total) {
  std::int64_t before = 0;
  for (const double m : milestones) {
    // A milestone at or behind the end is never reached, which is no mistake.
    check_length(schedule, "milestones", m, m < 1 ? total : 0);
    const std::int64_t at = steps_of(m, total);
    if (at < before) {
      fail(where(schedule), "`milestones` that do not fall", fmt::format("got {} after {}", at, before));
    }
    before = at;
  }
}

void Cosine::check() const {
  check_total(name, total, true);
  check_warmup(*this);
  check_ratio(name, "min_ratio", min_ratio);
  check_positive(name, "cycles", cycles);
}

void Noam::check() const {
  check_total(name, total, false);
  check_length(name, "warmup", warmup, total);
  check_positive(name, "model_dim", model_dim);
  check_positive(name, "scale", scale);
}

void InverseSqrt::check() const {
  check_total(name, total, false);
  check_warmup(*this);
  check_positive(name, "timescale", timescale, true);
  check_ratio(name, "min_ratio", min_ratio);
}

void Wsd::check() const {
  check_total(name, total, true);
  check_warmup(*this);
  check_length(name, "decay", decay, total);
  check_ratio(name, "min_ratio", min_ratio);
  const std::int64_t W = steps_of(warmup, total), D = steps_of(decay, total);
  if (W + D > total) {
    fail("schedule wsd", fmt::format("`warmup` and `decay` within `total` = {} steps", total),
         fmt::format("got {} and {} steps", W, D));
  }
  check_curve(name, "warmup_shape", warmup_shape, {Curve::linear, Curve::cosine, Curve::one_minus_sqrt});
}

void CosineRestarts::check() const {
  check_total(name, total, true);
  check_warmup(*this);
  check_ratio(name, "min_ratio", min_ratio);
  if (cycles < 1) fail("schedule cosine_restarts", "`cycles` of 1 or more", fmt::format("got {}", cycles));
}

void Polynomial::check() const {
  check_total(name, total, true);
  check_warmup(*this);
  check_ratio(name, "end_ratio", end_ratio);
  if (end_ratio == 1) fail("schedule polynomial", "`end_ratio` below 1", "got 1");
  check_positive(name, "power", power);
  check_positive(name, "k_decay", k_decay);
}

void Step::check() const {
  check_total(name, total, false);
  check_interval(name, "interval", interval, total);
  check_positive(name, "gamma", gamma, true);
}

void MultiStep::check() const {
  check_total(name, total, false);
  for (const double m : milestones) check_length(name, "milestones", m, m < 1 ? total : 0);
  check_positive(name, "gamma", gamma, true);
}

void Exponential::check() const {
  check_total(name, total, false);
  check_interval(name, "interval", interval, interval < 1 ? total : 0);
  check_length(name, "begin", begin, begin < 1 ? total : 0);
  check_positive(name, "gamma", gamma);
  check_positive(name, "end_ratio", end_ratio, true);
}

void InverseTime::check() const {
  check_total(name, total, false);
  check_interval(name, "interval", interval, interval < 1 ? total : 0);
  check_positive(name, "rate", rate, true);
}

void LinearLr::check() const {
  check_total(name, total, false);
  check_length(name, "steps", steps, steps < 1 ? total : 0);
  check_ratio(name, "start_ratio", start_ratio);
  check_ratio(name, "end_ratio", end_ratio);
}

void ConstantLr::check() const {
  check_total(name, total, false);
  check_length(name, "steps", steps, steps < 1 ? total : 0);
  check_ratio(name, "ratio", ratio);
}

void CosineAnnealing::check() const {
  check_total(name, total, period == 0);
  check_length(name, "period", period, period < 1 ? total : 0);
  check_ratio(name, "min_ratio", min_ratio);
}

void Sgdr::check() const {
  check_total(name, total, false);
  check_warmup(*this);
  check_interval(name, "first_period", first_period, first_period < 1 ? total : 0);
  if (!(std::isfinite(period_factor) && period_factor >= 1)) {
    fail("schedule sgdr", "`period_factor`, a finite number of 1 or more", fmt::format("got {}", period_factor));
  }
  check_ratio(name, "min_ratio", min_ratio);
  check_ratio(name, "gamma", gamma);
  check_positive(name, "k_decay", k_decay);
  if (cycles < 0) fail("schedule sgdr", "`cycles` of 0 (no limit) or more", fmt::format("got {}", cycles));
}

void OneCycle::check() const {
  check_total(name, total, true);
  check_ratio(name, "rise", rise);
  if (three_phase && rise > 0.5) {
    fail("schedule onecycle", "`rise` of at most 0.5 with `three_phase`", fmt::format("got {}", rise));
  }
  check_positive(name, "div", div);
  check_positive(name, "final_div", final_div);
  check_curve(name, "shape", shape, {Curve::linear, Curve::cosine});
  check_momenta(name, min_momentum, max_momentum);
}

void OneCycleOptax::check() const {
  check_total(name, total, true);
  check_ratio(name, "rise", rise);
  check_ratio(name, "back", back);
  if (shape == Curve::linear && back < rise) {
    fail("schedule onecycle_optax", "`back` of at least `rise`", fmt::format("got {} and {}", back, rise));
  }
  check_positive(name, "div", div);
  check_positive(name, "final_div", final_div);
  check_curve(name, "shape", shape, {Curve::linear, Curve::cosine});
}

void Cyclic::check() const {
  check_total(name, total, false);
  check_ratio(name, "min_ratio", min_ratio);
  check_interval(name, "up", up, up < 1 ? total : 0);
  check_length(name, "down", down, down < 1 ? total : 0);
  check_positive(name, "gamma", gamma);
  check_momenta(name, min_momentum, max_momentum);
}

void PiecewiseConstant::check() const {
  check_total(name, total, false);
  check_count(name, milestones.size(), scales.size());
  check_milestones(name, milestones, total);
  check_scales(name, scales);
}

void Interpolate::check() const {
  check_total(name, total, false);
  check_count(name, milestones.size(), scales.size());
  check_milestones(name, milestones, total);
  check_scales(name, scales);
  check_curve(name, "shape", shape, {Curve::linear, Curve::cosine});
}

void Tanh::check() const {
  check_total(name, total, true);
  check_warmup(*this);
  check_ratio(name, "min_ratio", min_ratio);
  if (!(std::isfinite(lower) && std::isfinite(upper) && lower < upper)) {
    fail("schedule tanh", "`lower` below `upper`, both finite", fmt::format("got {} and {}", lower, upper));
  }
}

void WarmupCosine::check() const {
  check_total(name, total, true);
  check_warmup(*this);
  check_ratio(name, "min_ratio", min_ratio);
  check_positive(name, "exponent", exponent);
  if (steps_of(warmup, total) >= total) {
    fail("schedule warmup_cosine", fmt::format("`warmup` below `total` = {} steps", total),
         fmt::format("got {}", warmup));
  }
}

void WarmupExp::check() const {
  check_total(name, total, false);
  check_warmup(*this);
  check_interval(name, "interval", interval, interval < 1 ? total : 0);
  check_length(name, "begin", begin, begin < 1 ? total : 0);
  check_positive(name, "gamma", gamma);
  check_positive(name, "end_ratio", end_ratio, true);
}

void LrRange::check() const {
  check_total(name, total, true);
  check_ratio(name, "start_ratio", start_ratio);
  if (start_ratio == 0) fail("schedule lr_range", "`start_ratio` above 0", "got 0");
  check_curve(name, "shape", shape, {Curve::exponential, Curve::linear});
}

void Sequential::check() const {
  check_total(name, total, false);
  if (schedules.empty() || milestones.size() + 1 != schedules.size()) {
    fail("schedule sequential", "one of `schedules` more than `milestones`",
         fmt::format("got {} and {}", schedules.size(), milestones.size()));
  }
  check_milestones(name, milestones, total);
  for (const Schedule& s : schedules) check_deaf(name, s);
}

void Chained::check() const {
  check_total(name, total, false);
  if (schedules.empty()) fail("schedule chained", "one of `schedules` or more", "got none");
  int listening = 0;
  for (const Schedule& s : schedules) {
    check_inside(name, s);
    if (s.listener() && ++listening > 1) fail("schedule chained", "one plateau at most", "got two");
  }
}

void PerGroup::check() const {
  check_total(name, total, false);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    check_deaf(name, groups[i].second);
    for (std::size_t j = 0; j < i; ++j) {
      if (groups[i].first == groups[j].first) {
        fail("schedule per_group", "a schedule for each group", fmt::format("got two for `{}`", groups[i].first));
      }
    }
  }
  const auto is_rest = [](const auto& group) { return group.first == kOtherwise; };
  if (std::none_of(groups.begin(), groups.end(), is_rest)) {
    fail("schedule per_group", "a group `otherwise`, for all that are not named", "got none");
  }
}

}  // namespace attune::optim::schedule
