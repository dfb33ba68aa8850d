// Training from the command line: progress on standard error, Ctrl-C, and what a run came to.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "attune/train/config.hpp"
#include "attune/train/run.hpp"
#include "cli/commands.hpp"

namespace attune::cli {

/// Begins the run, or goes on with the one that is in the folder (`resume`). Ctrl-C saves and throws Interrupted after
/// saying how to go on. dashboard_port: serves the live page there (0: any free port) and tells its address.
train::RunResult train_here(const train::RunConfig& config, const std::string& run, const std::string& data_folder,
                            bool resume, std::string_view how_to_go_on, std::optional<int> dashboard_port = {});

}  // namespace attune::cli
