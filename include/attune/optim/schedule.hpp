// Schedule: any schedule as a value, cheap to copy. The schedules themselves are plain structs, one file each, in
// schedule/; a struct with `name`, `factor`, `check` and `fields` of one's own works as well.
//
//     Schedule s = schedule::Cosine{.warmup = 0.05, .total = 2000};     s.factor(0) == 0.01
//     AdamW adamw(parameters, {.learning_rate = 3e-4, .schedule = warmup_linear({.warmup = 100, .total = 2000})});
#pragma once
#include <concepts>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "attune/optim/schedule/all.hpp"
#include "attune/optim/schedule_spec.hpp"

namespace attune::optim {

class Schedule {
 public:
  /// Constantly 1.
  Schedule();
  /// Throws Error, through check(), for lengths and ratios that make no schedule.
  template <class S>
  requires requires(const S& s) {
    { s.factor(std::int64_t(0)) } -> std::convertible_to<double>;
    s.check();
    S::name;
  }
  Schedule(S s) : kind_(S::name) {
    s.check();
    schedule::FieldVisitor visitor;
    s.fields(visitor);
    spec_ = spec_of(kind_, visitor);
    formula_ = std::shared_ptr<const Formula>(static_cast<const Formula*>(new Of<S>(std::move(s))));
  }
  /// From a function of the step. It cannot be written down: spec() and json() throw, has_spec() is false.
  static Schedule from_function(std::function<double(std::int64_t)> factor);

  /// The factor of the base learning rate at step t >= 0.
  double factor(std::int64_t t) const;
  /// The momentum (beta_1 of Adam and its relatives) at step t, of a schedule that has an opinion: onecycle, cyclic.
  std::optional<double> momentum(std::int64_t t) const;
  /// "linear"; "function" if it was made from one.
  const std::string& kind() const { return kind_; }

  /// The groups that a per_group names, without "otherwise"; none of any other schedule.
  std::vector<std::string> groups() const;
  /// What holds for the group: of a per_group that group's schedule or "otherwise", else the schedule itself.
  Schedule for_group(std::string_view group) const;
  /// Throws Error if a per_group names a group that is none of these.
  void check_groups(const std::vector<std::string>& known) const;

  /// What listens to a metric, of a plateau or of a chained with one: its factor multiplies this schedule's.
  std::optional<schedule::PlateauOptions> listener() const;

  /// Whether it can be written down.
  bool has_spec() const { return spec_ != nullptr; }
  /// In words, complete: from_spec(s.spec()) gives equal factors, bit for bit.
  ScheduleSpec spec() const;
  /// Fields left out have their defaults; inside sequential, chained and per_group a schedule without a total gets what
  /// there is of the total above it. Throws Error for an unknown kind (naming the nearest), field or value, and for
  /// lengths in units, which in_steps() converts.
  static Schedule from_spec(const ScheduleSpec&);
  /// {"kind": "linear", "warmup": 100.0, ...}
  std::string json() const;
  static Schedule from_json(std::string_view text);

 private:
  struct Formula {
    virtual ~Formula() = default;
    virtual double factor(std::int64_t t) const = 0;
    virtual std::optional<double> momentum(std::int64_t t) const = 0;
  };
  template <class S>
  struct Of final : Formula {
    explicit Of(S s) : formula(std::move(s)) {}
    double factor(std::int64_t t) const override { return formula.factor(t); }
    std::optional<double> momentum([[maybe_unused]] std::int64_t t) const override {
      if constexpr (requires { formula.momentum(t); }) {
        return formula.momentum(t);
      } else {
        return std::nullopt;
      }
    }
    S formula;
  };
  struct Function;

  static std::shared_ptr<const ScheduleSpec> spec_of(const std::string& kind, const schedule::FieldVisitor& visitor);
  const schedule::PerGroup* per_group() const;

  std::string kind_;
  std::shared_ptr<const ScheduleSpec> spec_;  // none for a function
  std::shared_ptr<const Formula> formula_;
};

/// A spec as JSON and back: {"kind": "linear", "warmup": "2 epochs"}. Throws Error for text that is none.
std::string json_of(const ScheduleSpec& spec);
ScheduleSpec spec_from_json(std::string_view text);

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
