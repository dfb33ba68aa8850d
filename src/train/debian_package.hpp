// Debian packages as a source of data: `apt-get download` and `dpkg-deb -x`, without a shell and without root. A
// package is unpacked beside and renamed, so what is there is complete; it is not fetched again. Private.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

#include "attune/train/fetch.hpp"

namespace attune::train {

/// A package on the disk, below <data>/<name>.
struct UnpackedPackage {
  std::filesystem::path folder;
  std::string version;
  bool was_there = false;  // nothing had to be downloaded
};

/// Makes sure that a package lies below `data_folder` and holds the folder `must_hold` (its path in the package).
/// Errors are those of `function`. `told` hears of a download.
UnpackedPackage unpacked_package(std::string_view function, const std::filesystem::path& data_folder,
                                 const std::string& name, const std::filesystem::path& must_hold,
                                 const FetchProgress& told);

}  // namespace attune::train
