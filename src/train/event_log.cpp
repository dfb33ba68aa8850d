// Events as JSON lines; resuming drops what the run will write again.
#include "attune/train/event_log.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "train/json_numbers.hpp"

namespace attune::train {
namespace {

std::string json_text(std::string_view text) {
  return nlohmann::ordered_json(text).dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

/// Whether a resumed run at `step` keeps this line.
bool stays(std::string_view line, std::int64_t step) {
  const nlohmann::ordered_json event = nlohmann::ordered_json::parse(line, nullptr, false);
  if (!event.is_object()) return false;
  const auto at = event.find("step");
  return at == event.end() || !at->is_number() || at->get<double>() <= double(step);
}

}  // namespace

std::string EventValue::json() const {
  if (const auto* text = std::get_if<std::string>(&value_)) return json_text(*text);
  if (const auto* truth = std::get_if<bool>(&value_)) return *truth ? "true" : "false";
  if (const auto* number = std::get_if<double>(&value_)) {
    return number_or_text(*number).dump();
  }
  if (const auto* list = std::get_if<std::vector<double>>(&value_)) {
    std::string text = "[";
    for (const double x : *list) {
      if (text.size() > 1) text += ',';
      const auto single = float(x);
      text += std::isfinite(single) ? fmt::format("{}", single) : number_or_text(single).dump();
    }
    return text + "]";
  }
  return std::to_string(std::get<std::int64_t>(value_));
}

EventLog::EventLog(std::filesystem::path file) : file_(std::move(file)), out_(file_, std::ios::binary | std::ios::app) {
  if (!out_) fail("EventLog", fmt::format("a place to write {}", file_.string()), "cannot open it");
  size_ = std::int64_t(std::filesystem::file_size(file_));
}

EventLog EventLog::create(const std::filesystem::path& file) {
  io::write_file(file, "");
  return EventLog(file);
}

EventLog EventLog::resume(const std::filesystem::path& file, std::int64_t step) {
  if (!std::filesystem::exists(file)) return create(file);
  const std::string content = io::read_file(file);
  std::string kept;
  for (std::size_t at = 0; at < content.size();) {
    const std::size_t end = content.find('\n', at);
    if (end == std::string::npos) break;  // cut off
    const std::string_view line(content.data() + at, end - at);
    if (stays(line, step)) kept.append(line).append("\n");
    at = end + 1;
  }
  if (kept != content) io::write_file(file, kept);
  return EventLog(file);
}

EventLog EventLog::resume_at(const std::filesystem::path& file, std::int64_t bytes) {
  if (!std::filesystem::exists(file)) return create(file);
  const std::string content = io::read_file(file);
  std::size_t end = std::min(content.size(), std::size_t(std::max<std::int64_t>(0, bytes)));
  while (end > 0 && content[end - 1] != '\n') --end;
  if (end != content.size()) io::write_file(file, content.substr(0, end));
  return EventLog(file);
}

void EventLog::write(const std::vector<std::pair<std::string_view, EventValue>>& event) {
  std::string line = "{";
  for (const auto& [key, value] : event) {
    if (line.size() > 1) line += ',';
    line += json_text(key) + ':' + value.json();
  }
  line += "}\n";
  out_ << line << std::flush;
  if (!out_) fail("EventLog::write", fmt::format("room to write {}", file_.string()), "cannot write to it");
  size_ += std::int64_t(line.size());
  if (listener_) listener_(std::string_view(line).substr(0, line.size() - 1));
}

}  // namespace attune::train
