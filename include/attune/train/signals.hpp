// Ctrl-C as a question that a loop asks between two steps.
#pragma once

namespace attune::train {

/// While one lives, SIGINT and SIGTERM set a flag instead of ending the program; a second SIGINT ends it as usual. The
/// handlers that were there before come back at the end. One at a time: a second one throws Error.
class StopOnSignal {
 public:
  StopOnSignal();
  ~StopOnSignal();
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

  /// Whether a signal has come.
  bool requested() const;
  /// Its number, or 0.
  int signal() const;
};

}  // namespace attune::train
