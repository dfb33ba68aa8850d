// Schedule: any schedule as a value, cheap to copy. The schedules themselves are plain structs, one file each, in
// schedule/; a struct with `name`, `factor`, `check` and `fields` of one's own works as well.
//
//     Schedule s = schedule::Cosine{.warmup = 0.05, .total = 2000};     s.factor(0) == 0.01
//     AdamW adamw(parameters, {.learning_rate = 3e-4, .schedule = warmup_linear({.warmup = 100, .total = 2000})});
#pragma once
#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "attune/optim/schedule/all.hpp"

namespace attune::optim {

/// A schedule in words: what JSON and recipes hold. Numbers are double, choices are text.
struct ScheduleSpec {
  std::string kind;  // "linear"
  std::vector<std::pair<std::string, std::variant<double, std::string>>> fields;
  friend bool operator==(const ScheduleSpec&, const ScheduleSpec&) = default;
};

class Schedule {
 public:
  /// Constantly 1.
  Schedule() : Schedule(schedule::Constant{}) {}
  /// Throws Error, through check(), for lengths and ratios that make no schedule.
  template <class S>
  requires requires(const S& s) {
    { s.factor(std::int64_t(0)) } -> std::convertible_to<double>;
    s.check();
    S::name;
  }
  Schedule(S s) : kind_(S::name) {
    s.check();
    spec_ = std::make_shared<ScheduleSpec>(spec_of(s));
    factor_ = std::make_shared<const std::function<double(std::int64_t)>>(
        [s = std::move(s)](std::int64_t t) { return s.factor(t); });
  }
  /// From a function of the step. It cannot be written down: spec() and json() throw.
  static Schedule from_function(std::function<double(std::int64_t)> factor);

  /// The factor of the base learning rate at step t >= 0.
  double factor(std::int64_t t) const;
  /// "linear"; "function" if it was made from one.
  const std::string& kind() const { return kind_; }

  /// In words, complete: from_spec(s.spec()) gives equal factors, bit for bit.
  ScheduleSpec spec() const;
  /// Fields left out have their defaults. Throws Error for an unknown kind (naming the nearest), field or value.
  static Schedule from_spec(const ScheduleSpec&);
  /// {"kind": "linear", "warmup": 100.0, ...}
  std::string json() const;
  static Schedule from_json(std::string_view text);

 private:
  template <class S>
  static ScheduleSpec spec_of(const S& s) {
    ScheduleSpec spec{std::string(S::name), {}};
    S::fields(s, [&](std::string_view field, const auto& value) {
      if constexpr (std::is_arithmetic_v<std::remove_cvref_t<decltype(value)>>) {
        spec.fields.emplace_back(std::string(field), double(value));
      } else {
        spec.fields.emplace_back(std::string(field), std::string(name_of(value)));
      }
    });
    return spec;
  }

  std::string kind_;
  std::shared_ptr<const ScheduleSpec> spec_;  // none for a function
  std::shared_ptr<const std::function<double(std::int64_t)>> factor_;
};

/// The names of all schedules and, for one of them, of its fields.
std::vector<std::string> schedule_kinds();
std::vector<std::string> schedule_fields(std::string_view kind);

/// The usual three, in a word.
inline Schedule warmup_linear(const schedule::Linear& options) { return options; }
inline Schedule warmup_cosine(const schedule::Cosine& options) { return options; }
inline Schedule warmup_stable_decay(const schedule::Wsd& options) { return options; }

}  // namespace attune::optim

namespace attune {
using optim::warmup_cosine;
using optim::warmup_linear;
using optim::warmup_stable_decay;
}  // namespace attune
