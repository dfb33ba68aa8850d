// ScheduleSpec: a schedule in words, what JSON and recipes hold, and the lengths in it in units other than steps.
//
//     ScheduleSpec spec{"linear", {{"warmup", "2 epochs"}, {"total", "30 epochs"}}};
//     Schedule s = Schedule::from_spec(in_steps(spec, {.steps_per_epoch = 120}));
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace attune::optim {

struct ScheduleSpec;
struct ScheduleGroup;
using ScheduleGroups = std::vector<ScheduleGroup>;
/// A number, a choice or a length with its unit, a yes or no, a list of numbers or lengths, schedules, or schedules by
/// the names of groups.
using ScheduleValue = std::variant<double, std::string, bool, std::vector<std::variant<double, std::string>>,
                                   std::vector<ScheduleSpec>, ScheduleGroups>;

struct ScheduleSpec {
  std::string kind;  // "linear"
  std::vector<std::pair<std::string, ScheduleValue>> fields;
  friend bool operator==(const ScheduleSpec&, const ScheduleSpec&) = default;
};

/// The schedule of a group of parameters.
struct ScheduleGroup {
  std::string name;
  ScheduleSpec spec;
  friend bool operator==(const ScheduleGroup&, const ScheduleGroup&) = default;
};

/// What a step is, in other units. 0: not known.
struct StepUnits {
  double steps_per_epoch = 0;
  double tokens_per_step = 0;  // of one update, over all its batches
};

/// The spec with every length in steps or as a share: "2 epochs", "5e6 tokens", "300 steps" and "10 %" become numbers,
/// also in the schedules inside. A length above 0 becomes 1 step at least. Throws Error for a unit that is not known.
ScheduleSpec in_steps(ScheduleSpec spec, const StepUnits& units);
/// Whether a length in it is in epochs or tokens, so that the data must be known before it is a schedule.
bool counts_in_data(const ScheduleSpec& spec);
/// Every field that the schedule has, the ones left out with their defaults; lengths keep their units. Throws Error for
/// an unknown kind, field or choice, but does not ask whether the numbers make a schedule: that is from_spec().
ScheduleSpec complete_spec(const ScheduleSpec& spec);

/// The names of all schedules and, for one of them, of its fields.
std::vector<std::string> schedule_kinds();
std::vector<std::string> schedule_fields(std::string_view kind);

/// A length of warm-up for Adam and its relatives, steps: max(2 / (1 - beta2), 1 % of the total), at most 10 % of it.
/// "On the adequacy of untuned warmup for adaptive optimization", arXiv:1910.04209, for the first of the three.
std::int64_t default_warmup(std::int64_t total, double beta2);

}  // namespace attune::optim
