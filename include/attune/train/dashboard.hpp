// A page that shows a training while it goes: loss, learning rate and its factors, gradient norm, attention by layer
// and head, and what the guard did and why. It reads the run's log and nothing else.
//
//   GET /        the page: one HTML document that asks for nothing but
//   GET /events  server-sent events: what the run is ("run"), every line of log.jsonl so far, then each as it comes;
//                "end" when training is over
//
// It listens on 127.0.0.1 alone and answers only requests that name that address. A thread of its own serves it;
// training tells it that the log has grown and never waits: a reader that does not read is dropped after two seconds.
#pragma once
#include <filesystem>
#include <memory>
#include <string>

namespace attune::train {

class Dashboard {
 public:
  /// port: 0 is any that is free. Throws Error if it cannot be listened on.
  explicit Dashboard(int port = 0);
  /// Sends what is left, says "end" and closes; takes at most a few seconds, for readers that do not read.
  ~Dashboard();
  Dashboard(const Dashboard&) = delete;
  Dashboard& operator=(const Dashboard&) = delete;

  /// "http://127.0.0.1:40123/"
  std::string address() const;

  /// From now on shows the run in this folder; pages that are open already begin to fill. Throws Error if it is none.
  void follow(const std::filesystem::path& run);
  /// The log has grown. Cheap; returns at once.
  void grown();

 private:
  struct Server;
  std::unique_ptr<Server> server_;
};

/// The page of a run with its log inside: needs no server, opens from a file. Throws Error if the folder holds no run
/// that has begun to train.
std::string dashboard_html(const std::filesystem::path& run);
/// Writes it, beside and renamed.
void write_dashboard(const std::filesystem::path& path, const std::filesystem::path& run);

}  // namespace attune::train
