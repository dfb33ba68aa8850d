// From a Debian package of R data to three text files.
#include "attune/train/novels.hpp"

#include <fmt/format.h>

#include <array>
#include <string_view>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/rdata.hpp"
#include "train/debian_package.hpp"
#include "train/sha256.hpp"
#include "train/unicode.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kNovelsPackage = "r-cran-janeaustenr";
constexpr std::string_view kNovelsSum = "8fb5198960d0da724b1562f96e4221e5c1b41ff455000280b02c55980c3d8f21";

/// Lines joined by line breaks; never more than two of these in a row.
std::string joined(const RObject& lines, std::string_view name) {
  if (lines.texts.empty()) fail("prepare_novels", fmt::format("lines of {}", name), "there are none");
  std::string text;
  bool first = true;
  for (const std::string& line : lines.texts) {
    if (unicode::first_invalid(line) >= 0) fail("prepare_novels", fmt::format("UTF-8 in {}", name), "other bytes");
    if (!first && !text.ends_with("\n\n")) text += '\n';
    text += line;
    first = false;
  }
  return text;
}

}  // namespace

SplitText read_split_text(const fs::path& folder) {
  SplitText text;
  text.folder = fs::absolute(folder).lexically_normal();
  for (const auto& [name, part] :
       {std::pair{"train.txt", &text.train}, {"valid.txt", &text.valid}, {"test.txt", &text.test}}) {
    *part = io::read_file(folder / name);
    const std::string where = (folder / name).string();
    if (part->empty()) fail("read_split_text", fmt::format("text in {}", where), "it is empty");
    if (const std::int64_t at = unicode::first_invalid(*part); at >= 0)
      fail("read_split_text", fmt::format("UTF-8 in {}", where), fmt::format("other bytes at {}", at));
  }
  return text;
}

PreparedNovels prepare_novels(const fs::path& data_folder, const FetchProgress& told) {
  const fs::path inside = "usr/lib/R/site-library/janeaustenr/data";
  const UnpackedPackage package =
      unpacked_package("prepare_novels", data_folder, std::string(kNovelsPackage), inside, told);
  PreparedNovels out;
  out.version = package.version;
  out.was_there = package.was_there;
  const fs::path stem = package.folder / inside / "Rdata";
  out.sha256 = sha256_hex(io::read_file(stem.string() + ".rdb"));
  if (out.sha256 != kNovelsSum)
    out.warnings.push_back(fmt::format("{} has sha256 {}, recorded is {}", kNovelsPackage, out.sha256, kNovelsSum));
  const RDatabase novels(stem);
  const auto text_of = [&](std::initializer_list<const char*> names) {
    std::string text;
    for (const char* name : names) text += (text.empty() ? "" : "\n\n") + joined(novels.read(name), name);
    return text;
  };
  out.text.train = text_of({"emma", "mansfieldpark", "prideprejudice", "sensesensibility"});
  out.text.valid = text_of({"northangerabbey"});
  out.text.test = text_of({"persuasion"});
  out.text.folder = data_folder / "novels";
  std::error_code error;
  fs::create_directories(out.text.folder, error);
  if (error) fail("prepare_novels", fmt::format("a folder {}", out.text.folder.string()), error.message());
  io::write_file(out.text.folder / "train.txt", out.text.train);
  io::write_file(out.text.folder / "valid.txt", out.text.valid);
  io::write_file(out.text.folder / "test.txt", out.text.test);
  out.text.folder = fs::absolute(out.text.folder).lexically_normal();
  return out;
}

}  // namespace attune::train
