#include "attune/train/fetch.hpp"

#include <fmt/format.h>
#include <sha2.h>

#include <algorithm>
#include <cctype>
#include <system_error>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "train/child_process.hpp"
#include "train/unicode.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFetchFunction = "fetch_translation";
/// Written last into an unpacked package: its version. A folder without it is not complete.
constexpr std::string_view kVersionFile = "attune-version";

void must(const std::error_code& error, std::string_view expectation) {
  if (error) fail(kFetchFunction, expectation, error.message());
}

/// The first line of apt's or dpkg's that says what went wrong, and how many more there are: a full disk gives one a
/// file.
std::string complaint(const std::string& output) {
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

std::string run(std::vector<std::string> arguments, const fs::path& folder, std::string_view purpose) {
  ChildResult result = run_child(arguments, folder);
  if (result.exit_code == 0) return std::move(result.output);
  const std::string said = unicode::first_invalid(result.output) < 0 ? complaint(result.output) : "no readable message";
  std::string advice;
  if (said.find("Unable to locate") != std::string::npos || said.find("No packages found") != std::string::npos)
    advice = " (if the package exists, its list is missing here: run apt-get update as root)";
  fail(kFetchFunction, fmt::format("{} to {}", arguments[0], purpose),
       fmt::format("exit code {}: {}{}", result.exit_code, said, advice));
}

fs::path pages_of(const fs::path& package_folder, std::string_view language) {
  return package_folder / "usr/share/libreoffice/help" / language / "text";
}

/// Downloads and unpacks into "<data>/.<name>.tmp", then renames.
void fetch_package(const fs::path& data_folder, const std::string& name, const std::string& language) {
  const fs::path unfinished = data_folder / fmt::format(".{}.tmp", name), finished = data_folder / name;
  std::error_code error;
  fs::remove_all(unfinished, error);
  try {
    fs::create_directories(unfinished / "unpacked", error);
    must(error, fmt::format("a folder {}", unfinished.string()));
    run({"apt-get", "download", "-q", "--", name}, unfinished, "download " + name);
    fs::path archive;
    for (const fs::directory_entry& entry : fs::directory_iterator(unfinished))
      if (entry.path().extension() == ".deb") archive = entry.path();
    if (archive.empty()) fail(kFetchFunction, "apt-get to leave an archive of " + name, "there is none");
    const std::string version =
        run({"dpkg-deb", "-f", archive.filename().string(), "Version"}, unfinished, "read " + name);
    run({"dpkg-deb", "-x", archive.filename().string(), "unpacked"}, unfinished, "unpack " + name);
    if (!fs::is_directory(pages_of(unfinished / "unpacked", language)))
      fail(kFetchFunction, fmt::format("help pages of {} in the package {}", language, name), "it holds none");
    io::write_file(unfinished / "unpacked" / kVersionFile, std::string(unicode::trim(version)) + "\n");
    fs::remove_all(finished, error);
    must(error, fmt::format("to replace {}", finished.string()));
    fs::rename(unfinished / "unpacked", finished, error);
    must(error, fmt::format("to rename to {}", finished.string()));
    io::sync_folder(data_folder);
  } catch (...) {
    fs::remove_all(unfinished, error);
    throw;
  }
  fs::remove_all(unfinished, error);
}

/// Counts and hashes the pages in the order of their paths.
void describe(FetchedPackage& package) {
  std::vector<std::string> paths;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(package.pages))
    if (entry.is_regular_file() && entry.path().extension() == ".html")
      paths.push_back(entry.path().lexically_relative(package.pages).generic_string());
  std::sort(paths.begin(), paths.end());
  SHA2_CTX state;
  SHA256Init(&state);
  const auto take = [&](std::string_view bytes) {
    SHA256Update(&state, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  };
  for (const std::string& path : paths) {
    const std::string content = io::read_file(package.pages / path);
    take(fmt::format("{}\n{}\n", path, content.size()));
    take(content);
    package.bytes += std::int64_t(content.size());
  }
  package.num_files = std::int64_t(paths.size());
  std::uint8_t digest[SHA256_DIGEST_LENGTH];
  SHA256Final(digest, &state);
  for (const std::uint8_t byte : digest) package.sha256 += fmt::format("{:02x}", byte);
}

}  // namespace

std::string help_package(std::string_view language) {
  std::string name = "libreoffice-help-";
  for (const char c : language) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-')
      fail("help_package", "a language such as en-US, de or zh-CN", fmt::format("\"{}\"", language));
    name += char(std::tolower(static_cast<unsigned char>(c)));
  }
  if (language.empty() || language.front() == '-')
    fail("help_package", "a language such as en-US, de or zh-CN", fmt::format("\"{}\"", language));
  return name;
}

std::array<FetchedPackage, 2> fetch_translation(const std::filesystem::path& data_folder,
                                                const std::array<std::string, 2>& languages,
                                                const FetchProgress& progress) {
  const auto tell = [&](const std::string& line) {
    if (progress) progress(line);
  };
  if (languages[0] == languages[1]) fail(kFetchFunction, "two different languages", languages[0] + " twice");
  std::array<FetchedPackage, 2> packages;
  for (std::size_t side = 0; side < 2; ++side) {
    packages[side].name = help_package(languages[side]);
    packages[side].language = languages[side];
  }
  std::error_code error;
  fs::create_directories(data_folder, error);
  must(error, fmt::format("a folder {}", data_folder.string()));

  for (FetchedPackage& package : packages) try {
      const fs::path folder = data_folder / package.name;
      package.pages = pages_of(folder, package.language);
      package.was_there = fs::exists(folder / kVersionFile, error) && fs::is_directory(package.pages, error);
      if (!package.was_there) {
        tell(fmt::format("downloading {}", package.name));
        fetch_package(data_folder, package.name, package.language);
      }
      package.version = std::string(unicode::trim(io::read_file(folder / kVersionFile)));
      describe(package);
      if (package.num_files == 0) fail(kFetchFunction, "HTML pages in " + package.pages.string(), "there are none");
      tell(fmt::format("{} {}{}: {} pages, {} bytes, sha256 {}", package.name, package.version,
                       package.was_there ? " (already there)" : "", package.num_files, package.bytes, package.sha256));
    } catch (const fs::filesystem_error& problem) {
      fail(kFetchFunction, "to read and write in " + data_folder.string(), problem.what());
    }
  return packages;
}

}  // namespace attune::train
