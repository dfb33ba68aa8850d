// Runs the program as a person would, without a shell, and catches what it says.
#pragma once
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

namespace attune::cli::testing_program {

struct Outcome {
  int code = -1;  // exit status; 128 + signal if one ended it
  std::string out, err;
  /// What is said on standard error is one line that begins "attune: ".
  bool one_line_of_error() const {
    return err.starts_with("attune: ") && std::count(err.begin(), err.end(), '\n') == 1 && err.ends_with('\n');
  }
};

inline std::string content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A program that runs. Its input, output and errors are files in `folder`.
class Program {
 public:
  Program(const std::filesystem::path& folder, std::vector<std::string> arguments, const std::string& input = "",
          const std::string& out = "")
      : folder_(folder) {
    std::ofstream(folder_ / "said.in") << input;
    const std::string program = ATTUNE_BINARY_DIR "/attune", in = folder_ / "said.in", err = folder_ / "said.err",
                      standard_out = out.empty() ? std::string(folder_ / "said.out") : out;
    std::vector<char*> argv = {const_cast<char*>("attune")};
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    process_ = fork();
    if (process_ == 0) {
      if (!freopen(in.c_str(), "r", stdin) || !freopen(standard_out.c_str(), "w", stdout) ||
          !freopen(err.c_str(), "w", stderr) || chdir(folder.c_str()) != 0)
        _exit(126);
      execv(program.c_str(), argv.data());
      _exit(127);
    }
  }
  void send(int signal) const { kill(process_, signal); }
  /// Whether it still runs after so long.
  bool runs_for(std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
      if (ended()) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return !ended();
  }
  Outcome wait() {
    if (!over_) waitpid(process_, &status_, 0);
    over_ = true;
    return {WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_), content(folder_ / "said.out"),
            content(folder_ / "said.err")};
  }

 private:
  bool ended() {
    if (!over_) over_ = waitpid(process_, &status_, WNOHANG) == process_;
    return over_;
  }
  std::filesystem::path folder_;
  pid_t process_ = -1;
  int status_ = 0;
  bool over_ = false;
};

}  // namespace attune::cli::testing_program
