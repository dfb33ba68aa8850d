// A log of events, one JSON object a line (JSONL), flushed line by line: what `attune compare`, a spreadsheet or jq
// read.
//
//   {"event":"step","step":1850,"loss":3.12,"learning_rate":0.0019}
#pragma once
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace attune::train {

/// A number, a text, a truth, or a list of numbers, which are written with the digits of single precision. A number
/// that is not finite is written as the text "nan", "inf" or "-inf": JSON has no such numbers, and none is hidden.
class EventValue {
 public:
  template <std::integral I>
  EventValue(I value) : value_(std::int64_t(value)) {}
  EventValue(bool value) : value_(value) {}
  EventValue(double value) : value_(value) {}
  EventValue(std::string value) : value_(std::move(value)) {}
  EventValue(std::string_view value) : value_(std::string(value)) {}
  EventValue(const char* value) : value_(std::string(value)) {}
  EventValue(std::vector<double> value) : value_(std::move(value)) {}
  std::string json() const;

 private:
  std::variant<std::int64_t, double, bool, std::string, std::vector<double>> value_;
};

class EventLog {
 public:
  /// A new log; replaces a file that is there.
  static EventLog create(const std::filesystem::path& file);
  /// Goes on with a log: drops a last line that a kill cut off, and all lines whose "step" is above `step`, which the
  /// resumed run will write again. Creates the file if there is none.
  static EventLog resume(const std::filesystem::path& file, std::int64_t step);
  /// Goes on behind the first `bytes` of a log: what size() said when the run was saved. Unlike steps, which come again
  /// when training goes back, that tells which lines were there. Keeps whole lines only, and what there is of a file
  /// that is shorter.
  static EventLog resume_at(const std::filesystem::path& file, std::int64_t bytes);

  /// Appends one line and flushes it. Throws Error if that fails (a full disk).
  void write(const std::vector<std::pair<std::string_view, EventValue>>& event);
  /// Bytes of the file.
  std::int64_t size() const { return size_; }

  /// Hears every line from now on, without its line break, once it is in the file; in the thread that writes.
  void on_line(std::function<void(std::string_view)> listener) { listener_ = std::move(listener); }

 private:
  explicit EventLog(std::filesystem::path file);
  std::filesystem::path file_;
  std::function<void(std::string_view)> listener_;
  std::ofstream out_;
  std::int64_t size_ = 0;
};

}  // namespace attune::train
