// The schedules' checks and the longer formulas, and Schedule as text: spec and JSON.
#include "attune/optim/schedule.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numbers>
#include <type_traits>

#include "attune/base/error.hpp"
#include "optim/names.hpp"

namespace attune::optim {
namespace schedule {

std::string_view name_of(WarmupStart x) { return detail::name_in(x); }
std::string_view name_of(PastEnd x) { return detail::name_in(x); }
std::string_view name_of(Curve x) { return detail::name_in(x); }

std::int64_t step_within(std::int64_t t, std::int64_t total, PastEnd past_end, std::string_view schedule) {
  if (total == 0 || t <= total || past_end == PastEnd::reference) return t;
  if (past_end == PastEnd::error) {
    fail(fmt::format("schedule {}", schedule), fmt::format("a step of at most {}", total), fmt::format("got {}", t));
  }
  return total;
}

void check_total(std::string_view schedule, std::int64_t total, bool needed) {
  if (total < (needed ? 1 : 0)) {
    fail(fmt::format("schedule {}", schedule), needed ? "`total`, 1 step or more" : "`total` of 0 (no end) or more",
         fmt::format("got {}", total));
  }
}

void check_length(std::string_view schedule, std::string_view field, double length, std::int64_t total) {
  const std::string where = fmt::format("schedule {}", schedule);
  const std::string field_text = fmt::format("`{}`, a share below 1 or a whole number of steps", field);
  if (!(length >= 0) || length > 9e15 || (length >= 1 && length != std::floor(length))) {
    fail(where, field_text, fmt::format("got {}", length));
  }
  if (length > 0 && length < 1 && total == 0) {
    fail(where, field_text, fmt::format("got the share {} of a total that is not given", length));
  }
  if (total > 0 && steps_of(length, total) > total) {
    fail(where, fmt::format("`{}` of at most `total` = {} steps", field, total), fmt::format("got {}", length));
  }
}

void check_ratio(std::string_view schedule, std::string_view field, double ratio) {
  if (!(ratio >= 0 && ratio <= 1)) {
    fail(fmt::format("schedule {}", schedule), fmt::format("`{}` between 0 and 1", field),
         fmt::format("got {}", ratio));
  }
}

namespace {

void check_positive(std::string_view schedule, std::string_view field, double x, bool or_zero = false) {
  if (!(std::isfinite(x) && (x > 0 || (or_zero && x == 0)))) {
    fail(fmt::format("schedule {}", schedule),
         fmt::format("`{}`, a finite number {}", field, or_zero ? "of 0 or more" : "above 0"),
         fmt::format("got {}", x));
  }
}

double rise(Curve curve, double p) {
  switch (curve) {
    case Curve::cosine:
      return 0.5 * (1 - std::cos(std::numbers::pi * p));
    case Curve::one_minus_sqrt:
      return 1 - std::sqrt(1 - p);
    default:
      return p;
  }
}

double fall(Curve curve, double p) {
  switch (curve) {
    case Curve::cosine:
      return 0.5 * (1 + std::cos(std::numbers::pi * p));
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

}  // namespace

void Cosine::check() const {
  check_total(name, total, true);
  check_length(name, "warmup", warmup, total);
  check_ratio(name, "warmup_from", warmup_from);
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
  check_length(name, "warmup", warmup, total);
  check_ratio(name, "warmup_from", warmup_from);
  check_positive(name, "timescale", timescale, true);
}

void Wsd::check() const {
  check_total(name, total, true);
  check_length(name, "warmup", warmup, total);
  check_length(name, "decay", decay, total);
  check_ratio(name, "warmup_from", warmup_from);
  check_ratio(name, "min_ratio", min_ratio);
  const std::int64_t W = steps_of(warmup, total), D = steps_of(decay, total);
  if (W + D > total) {
    fail("schedule wsd", fmt::format("`warmup` and `decay` within `total` = {} steps", total),
         fmt::format("got {} and {} steps", W, D));
  }
  if (warmup_shape == Curve::exponential || warmup_shape == Curve::square) {
    fail("schedule wsd", "`warmup_shape` of linear, cosine or 1-sqrt", fmt::format("got {}", name_of(warmup_shape)));
  }
}

double Wsd::factor(std::int64_t t) const {
  t = step_within(t, total, past_end, name);
  const std::int64_t W = steps_of(warmup, total), D = steps_of(decay, total);
  if (t < W) {
    if (warmup_start == WarmupStart::value) {
      return warmup_from + (1 - warmup_from) * rise(warmup_shape, double(t) / double(W));
    }
    return rise(warmup_shape, warmup_factor(t, W, warmup_start, 0)) * (1 - min_ratio) + min_ratio;
  }
  if (t < total - D) return 1;
  if (t >= total) return min_ratio;
  return fall(decay_shape, double(t - (total - D)) / double(D)) * (1 - min_ratio) + min_ratio;
}

Wsd Wsd::decay_from(std::int64_t t) const {
  const std::int64_t W = steps_of(warmup, total), D = steps_of(decay, total);
  Wsd early = *this;
  early.warmup = double(W);
  early.decay = double(D);
  early.total = std::clamp(t, W, total - D) + D;
  return early;
}

}  // namespace schedule

namespace {

/// Calls f with the default value of the schedule of that kind; throws if there is none.
template <class F>
auto with_kind(std::string_view function, std::string_view kind, F&& f) {
  return detail::with_named<AllSchedules>(function, "a schedule", kind, std::forward<F>(f));
}

[[noreturn]] void bad_field(std::string_view kind, std::string_view field, std::string_view needs,
                            const std::variant<double, std::string>& got) {
  fail(fmt::format("schedule {}", kind), fmt::format("`{}`, {}", field, needs),
       std::holds_alternative<double>(got) ? fmt::format("got {}", std::get<double>(got))
                                           : fmt::format("got \"{}\"", std::get<std::string>(got)));
}

template <class T>
T field_value(std::string_view kind, std::string_view field, const std::variant<double, std::string>& from) {
  if constexpr (std::is_enum_v<T>) {
    if (std::holds_alternative<std::string>(from)) {
      if (const auto found = detail::find_name<T>(std::get<std::string>(from))) return *found;
    }
    bad_field(kind, field, "one of " + detail::names_of<T>(), from);
  } else {
    if (!std::holds_alternative<double>(from)) bad_field(kind, field, "a number", from);
    const double x = std::get<double>(from);
    if constexpr (std::is_integral_v<T>) {
      // Whole numbers up to 2^53 are exact in double, and the only ones that a number of steps could need.
      if (!(std::abs(x) < 9007199254740992.0) || x != std::floor(x)) bad_field(kind, field, "a whole number", from);
    }
    return T(x);
  }
}

}  // namespace

Schedule Schedule::from_function(std::function<double(std::int64_t)> factor) {
  if (!factor) fail("Schedule::from_function", "a function", "got none");
  Schedule s;
  s.kind_ = "function";
  s.spec_ = nullptr;
  s.factor_ = std::make_shared<const std::function<double(std::int64_t)>>(std::move(factor));
  return s;
}

double Schedule::factor(std::int64_t t) const {
  if (t < 0) fail("Schedule::factor", "a step of 0 or more", fmt::format("got {}", t));
  return (*factor_)(t);
}

ScheduleSpec Schedule::spec() const {
  if (!spec_) fail("Schedule::spec", "a schedule that can be written down", "got a function");
  return *spec_;
}

Schedule Schedule::from_spec(const ScheduleSpec& spec) {
  return with_kind("Schedule::from_spec", spec.kind, [&](auto s) -> Schedule {
    using S = decltype(s);
    std::vector<std::string> known;
    S::fields(s, [&](std::string_view field, auto&) { known.emplace_back(field); });
    for (const auto& [field, value] : spec.fields) {
      if (std::find(known.begin(), known.end(), field) == known.end()) {
        fail(fmt::format("schedule {}", spec.kind), fmt::format("a field of {}", fmt::join(known, ", ")),
             fmt::format("got `{}`; the nearest is `{}`", field, nearest(field, known)));
      }
      S::fields(s, [&, &field = field, &value = value](std::string_view name, auto& member) {
        if (name == field) member = field_value<std::remove_reference_t<decltype(member)>>(spec.kind, field, value);
      });
    }
    return s;
  });
}

std::string Schedule::json() const {
  const ScheduleSpec words = spec();
  nlohmann::ordered_json j{{"kind", words.kind}};
  for (const auto& [field, value] : words.fields) {
    std::visit([&, &field = field](const auto& v) { j[field] = v; }, value);
  }
  return j.dump();
}

Schedule Schedule::from_json(std::string_view text) {
  const nlohmann::ordered_json j = nlohmann::ordered_json::parse(text, nullptr, false);
  if (!j.is_object() || !j.contains("kind") || !j["kind"].is_string()) {
    fail("Schedule::from_json", "a JSON object with a \"kind\"", fmt::format("got {}", text));
  }
  ScheduleSpec spec{j["kind"].get<std::string>(), {}};
  for (const auto& [field, value] : j.items()) {
    if (field == "kind") continue;
    if (value.is_number()) {
      spec.fields.emplace_back(field, value.get<double>());
    } else if (value.is_string()) {
      spec.fields.emplace_back(field, value.get<std::string>());
    } else {
      fail("Schedule::from_json", fmt::format("a number or a text for \"{}\"", field),
           fmt::format("got {}", value.dump()));
    }
  }
  return from_spec(spec);
}

std::vector<std::string> schedule_kinds() { return detail::names_in_list<AllSchedules>(); }

std::vector<std::string> schedule_fields(std::string_view kind) {
  return with_kind("schedule_fields", kind, [](auto s) {
    std::vector<std::string> names;
    decltype(s)::fields(s, [&](std::string_view field, auto&) { names.emplace_back(field); });
    return names;
  });
}

}  // namespace attune::optim
