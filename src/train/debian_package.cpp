// Debian packages: downloaded, unpacked beside, renamed.
#include "train/debian_package.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>
#include <vector>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "train/child_process.hpp"
#include "train/unicode.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;

/// Written last into an unpacked package: its version. A folder without it is not complete.
constexpr std::string_view kVersionFile = "attune-version";

void must(std::string_view function, const std::error_code& error, std::string_view expectation) {
  if (error) fail(function, expectation, error.message());
}

/// The first line of apt's or dpkg's that says what went wrong, and how many more there are: a full disk gives one a
/// file.
std::string tool_complaint(const std::string& output) {
  std::string first, last;
  int more = 0;
  for (std::size_t begin = 0; begin < output.size();) {
    const std::size_t end = std::min(output.find('\n', begin), output.size());
    const std::string_view line = unicode::trim(std::string_view(output).substr(begin, end - begin));
    if (!line.empty()) last = line;
    if (line.starts_with("E:") || line.find("error") != std::string_view::npos ||
        line.find("No space left") != std::string_view::npos) {
      if (first.empty())
        first = line;
      else
        ++more;
    }
    begin = end + 1;
  }
  if (first.empty()) return last.empty() ? "no message" : last;
  return more == 0 ? first : fmt::format("{} (and {} lines more)", first, more);
}

std::string run_tool(std::string_view function, std::vector<std::string> arguments, const fs::path& folder,
                     std::string_view purpose) {
  ChildResult result = run_child(arguments, folder);
  if (result.exit_code == 0) return std::move(result.output);
  const std::string said =
      unicode::first_invalid(result.output) < 0 ? tool_complaint(result.output) : "no readable message";
  std::string advice;
  if (said.find("Unable to locate") != std::string::npos || said.find("No packages found") != std::string::npos)
    advice = " (if the package exists, its list is missing here: run apt-get update as root)";
  fail(function, fmt::format("{} to {}", arguments[0], purpose),
       fmt::format("exit code {}: {}{}", result.exit_code, said, advice));
}

/// Downloads and unpacks into "<data>/.<name>.tmp", then renames.
void download_package(std::string_view function, const fs::path& data_folder, const std::string& name,
                      const fs::path& must_hold) {
  const fs::path unfinished = data_folder / fmt::format(".{}.tmp", name), finished = data_folder / name;
  std::error_code error;
  fs::remove_all(unfinished, error);
  try {
    fs::create_directories(unfinished / "unpacked", error);
    must(function, error, fmt::format("a folder {}", unfinished.string()));
    run_tool(function, {"apt-get", "download", "-q", "--", name}, unfinished, "download " + name);
    fs::path archive;
    for (const fs::directory_entry& entry : fs::directory_iterator(unfinished))
      if (entry.path().extension() == ".deb") archive = entry.path();
    if (archive.empty()) fail(function, "apt-get to leave an archive of " + name, "there is none");
    const std::string version =
        run_tool(function, {"dpkg-deb", "-f", archive.filename().string(), "Version"}, unfinished, "read " + name);
    run_tool(function, {"dpkg-deb", "-x", archive.filename().string(), "unpacked"}, unfinished, "unpack " + name);
    if (!fs::is_directory(unfinished / "unpacked" / must_hold))
      fail(function, fmt::format("a folder {} in the package {}", must_hold.string(), name), "it holds none");
    io::write_file(unfinished / "unpacked" / kVersionFile, std::string(unicode::trim(version)) + "\n");
    fs::remove_all(finished, error);
    must(function, error, fmt::format("to replace {}", finished.string()));
    fs::rename(unfinished / "unpacked", finished, error);
    must(function, error, fmt::format("to rename to {}", finished.string()));
    io::sync_folder(data_folder);
  } catch (...) {
    fs::remove_all(unfinished, error);
    throw;
  }
  fs::remove_all(unfinished, error);
}

}  // namespace

UnpackedPackage unpacked_package(std::string_view function, const fs::path& data_folder, const std::string& name,
                                 const fs::path& must_hold, const FetchProgress& told) {
  std::error_code error;
  fs::create_directories(data_folder, error);
  must(function, error, fmt::format("a folder {}", data_folder.string()));
  UnpackedPackage package{.folder = data_folder / name};
  package.was_there =
      fs::exists(package.folder / kVersionFile, error) && fs::is_directory(package.folder / must_hold, error);
  if (!package.was_there) {
    if (told) told(fmt::format("downloading {}", name));
    download_package(function, data_folder, name, must_hold);
  }
  package.version = std::string(unicode::trim(io::read_file(package.folder / kVersionFile)));
  return package;
}

}  // namespace attune::train
