// Rows of a sweep as JSON, a line each. Private.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "attune/train/sweep.hpp"
#include "train/json_numbers.hpp"

namespace attune::train {

nlohmann::ordered_json row_as_json(const SweepRow& row);
/// "score_name", "score", "more_is_better": as `attune eval --json` has them too.
nlohmann::ordered_json score_as_json(const SweepScore& score);
/// None if the object has no such keys.
std::optional<SweepScore> score_from_json(const nlohmann::ordered_json& json);
std::string row_json(const SweepRow& row);
/// None for a line that is no complete row (cut off by a kill).
std::optional<SweepRow> row_from_json(std::string_view line);

}  // namespace attune::train
