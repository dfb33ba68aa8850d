// Sentence pairs from the help pages of LibreOffice: every paragraph carries an id that is the same in all languages.
//
// 1. A paragraph is <p>, <h1>..<h6>, <td> or <li> with an id that begins par_ or hd_; its key is (page path, id). Text
// in
//    <script>, <style> and <span class="MAC"> is dropped, <br> is a space, white space collapses.
// 2. Paragraphs are joined on the key. Equal sides are untranslated and dropped. If both sides split into the same
// number
//    of sentences, the sentences are paired, else the paragraphs.
// 3. Clean: NFC; sides differ; 1..60 source words; target length 0.5..2 times the source's from 3 words up; 2 Latin
//    letters in the source. Chinese: at most 150 characters, 1.6 of which count as a word.
// 4. Split by page, with the first byte of md5(page path): 0-12 test, 13-25 valid, else train. A pair that occurs twice
//    (in lower case) stays once, in train if it is there, else in valid. Pairs of valid and test leave if they are
//    shorter than 3 source words, if their source or target, in lower case, occurs in train, or if their source was
//    asked before.
//
// The pages themselves are fetched by train/fetch.hpp and never kept in the repository (MPL-2.0).
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "attune/train/fetch.hpp"
#include "attune/train/parallel_text.hpp"

namespace attune::train {

/// One paragraph of a page.
struct HelpParagraph {
  std::string id, text;  // "par_id3149398"; one line of UTF-8
};

/// The paragraphs of a page in the order of the page; the first of equal ids wins. Empty paragraphs are left out.
std::vector<HelpParagraph> read_help_page(std::string_view html);

/// Splits at white space that follows one of .!? and precedes an upper-case letter; for Chinese (`full_width`) after
/// each of the full-width marks.
std::vector<std::string> split_sentences(std::string_view paragraph, bool full_width = false);

struct HelpCounts {
  std::int64_t pages = 0;  // that occur in both languages
  std::int64_t pairs = 0;  // clean and different, before valid and test are thinned
  std::int64_t train = 0, valid = 0, test = 0;
  friend bool operator==(const HelpCounts&, const HelpCounts&) = default;
};

/// Reads both folders of pages (HTML below, at any depth). `target_language` decides how sentences end ("zh-CN", "ja":
/// full- width marks, lengths in characters). Throws Error if a folder is missing, a page is not UTF-8 or nothing is
/// left.
ParallelText read_libreoffice_help(const std::filesystem::path& source_pages, const std::filesystem::path& target_pages,
                                   std::string_view target_language, HelpCounts* counts = nullptr);

/// The data of a translation task, ready to be learned from.
struct PreparedTranslation {
  std::filesystem::path folder;            // <data>/translation-<source>-<target>, holds train.tsv, valid.tsv, test.tsv
  std::array<FetchedPackage, 2> packages;  // source, target
  HelpCounts counts;
  std::vector<std::string> warnings;  // counts that differ from the recorded ones, with both numbers
  ParallelText text;
};

/// Fetches where needed, reads, and writes the three TSV files beside and renamed. Known languages have recorded
/// counts; a difference (a new point release of the package) is a warning.
PreparedTranslation prepare_translation(const std::filesystem::path& data_folder,
                                        const std::array<std::string, 2>& languages,
                                        const FetchProgress& progress = {});

}  // namespace attune::train
