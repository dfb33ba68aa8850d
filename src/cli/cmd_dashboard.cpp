// attune dashboard RUN: the page of a run, with its log inside, as one HTML file.
#include <filesystem>
#include <memory>

#include "attune/train/dashboard.hpp"
#include "cli/commands.hpp"

namespace attune::cli {
namespace {

struct DashboardArguments {
  std::string run, out;
  bool json = false;
};

void dashboard(const DashboardArguments& arguments) {
  const std::filesystem::path path = arguments.out.empty() ? std::filesystem::path(arguments.run) / "dashboard.html"
                                                           : std::filesystem::path(arguments.out);
  train::write_dashboard(path, arguments.run);
  if (arguments.json) return print_json({{"page", path.string()}});
  print_line(path.string());
}

}  // namespace

void add_dashboard(CLI::App& program) {
  auto arguments = std::make_shared<DashboardArguments>();
  CLI::App* command = program.add_subcommand(
      "dashboard", "Write the page of a run: loss, learning rate, attention by head, and what the guard did.");
  command->add_option("RUN", arguments->run, "folder of a run, such as out/demo")->required();
  command->add_option("--out", arguments->out, "the page; RUN/dashboard.html unless given");
  command->add_flag("--json", arguments->json, "print the result as JSON");
  command->footer(
      "Example:\n  attune dashboard out/demo\n\n"
      "While a run trains, `attune train RECIPE --dashboard` shows the same page and keeps it current.");
  command->callback([arguments] { dashboard(*arguments); });
}

}  // namespace attune::cli
