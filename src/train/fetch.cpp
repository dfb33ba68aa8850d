#include "attune/train/fetch.hpp"

#include <fmt/format.h>
#include <sha2.h>

#include <algorithm>
#include <cctype>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "train/debian_package.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFetchFunction = "fetch_translation";

fs::path pages_of(const fs::path& package_folder, std::string_view language) {
  return package_folder / "usr/share/libreoffice/help" / language / "text";
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
  for (FetchedPackage& package : packages) try {
      const UnpackedPackage unpacked =
          unpacked_package(kFetchFunction, data_folder, package.name, pages_of("", package.language), progress);
      package.pages = pages_of(unpacked.folder, package.language);
      package.was_there = unpacked.was_there;
      package.version = unpacked.version;
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
