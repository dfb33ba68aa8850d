// Runs side by side.
#include "attune/train/compare.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "attune/base/error.hpp"
#include "attune/train/chart.hpp"
#include "attune/train/run_files.hpp"
#include "train/config_table.hpp"

namespace attune::train {
namespace {

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

std::string toml_text(const toml::node& node) {
  if (const auto* text = node.as_string()) return fmt::format("\"{}\"", text->get());
  if (const auto* whole = node.as_integer()) return fmt::format("{}", whole->get());
  if (const auto* number = node.as_floating_point()) return fmt::format("{}", number->get());
  if (const auto* truth = node.as_boolean()) return truth->get() ? "true" : "false";
  std::string list;
  if (const auto* array = node.as_array()) {
    for (const toml::node& item : *array) list += (list.empty() ? "" : ", ") + toml_text(item);
    return "[" + list + "]";
  }
  if (const auto* table = node.as_table()) {
    for (const auto& [key, item] : *table)
      list += fmt::format("{}{} = {}", list.empty() ? "" : ", ", std::string_view(key.str()), toml_text(item));
  }
  return "{" + list + "}";
}

/// Keys with their tables before them, and values as TOML.
void flatten(const toml::table& table, const std::string& prefix, std::map<std::string, std::string>& out) {
  for (const auto& [key, node] : table) {
    const std::string name = prefix + std::string(key.str());
    if (const toml::table* below = node.as_table()) {
      flatten(*below, name + ".", out);
    } else {
      out[name] = toml_text(node);
    }
  }
}

/// The loss of the last line at or before a point; NaN before the first.
template <class Line, class Position>
double loss_at(const std::vector<Line>& lines, double at, Position position) {
  double loss = kMissing;
  for (const Line& line : lines) {
    if (position(line) > at) break;
    loss = line.loss;
  }
  return loss;
}

double seconds_of(const StepLine& line) { return line.seconds; }
double step_of(const StepLine& line) { return double(line.step); }

/// Points spread evenly up to the end of the shortest run.
std::vector<EqualPoint> equal_points(const std::vector<std::vector<StepLine>>& runs, int points,
                                     double (*position)(const StepLine&), bool whole) {
  double end = std::numeric_limits<double>::infinity();
  for (const auto& lines : runs) end = std::min(end, position(lines.back()));
  std::vector<EqualPoint> out;
  for (int i = 1; i <= points && std::isfinite(end); ++i) {
    EqualPoint point{.at = end * i / points, .losses = {}};
    if (whole) point.at = std::round(point.at);
    for (const auto& lines : runs) point.losses.push_back(loss_at(lines, point.at, position));
    out.push_back(std::move(point));
  }
  return out;
}

std::vector<EqualPoint> equal_valids(std::span<const ComparedRun> runs, int points) {
  std::map<std::int64_t, std::vector<double>> at;
  for (const ComparedRun& run : runs) {
    for (const ValidLine& valid : standing(run.history.valids)) at[valid.step].push_back(valid.loss);
  }
  std::erase_if(at, [&](const auto& entry) { return entry.second.size() != runs.size(); });
  std::vector<EqualPoint> all, out;
  for (const auto& [step, losses] : at) all.push_back({double(step), losses});
  const std::size_t wanted = std::min(all.size(), std::size_t(points));
  for (std::size_t i = 1; i <= wanted; ++i) out.push_back(all[i * all.size() / wanted - 1]);  // the last one too
  return out;
}

}  // namespace

ComparedRun read_compared_run(const std::filesystem::path& run) {
  const RunFiles files(run);
  if (!std::filesystem::exists(files.config) || !std::filesystem::exists(files.log))
    fail("read_compared_run", "a folder with a run (config.toml, log.jsonl)",
         fmt::format("none in {}", files.folder.string()));
  // out/a/ and out/a have the same name.
  const std::filesystem::path name =
      files.folder.has_filename() ? files.folder.filename() : files.folder.parent_path().filename();
  return {name.string(), read_run_config(files.config), read_run_log(files.log)};
}

std::vector<ConfigDifference> config_differences(std::span<const RunConfig> configs) {
  std::map<std::string, std::vector<std::string>> keys;
  for (std::size_t i = 0; i < configs.size(); ++i) {
    std::map<std::string, std::string> values;
    flatten(parse_toml("config_differences", config_text(configs[i]), "configuration"), "", values);
    for (auto& [key, value] : values) {
      std::vector<std::string>& all = keys[key];
      all.resize(configs.size(), "-");
      all[i] = value;
    }
  }
  std::vector<ConfigDifference> out;
  for (auto& [key, values] : keys) {
    if (std::adjacent_find(values.begin(), values.end(), std::not_equal_to<>()) != values.end())
      out.push_back({key, std::move(values)});
  }
  return out;
}

RunSummary summarize_run(const ComparedRun& run) {
  const std::vector<StepLine> lines = standing(run.history.steps);
  RunSummary out{.name = run.name, .steps = run.history.last_step()};
  out.loss = out.best_valid = out.last_valid = out.largest_logit = out.entropy = out.smallest_entropy = kMissing;
  out.seconds = out.tokens_per_second = out.milliseconds_a_step = kMissing;
  for (const StepLine& line : run.history.steps) {
    if (!(line.largest_logit <= out.largest_logit)) out.largest_logit = line.largest_logit;
  }
  if (!lines.empty()) {
    const StepLine& last = lines.back();
    out.loss = last.loss, out.entropy = last.entropy, out.smallest_entropy = last.smallest_entropy;
    out.seconds = last.seconds;
    out.tokens_per_second = last.tokens / last.seconds;
    out.milliseconds_a_step = 1000 * last.seconds / double(last.step);
  }
  for (const ValidLine& valid : standing(run.history.valids)) {
    out.last_valid = valid.loss;
    if (!(valid.loss >= out.best_valid)) out.best_valid = valid.loss, out.best_valid_step = valid.step;
  }
  out.refused = std::int64_t(run.history.refused.size());
  out.guard_actions = std::int64_t(run.history.guard.size());
  out.rollbacks = std::count_if(run.history.guard.begin(), run.history.guard.end(),
                                [](const GuardEvent& e) { return e.action == "roll_back"; });
  return out;
}

Comparison compare_runs(std::span<const ComparedRun> runs, int points) {
  if (runs.size() < 2) fail("compare_runs", "two runs or more", fmt::format("got {}", runs.size()));
  Comparison out;
  std::vector<RunConfig> configs;
  std::vector<std::vector<StepLine>> lines;
  for (const ComparedRun& run : runs) {
    lines.push_back(standing(run.history.steps));
    if (lines.back().empty())
      fail("compare_runs", fmt::format("a line of a step in the log of {}", run.name), "there is none");
    configs.push_back(run.config);
    out.runs.push_back(summarize_run(run));
  }
  out.differences = config_differences(configs);
  out.by_step = equal_points(lines, points, step_of, true);
  out.by_seconds = equal_points(lines, points, seconds_of, false);
  out.valid_by_step = equal_valids(runs, points);
  return out;
}

bool has_losses(std::span<const ComparedRun> runs, LossAxis axis) {
  return std::any_of(runs.begin(), runs.end(), [&](const ComparedRun& run) {
    return axis == LossAxis::held_out ? !run.history.valids.empty() : !run.history.steps.empty();
  });
}

std::string loss_chart(std::span<const ComparedRun> runs, LossAxis axis) {
  const bool held_out = axis == LossAxis::held_out, time = axis == LossAxis::seconds;
  ChartOptions options{.title = held_out ? "Held-out loss" : "Loss of training",
                       .x_label = time ? "seconds of training" : "step",
                       .y_label = "loss, nats a target token"};
  std::vector<ChartLine> chart;
  for (const ComparedRun& run : runs) {
    ChartLine line{.name = run.name, .points = {}, .markers = held_out};
    const auto add = [&](double x, double y) {
      line.points.push_back(
          {.x = x, .y = y, .low = y, .high = y, .note = fmt::format("{} at {:.4g}: {:.4f}", run.name, x, y)});
    };
    if (held_out) {
      for (const ValidLine& valid : standing(run.history.valids)) add(double(valid.step), valid.loss);
    } else {
      for (const StepLine& step : standing(run.history.steps)) add(time ? step.seconds : double(step.step), step.loss);
    }
    chart.push_back(std::move(line));
  }
  return chart_svg(options, chart);
}

}  // namespace attune::train
