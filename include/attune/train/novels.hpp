// Six English novels of the early 19th century, public domain: text for a model of characters. Debian ships them as
// r-cran-janeaustenr; each novel is a vector of lines. Lines are joined by line breaks, three or more of which become
// two, and novels by two.
//
//   train  emma, mansfieldpark, prideprejudice, sensesensibility;  valid  northangerabbey;  test  persuasion
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "attune/train/fetch.hpp"

namespace attune::train {

/// Text in three parts, UTF-8, and where it lies.
struct SplitText {
  std::string train, valid, test;
  std::filesystem::path folder;  // holds train.txt, valid.txt, test.txt
};

/// Reads the three files of a folder. Throws Error if one is missing, empty or not UTF-8.
SplitText read_split_text(const std::filesystem::path& folder);

struct PreparedNovels {
  SplitText text;                     // in <data>/novels
  std::string version;                // of the package
  bool was_there = false;             // nothing had to be downloaded
  std::string sha256;                 // hex, of the package's Rdata.rdb
  std::vector<std::string> warnings;  // a sum that differs from the recorded one, with both
};

/// Fetches the package unless it is there, reads it, and writes the three files beside and renamed.
PreparedNovels prepare_novels(const std::filesystem::path& data_folder, const FetchProgress& told = {});

}  // namespace attune::train
