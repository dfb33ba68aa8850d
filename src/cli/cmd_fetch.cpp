// attune fetch translation-en-de | novels: fetches a task's data and says what it fetched.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <memory>

#include "attune/base/error.hpp"
#include "attune/train/libreoffice_help.hpp"
#include "attune/train/novels.hpp"
#include "cli/commands.hpp"

namespace attune::cli {
namespace {

struct FetchArguments {
  std::string what;
  std::string data_folder = "data";
  bool json = false;
};

/// "translation-en-de" -> {"en-US", "de"}: languages as LibreOffice spells them, with the short forms of two.
std::array<std::string, 2> languages_of(const std::string& what) {
  static constexpr std::string_view kPrefix = "translation-";
  const std::string pair = what.starts_with(kPrefix) ? what.substr(kPrefix.size()) : "";
  const std::size_t dash = pair.find('-', pair.starts_with("en-US-") ? 3 : 0);
  if (dash == std::string::npos || dash == 0 || dash + 1 == pair.size())
    fail("fetch", "data to fetch, such as translation-en-de, translation-en-zh or novels", what);
  std::array<std::string, 2> languages = {pair.substr(0, dash), pair.substr(dash + 1)};
  for (std::string& language : languages) {
    if (language == "en") language = "en-US";
    if (language == "zh") language = "zh-CN";
  }
  return languages;
}

void fetch_novels(const FetchArguments& arguments, const train::FetchProgress& told) {
  const train::PreparedNovels data = train::prepare_novels(arguments.data_folder, told);
  for (const std::string& warning : data.warnings) complain("warning: " + warning);
  if (arguments.json)
    return print_json({{"folder", data.text.folder.string()},
                       {"version", data.version},
                       {"was_there", data.was_there},
                       {"sha256", data.sha256},
                       {"train_bytes", data.text.train.size()},
                       {"valid_bytes", data.text.valid.size()},
                       {"test_bytes", data.text.test.size()},
                       {"warnings", data.warnings}});
  print_line(fmt::format("{}: {} bytes of text: {} train, {} valid, {} test", data.text.folder.string(),
                         grouped(std::int64_t(data.text.train.size() + data.text.valid.size() + data.text.test.size())),
                         grouped(std::int64_t(data.text.train.size())), grouped(std::int64_t(data.text.valid.size())),
                         grouped(std::int64_t(data.text.test.size()))));
}

void fetch(const FetchArguments& arguments) {
  const auto told = [](std::string_view line) { fmt::print(stderr, "{}\n", line); };
  if (arguments.what == "novels") return fetch_novels(arguments, told);
  const train::PreparedTranslation data =
      train::prepare_translation(arguments.data_folder, languages_of(arguments.what), told);
  for (const std::string& warning : data.warnings) complain("warning: " + warning);
  if (arguments.json) {
    Json out = {{"folder", data.folder.string()}, {"packages", Json::array()}};
    for (const train::FetchedPackage& p : data.packages)
      out["packages"].push_back({{"name", p.name},
                                 {"version", p.version},
                                 {"language", p.language},
                                 {"files", p.num_files},
                                 {"bytes", p.bytes},
                                 {"sha256", p.sha256},
                                 {"was_there", p.was_there}});
    out["pairs"] = data.counts.pairs;
    out["train"] = data.counts.train;
    out["valid"] = data.counts.valid;
    out["test"] = data.counts.test;
    out["warnings"] = data.warnings;
    return print_json(out);
  }
  for (const train::FetchedPackage& p : data.packages)
    print_line(fmt::format("{} {}{}: {} pages, {} bytes, sha256 {}", p.name, p.version,
                           p.was_there ? " (was there)" : "", grouped(p.num_files), grouped(p.bytes), p.sha256));
  print_line(fmt::format("{}: {} pairs: {} train, {} valid, {} test", data.folder.string(), grouped(data.counts.pairs),
                         grouped(data.counts.train), grouped(data.counts.valid), grouped(data.counts.test)));
}

}  // namespace

void add_fetch(CLI::App& program) {
  auto arguments = std::make_shared<FetchArguments>();
  CLI::App* command = program.add_subcommand("fetch", "Fetch the data of a task and say what it is.");
  command->add_option("WHAT", arguments->what, "translation-<source>-<target>, such as translation-en-de; or novels")
      ->required();
  command->add_option("--data", arguments->data_folder, "folder that data goes to")->capture_default_str();
  command->add_flag("--json", arguments->json, "print the result as JSON");
  command->footer("Example:\n  attune fetch translation-en-de");
  command->callback([arguments] { fetch(*arguments); });
}

}  // namespace attune::cli
