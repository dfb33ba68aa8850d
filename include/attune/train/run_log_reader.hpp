// A run's log (log.jsonl) as numbers: what `attune doctor`, `attune compare` and `attune explain-lr` look at.
//
// Reads what a training that still goes on, or was killed, has left: a last line that is cut off is passed over. A
// field that a line does not have is NaN, or an empty list; numbers that are not finite come back as what they were. A
// log without a line for each head ("heads") is one of an older version: it has statistics of the whole model only.
#pragma once
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "attune/train/guard_event.hpp"

namespace attune::train {

/// Every log_every updates. Steps count the updates made: the first is 1.
struct StepLine {
  std::int64_t step = 0;
  double loss = 0;                                                 // mean since the line before, nats a target token
  double learning_rate = 0, base = 0, schedule = 0, rollback = 0;  // their product, with plateau's, is the rate
  double gradient_norm = 0;                                        // before clipping
  double largest_logit = 0, entropy = 0, smallest_entropy = 0;     // over all heads; entropies: 0 one key, 1 all alike
  double tokens = 0, seconds = 0;                                  // since training began
  double plateau = std::numeric_limits<double>::quiet_NaN();       // factor; NaN without such a schedule
  double output_lse =
      std::numeric_limits<double>::quiet_NaN();  // of the output's logits, mean over target tokens, nats
};

/// Loss of what the model does not learn from; at step 0 that of the untrained model.
struct ValidLine {
  std::int64_t step = 0;
  double loss = 0;  // nats a target token
};

/// The heads of one attention module at a step, each list [H].
struct HeadsLine {
  std::int64_t step = 0;
  std::string layer;            // name of the module
  std::vector<double> score;    // largest |score|, before biases and caps, nats
  std::vector<double> logit;    // largest logit, after them
  std::vector<double> entropy;  // normalised: 0 one key, 1 all alike
  std::vector<double> variance, largest_prob, sink_mass;
  std::vector<double> factor;  // the guard's, of the head's learning rate; 1 without a guard
};

/// What the guard saw in a step that is logged.
struct GuardLine {
  std::int64_t step = 0;
  double largest_move = 0, smallest_factor = 1;  // nats; of a head's rate
  std::int64_t scaled_heads = 0, clipped_heads = 0;
};

/// An update that was not applied since loss or gradient were not finite.
struct RefusedLine {
  std::int64_t step = 0;
  double loss = 0, gradient_norm = 0;
};

/// Of each role, the share of its weights whose update epsilon holds back: sqrt(v^) below 10 epsilon.
struct EpsilonLine {
  std::int64_t step = 0;
  std::map<std::string, double> share;  // by role, 0 .. 1
};

/// All lines, in the order in which they were written. Where a guard has gone back to a snapshot, steps come twice.
struct RunHistory {
  std::vector<StepLine> steps;
  std::vector<ValidLine> valids;
  std::vector<HeadsLine> heads;
  std::vector<GuardEvent> guard;
  std::vector<GuardLine> guard_steps;
  std::vector<RefusedLine> refused;
  std::vector<EpsilonLine> epsilon;
  std::int64_t unreadable = 0;  // lines that are none of these, or cut off

  /// The last step of which anything is known; 0 for an empty log.
  std::int64_t last_step() const;
};

/// Throws Error if the file cannot be read.
RunHistory read_run_log(const std::filesystem::path& file);
RunHistory parse_run_log(std::string_view lines);

/// Those lines that stand: of lines that were written twice, because training went back, the later ones. In order of
/// their steps.
template <class Line>
std::vector<Line> standing(const std::vector<Line>& lines) {
  std::vector<Line> kept;
  for (const Line& line : lines) {
    while (!kept.empty() && kept.back().step >= line.step) kept.pop_back();
    kept.push_back(line);
  }
  return kept;
}

/// The lines of one attention module, those that stand; and the names of all modules, in the model's order.
std::vector<HeadsLine> heads_of(const RunHistory& history, std::string_view layer);
std::vector<std::string> layers_of(const RunHistory& history);

}  // namespace attune::train
