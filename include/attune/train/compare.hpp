// Runs side by side: in what their configurations differ, and what that did to loss, attention and speed.
//
// Losses are compared twice. At equal steps: which setting learns more from as many updates. At equal seconds of
// training: which is the better use of time. A loss of training is the mean of a line of the log, that of the last line
// at or before the point.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "attune/train/config.hpp"
#include "attune/train/run_log_reader.hpp"

namespace attune::train {

struct ComparedRun {
  std::string name;  // of the folder
  RunConfig config;
  RunHistory history;
};
/// Configuration and log of a run's folder. Throws Error if it holds none.
ComparedRun read_compared_run(const std::filesystem::path& run);

/// A key, as in "optimizer.learning_rate", whose values are not all equal; each as TOML, "-" where a run lacks it.
struct ConfigDifference {
  std::string key;
  std::vector<std::string> values;  // one a run
};
std::vector<ConfigDifference> config_differences(std::span<const RunConfig> configs);

/// Losses of all runs at one point, nats a target token; NaN where a run has none.
struct EqualPoint {
  double at = 0;  // steps or seconds
  std::vector<double> losses;
};

/// One run in numbers; NaN for what its log does not tell.
struct RunSummary {
  std::string name;
  std::int64_t steps = 0;
  double loss = 0;                        // of training, the last line's
  double best_valid = 0, last_valid = 0;  // held-out
  std::int64_t best_valid_step = 0;
  double largest_logit = 0;                  // over all lines, nats
  double entropy = 0, smallest_entropy = 0;  // the last line's
  double seconds = 0, tokens_per_second = 0, milliseconds_a_step = 0;
  std::int64_t refused = 0, guard_actions = 0, rollbacks = 0;
};
RunSummary summarize_run(const ComparedRun& run);

struct Comparison {
  std::vector<RunSummary> runs;
  std::vector<ConfigDifference> differences;
  std::vector<EqualPoint> by_step, by_seconds;  // losses of training, up to the end of the shortest run
  std::vector<EqualPoint> valid_by_step;        // held-out losses, at steps where all runs have one
};
/// Throws Error for fewer than two runs, or one without a line of a step.
Comparison compare_runs(std::span<const ComparedRun> runs, int points = 6);

/// For people: a table of each part, runs in columns.
std::string comparison_text(const Comparison& comparison);

/// The losses as a picture (SVG), a line a run.
enum class LossAxis : std::uint8_t { steps, seconds, held_out };
/// Whether there is a point to draw: held-out losses may be missing.
bool has_losses(std::span<const ComparedRun> runs, LossAxis axis);
std::string loss_chart(std::span<const ComparedRun> runs, LossAxis axis);

}  // namespace attune::train
