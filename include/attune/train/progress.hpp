// One line that tells how a training goes:
//
//   step 1840/4400  42 %  loss 3.12  lr 1.9e-3  31.2k tok/s  logit 14  entropy .62  eta 2:31
//
// On a terminal it rewrites itself; elsewhere (a pipe, a file) a plain line comes every few seconds.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <ostream>
#include <string>

namespace attune::train {

struct ProgressState {
  std::int64_t step = 0, steps = 0;  // updates done, updates in all
  double loss = 0;                   // nats a token
  double learning_rate = 0;
  double tokens_per_second = 0;
  std::optional<double> max_logit;  // largest attention logit
  std::optional<double> entropy;    // of attention, as a share of the largest possible, 0 .. 1
  double seconds_left = 0;
};

/// The line, without control characters.
std::string progress_text(const ProgressState& state);

struct ProgressOptions {
  bool terminal = false;             // whether the stream is one: isatty() is the caller's to ask
  int columns = 0;                   // of the terminal: a longer line is cut; 0: unknown
  double terminal_interval = 0.1;    // seconds between two versions of the line
  double plain_interval = 5;         // seconds between two plain lines
  std::function<double()> now = {};  // seconds; the steady clock if left out
};

class Progress {
 public:
  explicit Progress(std::ostream& out, ProgressOptions options = {});
  /// Ends the line, if one stands.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Shows the state, unless the last one was shown too short a time ago. Cheap to call at every step.
  void show(const ProgressState& state);
  /// Whether show() would write now: lets the caller skip gathering.
  bool due() const;
  /// Shows the state in any case and ends the line.
  void finish(const ProgressState& state);
  /// A line of its own, above the progress line.
  void note(const std::string& text);

 private:
  void write(const ProgressState& state);
  void end_line();

  std::ostream& out_;
  ProgressOptions options_;
  double next_ = 0;  // seconds
  bool line_stands_ = false;
};

}  // namespace attune::train
