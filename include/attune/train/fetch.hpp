// Fetches the text that the translator learns from: the help pages of LibreOffice, which Debian ships as one package a
// language (libreoffice-help-de, ...; MPL-2.0). `apt-get download` and `dpkg-deb -x` run as child processes, without a
// shell and without root. A package is unpacked beside and renamed, so what is there is complete; it is not fetched
// again.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace attune::train {

/// One package on the disk.
struct FetchedPackage {
  std::string name, version;  // "libreoffice-help-de", "4:7.4.7-1+deb12u14"
  std::string language;       // as the package's folders spell it: "en-US", "de", "zh-CN"
  std::filesystem::path
      pages;  // the folder that holds the pages, <data>/<name>/usr/share/libreoffice/help/<language>/text
  std::int64_t num_files = 0;  // HTML pages below `pages`
  std::int64_t bytes = 0;      // of these pages
  std::string sha256;          // hex, over path, size and bytes of all pages in the order of their paths
  bool was_there = false;      // nothing had to be downloaded
};

/// Told what happens, one line of text at a time, without a line break.
using FetchProgress = std::function<void(std::string_view line)>;

/// Makes sure that the help pages of both languages lie below `data_folder` and says what they are.
///
/// languages  source and target as LibreOffice spells them, such as {"en-US", "de"}.
/// Throws     Error if apt-get or dpkg-deb is missing or fails (an unknown package, no network, a full disk), with its
///            own message, or if a package does not hold the pages. Nothing half-fetched remains under a final name.
std::array<FetchedPackage, 2> fetch_translation(const std::filesystem::path& data_folder,
                                                const std::array<std::string, 2>& languages,
                                                const FetchProgress& progress = {});

/// "libreoffice-help-" and the language in lower case. Throws Error unless the language is letters, digits and '-'.
std::string help_package(std::string_view language);

}  // namespace attune::train
