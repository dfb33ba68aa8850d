// Text as files: pairs of sentences as TSV (source TAB target, one pair a line) and plain text (one sentence a line).
// Everything read is checked: UTF-8 throughout, a TAB where one belongs, at least one line. Errors name file and line.
#pragma once
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace attune::train {

/// A sentence and its translation, both UTF-8 without TAB or line break.
struct SentencePair {
  std::string source, target;
  friend bool operator==(const SentencePair&, const SentencePair&) = default;
};

/// What a model learns from, what is looked at while it learns, and what is touched once.
struct ParallelText {
  std::vector<SentencePair> train, valid, test;
};

/// Reads "source TAB target" lines; "\r\n" ends a line as "\n" does.
/// Throws Error, naming file and line, for a missing or empty file, a line without exactly one TAB, an empty side or
/// invalid UTF-8.
std::vector<SentencePair> read_tsv(const std::filesystem::path& path);

/// Writes what read_tsv reads, beside and renamed. Throws Error for a TAB or line break inside a sentence.
void write_tsv(const std::filesystem::path& path, std::span<const SentencePair> pairs);

/// Reads lines of plain text; empty lines are kept, so that line n answers line n of another file.
/// Throws Error, naming file and line, for a missing or empty file or invalid UTF-8.
std::vector<std::string> read_lines(const std::filesystem::path& path);

/// Reads train.tsv, valid.tsv and test.tsv of a folder.
ParallelText read_parallel_text(const std::filesystem::path& folder);
/// Writes them; the folder is created where it is missing.
void write_parallel_text(const std::filesystem::path& folder, const ParallelText& text);

/// Copies of one side, in order.
std::vector<std::string> sources(std::span<const SentencePair> pairs);
std::vector<std::string> targets(std::span<const SentencePair> pairs);

}  // namespace attune::train
