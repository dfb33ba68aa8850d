// Runs another program to its end: arguments as they are (no shell), in a folder, its output caught. Private.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace attune::train {

struct ChildResult {
  int exit_code = 0;   // 128 + signal if a signal ended it
  std::string output;  // standard output and error, in the order they were written
};

/// Searches `arguments[0]` in PATH and runs it with LC_ALL=C, so that its messages are the same everywhere.
/// Throws Error if the program is missing or cannot be started.
ChildResult run_child(const std::vector<std::string>& arguments, const std::filesystem::path& folder);

}  // namespace attune::train
