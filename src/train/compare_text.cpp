// A comparison as tables for people.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "attune/train/compare.hpp"

namespace attune::train {
namespace {

/// Rows of cells; the first row is the head.
class TextTable {
 public:
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string text() const {
    std::vector<std::size_t> widths;
    for (const auto& cells : rows_) {
      widths.resize(std::max(widths.size(), cells.size()));
      for (std::size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], cells[i].size());
    }
    std::string out;
    for (const auto& cells : rows_) {
      for (std::size_t i = 0; i < cells.size(); ++i)
        out += i == 0 ? fmt::format("{:<{}}", cells[i], widths[i]) : fmt::format("  {:>{}}", cells[i], widths[i]);
      out += '\n';
    }
    return out;
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

std::string cell(double x, const char* form = "{:.4g}") {
  return std::isnan(x) ? "-" : fmt::format(fmt::runtime(form), x);
}

/// Times: three digits, whole from 100 on.
std::string time_cell(double x) { return cell(x, x < 100 ? "{:.3g}" : "{:.0f}"); }

}  // namespace

std::string comparison_text(const Comparison& c) {
  std::vector<std::string> head{""};
  for (const RunSummary& run : c.runs) head.push_back(run.name);
  const auto titled = [&](std::string title) {
    std::vector<std::string> cells = head;
    cells[0] = std::move(title);
    return cells;
  };

  TextTable keys;
  keys.row(titled("configuration"));
  for (const ConfigDifference& d : c.differences) {
    std::vector<std::string> cells{d.key};
    cells.insert(cells.end(), d.values.begin(), d.values.end());
    keys.row(std::move(cells));
  }
  std::string out = c.differences.empty() ? "configurations are equal\n" : keys.text();

  const auto losses = [&](std::string title, const std::vector<EqualPoint>& points, auto text) {
    if (points.empty()) return;
    TextTable table;
    table.row(titled(std::move(title)));
    for (const EqualPoint& point : points) {
      std::vector<std::string> cells{text(point.at)};
      for (const double loss : point.losses) cells.push_back(cell(loss, "{:.4f}"));
      table.row(std::move(cells));
    }
    out += '\n' + table.text();
  };
  const auto whole = [](double step) { return cell(step, "{:.0f}"); };
  losses("loss at step", c.by_step, whole);
  losses("loss at second", c.by_seconds, time_cell);
  losses("held-out loss at step", c.valid_by_step, whole);

  TextTable all;
  all.row(titled("run"));
  const auto line = [&](std::string name, const std::function<std::string(const RunSummary&)>& get) {
    std::vector<std::string> cells{std::move(name)};
    for (const RunSummary& run : c.runs) cells.push_back(get(run));
    all.row(std::move(cells));
  };
  line("steps", [](const RunSummary& r) { return std::to_string(r.steps); });
  line("best held-out loss", [](const RunSummary& r) { return cell(r.best_valid, "{:.4f}"); });
  line("  at step",
       [](const RunSummary& r) { return std::isnan(r.best_valid) ? "-" : std::to_string(r.best_valid_step); });
  line("last held-out loss", [](const RunSummary& r) { return cell(r.last_valid, "{:.4f}"); });
  line("largest logit, nats", [](const RunSummary& r) { return cell(r.largest_logit); });
  line("entropy at the end", [](const RunSummary& r) { return cell(r.entropy, "{:.3f}"); });
  line("  of the sharpest head", [](const RunSummary& r) { return cell(r.smallest_entropy, "{:.3f}"); });
  line("tokens a second", [](const RunSummary& r) { return cell(r.tokens_per_second, "{:.0f}"); });
  line("milliseconds a step", [](const RunSummary& r) { return time_cell(r.milliseconds_a_step); });
  line("seconds", [](const RunSummary& r) { return time_cell(r.seconds); });
  line("refused updates", [](const RunSummary& r) { return std::to_string(r.refused); });
  line("guard actions logged", [](const RunSummary& r) { return std::to_string(r.guard_actions); });
  line("rollbacks", [](const RunSummary& r) { return std::to_string(r.rollbacks); });
  return out + '\n' + all.text();
}

}  // namespace attune::train
