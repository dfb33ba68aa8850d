// Sweeps: the same recipes trained with many settings, to see what a setting is worth. A plan is a TOML file:
//
//     recipes = ["tiny_novels.toml"]                  # beside the plan
//     seeds = [1, 2, 3]
//     steps = 200                                     # instead of the recipes'; may be left out
//     score = true                                    # also the task's own metric: what `attune eval` says of a run
//     [axis]                                          # what goes along the pictures' x axis
//     label = "learning rate"
//     keys = ["optimizer.learning_rate"]              # all of these get the value
//     values = [1e-3, 1e-2, 1e-1]
//     [[remedy]]                                      # one line in the pictures
//     name = "base"
//     [[remedy]]
//     name = "guard"
//     set.guard.mode = "full"                         # laid over the recipe
//
// Every combination is an ordinary run with a folder of its own, trained by its own process on one thread, as many at a
// time as there are cores. What is finished stands in runs.jsonl under the hash of its complete recipe: a sweep that is
// stopped goes on where it was, and one that is widened trains only what is new. A file of one key,
// `plans = ["characters.toml", "recall.toml"]`, stands for these plans, one after the other.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attune/train/config.hpp"
#include "attune/train/lr_sensitivity.hpp"

namespace attune::train {

/// One run of a sweep.
struct SweepRun {
  std::string recipe;  // name of the recipe's file, without ".toml"
  std::string remedy;
  std::uint64_t seed = 0;
  double value = 0;  // on the axis
  RunConfig config;  // complete
  std::string hash;  // of config: what names its folder and finds its result again
};

struct SweepPlan {
  std::string name;        // of the file, without ".toml"
  std::string axis_label;  // "learning rate"
  bool axis_is_learning_rate = false;
  bool score = false;  // whether finished runs are scored
  std::vector<std::string> recipes, remedies;
  std::vector<std::uint64_t> seeds;
  std::vector<double> values;  // increasing
  std::vector<SweepRun> runs;
};

/// Throws Error, naming file and line, for a plan or a recipe that is none.
SweepPlan read_sweep(const std::filesystem::path& file);
/// The plans that a file stands for, in its order: itself, or those that it lists.
std::vector<SweepPlan> read_sweeps(const std::filesystem::path& file);

/// A task's own metric of a trained model, on data that it has not seen: {"BLEU", 20.7}.
struct SweepScore {
  std::string name;
  double value = 0;
  bool more_is_better = true;
};

/// How one run ended.
struct SweepRow {
  std::string recipe, remedy;
  std::uint64_t seed = 0;
  double value = 0, learning_rate = 0;
  double initial_loss = 0, loss = 0;  // held-out, nats a token; NaN: not finite, or the run gave up
  double max_logit = 0;               // largest over the run's log, nats
  double entropy = 0;                 // mean normalised entropy at the end
  double sharpest = 0;                // the same of the sharpest head
  bool diverged = false;              // no finite loss, or one above the initial one
  std::int64_t actions = 0;           // events in the log that tell of somebody acting (guard, clip, rollback)
  double seconds = 0;
  std::optional<SweepScore> score;  // if the plan wants it and the run ended with a finite loss
  std::string hash;
};

struct SweepOptions {
  std::filesystem::path program;      // `attune`, which every run is a process of
  std::filesystem::path out;          // runs/, runs.jsonl and the report
  std::filesystem::path data_folder;  // as for `attune train`
  int jobs = 0;                       // processes at a time; 0: one a core
  bool keep_runs = false;             // or their checkpoints are deleted once their result is known
  std::function<void(const SweepRow&, std::size_t done, std::size_t all)> finished;  // called from one thread at a time
  std::function<bool()> stop;                                                        // asked between runs
};

/// The rows of all runs that are finished, in the plan's order, trained where need be. Returns early if stopped.
/// Throws Error if a run fails for another reason than its loss (no data, a full disk).
std::vector<SweepRow> run_sweep(const SweepPlan& plan, const SweepOptions& options);

/// One recipe and remedy: the seeds' medians along the axis, and what they say.
struct SweepSummary {
  std::string recipe, remedy;
  LrSensitivity sensitivity;                     // of the medians
  double lrs_right_low = 0, lrs_right_high = 0;  // range over seeds, each against its own best rate
  double highest_max_logit = 0;                  // at the largest value, median over seeds
  double lowest_entropy = 0;                     // at the largest value, median over seeds
  std::int64_t diverged = 0, runs = 0;
  std::optional<SweepScore> best_score;  // the best median
  double best_score_at = 0;              // value on the axis where it is
};
/// Only for values that every seed has finished. Throws Error if there are fewer than two.
std::vector<SweepSummary> summarize_sweep(const SweepPlan& plan, const std::vector<SweepRow>& rows);

/// Writes report.json, index.html and, for each recipe, loss_<recipe>.svg, max_logit_<recipe>.svg and
/// entropy_<recipe>.svg; returns the path of index.html.
std::filesystem::path write_sweep_report(const SweepPlan& plan, const std::vector<SweepRow>& rows,
                                         const std::filesystem::path& folder);
/// Writes report.json and index.html of several sweeps, whose own reports lie in `folder`/<name of the plan>; returns
/// the path of index.html.
std::filesystem::path write_sweeps_report(std::string_view name, const std::vector<SweepPlan>& plans,
                                          const std::vector<std::vector<SweepRow>>& rows,
                                          const std::filesystem::path& folder);
/// The summaries as a table for a terminal or a Markdown page, a line each.
std::string sweep_table(const std::vector<SweepSummary>& summaries);

}  // namespace attune::train
