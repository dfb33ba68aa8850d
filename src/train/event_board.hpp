// A run's events as TensorBoard's scalars (io/tensorboard.hpp): loss/train, loss/valid, rate, gradient_norm,
// attention/..., guard/...
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

#include "attune/io/tensorboard.hpp"

namespace attune::train {

class EventBoard {
 public:
  /// A new event file in the folder. begins: files of before are removed; else the run goes on after `step` updates,
  /// and the reader forgets what it has of later ones.
  EventBoard(const std::filesystem::path& folder, std::int64_t step, bool begins);
  /// A line of the log. Lines without numbers over steps are passed over.
  void line(std::string_view line);

 private:
  void open(std::int64_t first_step);
  std::filesystem::path folder_;
  std::optional<io::TensorBoardWriter> writer_;
};

}  // namespace attune::train
