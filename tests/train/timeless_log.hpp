// A run's log without the times in it, so that two runs can be compared line by line.
#pragma once
#include <filesystem>
#include <string>

#include "attune/io/atomic_file.hpp"

namespace attune::train {

/// The log without what a clock has measured.
inline std::string log_without_seconds(const std::filesystem::path& run) {
  std::string log = io::read_file(run / "log.jsonl"), out;
  for (std::size_t at = 0; at < log.size();) {
    const std::size_t seconds = log.find(",\"seconds\":", at);
    if (seconds == std::string::npos) return out + log.substr(at);
    out += log.substr(at, seconds - at);
    at = log.find_first_of(",}", seconds + 1);
  }
  return out;
}

}  // namespace attune::train
