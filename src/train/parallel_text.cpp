#include "attune/train/parallel_text.hpp"

#include <fmt/format.h>

#include <string_view>
#include <system_error>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "train/unicode.hpp"

namespace attune::train {
namespace {

/// Calls f(line, number from 1) for each line; checks what both readers promise.
template <class F>
void for_each_line(std::string_view function, const std::filesystem::path& path, F&& f) {
  const std::string content = io::read_file(path);
  if (content.empty()) fail(function, fmt::format("lines of text in {}", path.string()), "the file is empty");
  std::string_view rest = content;
  // A byte order mark is no part of the first sentence.
  if (rest.starts_with("\xef\xbb\xbf")) rest.remove_prefix(3);
  for (std::int64_t number = 1; !rest.empty(); ++number) {
    const std::size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (const std::int64_t at = unicode::first_invalid(line); at >= 0)
      fail(function, fmt::format("UTF-8 in {} line {}", path.string(), number), fmt::format("byte {} is not", at + 1));
    f(line, number);
  }
}

}  // namespace

std::vector<SentencePair> read_tsv(const std::filesystem::path& path) {
  std::vector<SentencePair> pairs;
  for_each_line("read_tsv", path, [&](std::string_view line, std::int64_t number) {
    const std::size_t tab = line.find('\t');
    const auto reject = [&](std::string_view finding) {
      fail("read_tsv", fmt::format("source TAB target in {} line {}", path.string(), number), finding);
    };
    if (tab == std::string_view::npos) reject("the line has no TAB; the file may be truncated");
    if (line.find('\t', tab + 1) != std::string_view::npos) reject("the line has more than one TAB");
    if (tab == 0 || tab + 1 == line.size()) reject("one side is empty");
    pairs.push_back({std::string(line.substr(0, tab)), std::string(line.substr(tab + 1))});
  });
  return pairs;
}

void write_tsv(const std::filesystem::path& path, std::span<const SentencePair> pairs) {
  io::AtomicFile file(path);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    for (const std::string* side : {&pairs[i].source, &pairs[i].target})
      if (side->empty() || side->find_first_of("\t\n\r") != std::string::npos)
        fail("write_tsv", "sentences that are not empty and hold no TAB or line break",
             fmt::format("pair {} of {} does not", i + 1, path.string()));
    file.write(pairs[i].source);
    file.write("\t");
    file.write(pairs[i].target);
    file.write("\n");
  }
  file.commit();
}

std::vector<std::string> read_lines(const std::filesystem::path& path) {
  std::vector<std::string> lines;
  for_each_line("read_lines", path, [&](std::string_view line, std::int64_t) { lines.emplace_back(line); });
  return lines;
}

ParallelText read_parallel_text(const std::filesystem::path& folder) {
  return {.train = read_tsv(folder / "train.tsv"),
          .valid = read_tsv(folder / "valid.tsv"),
          .test = read_tsv(folder / "test.tsv")};
}

void write_parallel_text(const std::filesystem::path& folder, const ParallelText& text) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail("write_parallel_text", fmt::format("a folder {}", folder.string()), error.message());
  write_tsv(folder / "train.tsv", text.train);
  write_tsv(folder / "valid.tsv", text.valid);
  write_tsv(folder / "test.tsv", text.test);
}

std::vector<std::string> sources(std::span<const SentencePair> pairs) {
  std::vector<std::string> side;
  side.reserve(pairs.size());
  for (const SentencePair& pair : pairs) side.push_back(pair.source);
  return side;
}

std::vector<std::string> targets(std::span<const SentencePair> pairs) {
  std::vector<std::string> side;
  side.reserve(pairs.size());
  for (const SentencePair& pair : pairs) side.push_back(pair.target);
  return side;
}

}  // namespace attune::train
