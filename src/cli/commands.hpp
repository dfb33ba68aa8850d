// The commands of the program `attune`, one file each (cmd_<name>.cpp), and what they share.
//
// A command adds itself to the program with its options, its help and one example. It writes results to standard output
// and everything else (progress, warnings) to standard error; with --json the result is one JSON value. It throws
// Error for what it cannot do: main() prints one line and answers 1. Usage errors answer 2, an interrupted training
// 130.
#pragma once
#include <CLI/CLI.hpp>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace attune::cli {

void add_fetch(CLI::App& program);
void add_train(CLI::App& program);
void add_eval(CLI::App& program);
void add_translate(CLI::App& program);
void add_view(CLI::App& program);
void add_info(CLI::App& program);
void add_explain(CLI::App& program);
void add_schedule(CLI::App& program);
void add_dashboard(CLI::App& program);
void add_doctor(CLI::App& program);
void add_compare(CLI::App& program);
void add_explain_lr(CLI::App& program);
void add_demo(CLI::App& program);
void add_lr_find(CLI::App& program);
void add_sweep(CLI::App& program);

/// Thrown by a command that Ctrl-C has stopped after it saved its work.
struct Interrupted {};
/// Thrown by a command that has printed its result, which deserves an exit code of its own.
struct ExitCode {
  int code = 0;
};

/// Objects keep the order in which they were filled: what is printed reads from top to bottom.
using Json = nlohmann::ordered_json;

/// Writes text and a line break to standard output. Throws Error if it cannot be written.
void print_line(std::string_view text);
/// Writes a value, indented.
void print_json(const Json& value);
/// Writes "attune: <text>" to standard error, as one line whatever the text holds.
void complain(std::string_view text);
/// 12345678 -> "12,345,678".
std::string grouped(long long number);

}  // namespace attune::cli
