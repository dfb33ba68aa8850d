// A training run, from recipe to trained weights: the task's learner, an optimizer, then one update after the other
// with a log, validation and checkpoints (train/run_files.hpp lists the files).
//
// What a run becomes is a function of its configuration alone: minutes become a number of steps once, before the first
// step, and that number is written into config.toml. A run that is killed at any moment goes on with resume_run() and
// ends with the same bits as one that never stopped, on machines of equal numerics.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>

#include "attune/base/error.hpp"
#include "attune/train/config.hpp"
#include "attune/train/fetch.hpp"
#include "attune/train/progress.hpp"

namespace attune::train {

class Dashboard;

/// How the caller takes part.
struct RunHooks {
  FetchProgress told;              // lines about text, tokenizer and warnings
  Progress* progress = nullptr;    // the line that tells how training goes
  std::function<bool()> stop;      // asked between two updates; true: save and return
  Dashboard* dashboard = nullptr;  // the page that shows how training goes (train/dashboard.hpp)
};

struct RunResult {
  std::int64_t step = 0, steps = 0;  // updates made, updates planned
  bool interrupted = false;          // by RunHooks::stop
  std::int64_t refused = 0;          // updates whose loss or gradient was not finite
  std::int64_t parameters = 0;
  double minutes = 0;            // of training so far, over all pieces of the run
  double tokens_per_second = 0;  // source and target tokens, over the same time
  double valid_loss = 0;         // nats per target token, at the end; NaN if interrupted or without valid pairs
};

/// Thrown where a run's guard gives up: a spike after the last rollback. what() is the reason. The log and the last
/// checkpoint are there; a run that goes on from it with the same recipe comes to the same end.
class GaveUp : public Error {
 public:
  using Error::Error;
};

/// Begins a run. Throws Error if the folder holds one already, GaveUp where its guard gives up.
RunResult start_run(const RunConfig& config, const std::filesystem::path& run, const std::filesystem::path& data_folder,
                    const RunHooks& hooks = {});
/// Goes on with one, from its last checkpoint, or from the start where there is none. A finished run is left as it is.
/// Throws Error if the folder holds none, if its text has changed or its checkpoint is damaged.
RunResult resume_run(const std::filesystem::path& run, const std::filesystem::path& data_folder,
                     const RunHooks& hooks = {});

}  // namespace attune::train
