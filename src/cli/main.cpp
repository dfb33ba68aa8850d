// The program: reads the command line, runs one command, turns exceptions into one line and an exit code.
#include <cstdio>
#include <exception>

#include "attune/base/error.hpp"
#include "attune/train/run.hpp"
#include "cli/commands.hpp"

namespace attune::cli {

void print_line(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fputc('\n', stdout) == EOF)
    fail("print_line", "standard output can be written to", "it cannot");
}

void print_json(const Json& value) { print_line(value.dump(2)); }

void complain(std::string_view text) {
  std::string line = "attune: ";
  for (const char c : text) {
    if (c == '\r' || (c == '\n' && line.ends_with("; "))) continue;
    if (c == '\n')
      line += "; ";
    else
      line += c;
  }
  while (line.ends_with(' ') || line.ends_with(';')) line.pop_back();
  line += '\n';
  std::fflush(stdout);
  std::fwrite(line.data(), 1, line.size(), stderr);
}

std::string grouped(long long number) {
  std::string digits = std::to_string(number);
  for (std::ptrdiff_t at = std::ptrdiff_t(digits.size()) - 3; at > (number < 0 ? 1 : 0); at -= 3)
    digits.insert(std::size_t(at), 1, ',');
  return digits;
}

namespace {

constexpr int kGaveUp = 3;

int run(int argc, char** argv) {
  CLI::App program{"attune: attention, from the equation to a trained translator.", "attune"};
  program.set_version_flag("--version", "attune " ATTUNE_VERSION);
  program.require_subcommand(1);
  program.footer(
      "Example:\n  attune train recipes/translate_en_de.toml\n\n"
      "Exit codes: 0 done, 1 error, 2 wrong usage, 3 training gave up or (doctor) is badly wrong, 130 stopped by\n"
      "Ctrl-C (training has saved itself).\n"
      "`attune COMMAND --help` shows an example of each command.");
  add_fetch(program);
  add_train(program);
  add_eval(program);
  add_translate(program);
  add_view(program);
  add_info(program);
  add_explain(program);
  add_schedule(program);
  add_lr_find(program);
  add_sweep(program);
  add_dashboard(program);
  add_doctor(program);
  add_compare(program);
  add_explain_lr(program);
  add_demo(program);
  try {
    program.parse(argc, argv);
    if (std::fflush(stdout) != 0) fail("main", "standard output can be written to", "it cannot");
    return 0;
  } catch (const CLI::Success& help) {  // --help, --version
    return program.exit(help);
  } catch (const CLI::ParseError& error) {
    complain(std::string(error.what()) + " (attune --help)");
    return 2;
  } catch (const Interrupted&) {
    return 130;
  } catch (const ExitCode& exit) {
    return exit.code;
  } catch (const train::GaveUp& reason) {
    complain(reason.what());
    return kGaveUp;
  } catch (const std::exception& error) {
    complain(error.what());
    return 1;
  }
}

}  // namespace
}  // namespace attune::cli

int main(int argc, char** argv) { return attune::cli::run(argc, argv); }
