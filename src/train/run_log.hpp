// What a run writes down of itself: log.jsonl, TensorBoard's files if the recipe asks for them, and a nudge for whoever
// shows the log while it grows. The loop in run.cpp says what happened; which lines that makes is decided here.
//
//   {"event":"step", ...}     every log_every updates: loss, the rate and its factors, attention over all heads
//   {"event":"heads", ...}    with it, one for each attention module: a list [H] for every statistic
//   {"event":"guard", ...}    an action of the attention guard; {"event":"guard_step", ...}: its numbers of an update
//   {"event":"valid", ...}    validation loss; at step 0 that of the untrained model
//   {"event":"refused", ...}  an update whose loss or gradient was not finite
//   {"event":"epsilon", ...}  with a step's line, for Adam and its kin: the share of the weights of each role whose
//                             divisor is mostly epsilon (sqrt(v^) below 10 epsilon)
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "attune/train/attention_guard.hpp"
#include "attune/train/event_log.hpp"
#include "attune/train/run.hpp"
#include "attune/train/run_files.hpp"
#include "attune/train/trainer.hpp"
#include "train/event_board.hpp"

namespace attune::train {

/// Of the updates since the last step line, and since training began.
struct StepTotals {
  double loss = 0;  // mean, nats a target token
  double tokens = 0, seconds = 0;
};

class RunJournal {
 public:
  /// Where a run begins or goes on.
  struct Place {
    bool begins = true;                 // nothing that was written before is worth keeping
    std::int64_t step = 0;              // updates made
    std::optional<std::int64_t> bytes;  // of the log at that time; older checkpoints do not know
  };
  RunJournal(const RunFiles& files, bool tensorboard, const Place& place, Dashboard* dashboard);
  RunJournal(const RunJournal&) = delete;
  RunJournal& operator=(const RunJournal&) = delete;

  /// Bytes of the log so far: what a checkpoint keeps for Place.
  std::int64_t bytes() const { return log_.size(); }

  /// Before an update: whether step() will follow it.
  void begin_update(bool log_due);
  /// An action of the guard. Those that come to heads at every update are written where step() follows.
  void guard(const GuardEvent& event);
  void refused(std::int64_t step, const UpdateReport& update);
  /// After an update that was asked for its attention. guard: null without one.
  void step(const UpdateReport& update, const optim::Optimizer& optimizer, const AttentionGuard* guard,
            const StepTotals& totals);
  /// After step(). roles: of the optimizer's parameters.
  void epsilon(const optim::Optimizer& optimizer, const std::vector<ParameterRows>& roles);
  void valid(std::int64_t step, double loss);

 private:
  void heads(std::int64_t step, const std::vector<SiteStatistics>& sites);

  EventLog log_;
  std::optional<EventBoard> board_;
  bool log_due_ = false;
  std::map<std::string, std::map<std::int64_t, double>> factors_;  // of heads whose update the guard has scaled
};

}  // namespace attune::train
