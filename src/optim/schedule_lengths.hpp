// Lengths with a unit: "2 epochs", "5e6 tokens", "300 steps", "10 %".
#pragma once
#include <string_view>

#include "attune/optim/schedule/fields.hpp"
#include "attune/optim/schedule_spec.hpp"

namespace attune::optim::detail {

/// Whether the field holds a number, or numbers, of steps.
bool is_length(const schedule::Field& field);
/// Whether the value is a text, or a list with one.
bool has_unit(const ScheduleValue& value);
/// Whether one of its units is epochs or tokens. Throws Error for a text that is no length.
bool depends_on_data(std::string_view kind, std::string_view field, const ScheduleValue& value);
/// Replaces every text in it by a number of steps or a share.
void convert_units(std::string_view kind, std::string_view field, ScheduleValue& value, const StepUnits& units);

}  // namespace attune::optim::detail
