// From lines of JSON to numbers.
#include "attune/train/run_log_reader.hpp"

#include <algorithm>
#include <cmath>

#include "attune/io/atomic_file.hpp"
#include "train/json_numbers.hpp"

namespace attune::train {
namespace {

using LogJson = nlohmann::ordered_json;

std::string word_of(const LogJson& event, const char* key) {
  const auto found = event.find(key);
  return found != event.end() && found->is_string() ? found->get<std::string>() : "";
}

std::int64_t count_of(const LogJson& event, const char* key, std::int64_t otherwise) {
  const double x = number_of(event, key);
  return std::abs(x) < 9e15 ? std::int64_t(x) : otherwise;  // NaN is not less than anything
}

StepLine step_line(const LogJson& e, std::int64_t step) {
  return {.step = step,
          .loss = number_of(e, "loss"),
          .learning_rate = number_of(e, "learning_rate"),
          .base = number_of(e, "base"),
          .schedule = number_of(e, "schedule"),
          .rollback = number_of(e, "rollback"),
          .gradient_norm = number_of(e, "gradient_norm"),
          .largest_logit = number_of(e, "largest_logit"),
          .entropy = number_of(e, "entropy"),
          .smallest_entropy = number_of(e, "smallest_entropy"),
          .tokens = number_of(e, "tokens"),
          .seconds = number_of(e, "seconds"),
          .plateau = number_of(e, "plateau"),
          .output_lse = number_of(e, "output_lse")};
}

HeadsLine heads_line(const LogJson& e, std::int64_t step) {
  return {.step = step,
          .layer = word_of(e, "layer"),
          .score = numbers_of(e, "score"),
          .logit = numbers_of(e, "logit"),
          .entropy = numbers_of(e, "entropy"),
          .variance = numbers_of(e, "variance"),
          .largest_prob = numbers_of(e, "largest_prob"),
          .sink_mass = numbers_of(e, "sink_mass"),
          .factor = numbers_of(e, "factor")};
}

GuardEvent guard_event(const LogJson& e, std::int64_t step) {
  return {.step = step,
          .layer = word_of(e, "layer"),
          .head = count_of(e, "head", -1),
          .signal = word_of(e, "signal"),
          .value = number_of(e, "value"),
          .threshold = number_of(e, "threshold"),
          .action = word_of(e, "action"),
          .before = number_of(e, "before"),
          .after = number_of(e, "after")};
}

EpsilonLine epsilon_line(const LogJson& e, std::int64_t step) {
  EpsilonLine line{.step = step, .share = {}};
  for (const auto& [key, value] : e.items()) {
    if (value.is_number() && key != "step") line.share[key] = value.get<double>();
  }
  return line;
}

void add_line(std::string_view line, RunHistory& out) {
  const LogJson e = LogJson::parse(line, nullptr, false);
  const std::int64_t step = e.is_object() ? count_of(e, "step", -1) : -1;
  const std::string kind = e.is_object() ? word_of(e, "event") : "";
  if (step < 0) {
    ++out.unreadable;
  } else if (kind == "step") {
    out.steps.push_back(step_line(e, step));
  } else if (kind == "valid") {
    out.valids.push_back({step, number_of(e, "loss")});
  } else if (kind == "heads") {
    out.heads.push_back(heads_line(e, step));
  } else if (kind == "guard") {
    out.guard.push_back(guard_event(e, step));
  } else if (kind == "guard_step") {
    out.guard_steps.push_back({step, number_of(e, "largest_move"), number_of(e, "smallest_factor"),
                               count_of(e, "scaled_heads", 0), count_of(e, "clipped_heads", 0)});
  } else if (kind == "refused") {
    out.refused.push_back({step, number_of(e, "loss"), number_of(e, "gradient_norm")});
  } else if (kind == "epsilon") {
    out.epsilon.push_back(epsilon_line(e, step));
  } else {
    ++out.unreadable;
  }
}

}  // namespace

std::int64_t RunHistory::last_step() const {
  std::int64_t last = 0;
  for (const StepLine& s : steps) last = std::max(last, s.step);
  for (const ValidLine& v : valids) last = std::max(last, v.step);
  for (const RefusedLine& r : refused) last = std::max(last, r.step);
  return last;
}

RunHistory parse_run_log(std::string_view lines) {
  RunHistory out;
  while (!lines.empty()) {
    const std::size_t end = std::min(lines.find('\n'), lines.size());
    if (end > 0) add_line(lines.substr(0, end), out);
    lines.remove_prefix(std::min(end + 1, lines.size()));
  }
  return out;
}

RunHistory read_run_log(const std::filesystem::path& file) { return parse_run_log(io::read_file(file)); }

std::vector<HeadsLine> heads_of(const RunHistory& history, std::string_view layer) {
  std::vector<HeadsLine> lines;
  std::copy_if(history.heads.begin(), history.heads.end(), std::back_inserter(lines),
               [&](const HeadsLine& line) { return line.layer == layer; });
  return standing(lines);
}

std::vector<std::string> layers_of(const RunHistory& history) {
  std::vector<std::string> names;
  for (const HeadsLine& line : history.heads) {
    if (std::find(names.begin(), names.end(), line.layer) == names.end()) names.push_back(line.layer);
  }
  return names;
}

}  // namespace attune::train
