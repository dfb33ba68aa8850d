// Which field of which event has which tag.
#include "train/event_board.hpp"

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "attune/base/error.hpp"

namespace attune::train {
namespace {

struct Tagged {
  std::string_view event, field, tag;
};
constexpr Tagged kTags[] = {
    {"step", "loss", "loss/train"},
    {"valid", "loss", "loss/valid"},
    {"step", "learning_rate", "rate"},
    {"step", "base", "rate_factors/base"},
    {"step", "schedule", "rate_factors/schedule"},
    {"step", "rollback", "rate_factors/rollback"},
    {"step", "plateau", "rate_factors/plateau"},
    {"step", "gradient_norm", "gradient_norm"},
    {"step", "largest_logit", "attention/largest_logit"},
    {"step", "entropy", "attention/entropy"},
    {"step", "smallest_entropy", "attention/smallest_entropy"},
    {"step", "output_lse", "output/lse"},
    {"step", "tokens", "tokens"},
    {"guard_step", "largest_move", "guard/largest_move"},
    {"guard_step", "smallest_factor", "guard/smallest_factor"},
    {"guard_step", "scaled_heads", "guard/scaled_heads"},
    {"guard_step", "clipped_heads", "guard/clipped_heads"},
};

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

EventBoard::EventBoard(const std::filesystem::path& folder, std::int64_t step, bool begins) : folder_(folder) {
  std::error_code error;
  if (begins) std::filesystem::remove_all(folder, error);
  if (error) fail("EventBoard", "a folder for TensorBoard " + folder.string(), error.message());
  open(begins ? 0 : step + 1);
}

void EventBoard::open(std::int64_t first_step) { writer_.emplace(folder_, first_step, seconds_since_1970()); }

void EventBoard::line(std::string_view line) {
  const nlohmann::ordered_json event = nlohmann::ordered_json::parse(line, nullptr, false);
  if (!event.is_object() || !event.contains("event") || !event.contains("step")) return;
  const std::string kind = event["event"];
  const std::int64_t step = event["step"];
  // Steps after the snapshot will come again.
  if (kind == "guard" && event.value("action", "") == "roll_back") open(event["after"].get<std::int64_t>() + 1);
  for (const Tagged& t : kTags) {
    if (t.event != kind) continue;
    const auto value = event.find(t.field);
    if (value == event.end()) continue;
    // "nan", "inf" and "-inf" are texts in the log.
    const double number =
        value->is_string() ? std::strtod(value->get<std::string>().c_str(), nullptr) : value->get<double>();
    writer_->scalar(t.tag, step, number, seconds_since_1970());
  }
}

}  // namespace attune::train
