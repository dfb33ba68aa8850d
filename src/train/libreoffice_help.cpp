#include "attune/train/libreoffice_help.hpp"

#include <fmt/format.h>
#include <md5.h>

#include <algorithm>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"
#include "attune/io/atomic_file.hpp"
#include "train/unicode.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxSourceWords = 60, kMaxTargetCharacters = 150, kMinRatedWords = 3, kMinTestWords = 3;
constexpr double kCharactersPerWord = 1.6;  // of Chinese text, for one word of English

/// What this reader found in one version of a package.
struct Recorded {
  std::string_view source, target, version;
  HelpCounts counts;
};
constexpr Recorded kRecorded[] = {
    {"en-US", "de", "4:7.4.7-1+deb12u14", {.pages = 2560, .pairs = 43122, .train = 39682, .valid = 1555, .test = 1410}},
    {"en-US",
     "zh-CN",
     "4:7.4.7-1+deb12u14",
     {.pages = 2560, .pairs = 27329, .train = 25138, .valid = 829, .test = 1026}},
};

bool has_full_width_marks(std::string_view language) { return language.starts_with("zh") || language == "ja"; }

/// Paths of the pages below a folder, relative to it, sorted by bytes.
std::set<std::string> find_pages(const fs::path& folder) {
  std::error_code error;
  fs::recursive_directory_iterator entries(folder, error);
  if (error) fail("read_libreoffice_help", "a folder of pages " + folder.string(), error.message());
  std::set<std::string> paths;
  for (; entries != fs::recursive_directory_iterator(); entries.increment(error)) {
    if (error) fail("read_libreoffice_help", "a folder of pages " + folder.string(), error.message());
    if (entries->path().extension() == ".html")
      paths.insert(entries->path().lexically_relative(folder).generic_string());
  }
  return paths;
}

std::vector<HelpParagraph> read_page(const fs::path& path) {
  const std::string html = io::read_file(path);
  try {
    return read_help_page(html);
  } catch (const Error& error) {
    fail("read_libreoffice_help", "a page " + path.string(), error.what());
  }
}

bool is_clean(const SentencePair& pair, bool in_characters) {
  if (pair.source == pair.target) return false;
  const auto source_words = std::int64_t(unicode::words(pair.source).size());
  if (source_words < 1 || source_words > kMaxSourceWords || pair.target.empty()) return false;
  const std::int64_t characters = unicode::length(pair.target);
  if (in_characters && characters > kMaxTargetCharacters) return false;
  const double target_words =
      in_characters ? double(characters) / kCharactersPerWord : double(unicode::words(pair.target).size());
  const double ratio = target_words / double(source_words);
  if (source_words >= kMinRatedWords && (ratio < 0.5 || ratio > 2)) return false;
  const auto is_letter = [](char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); };
  return std::count_if(pair.source.begin(), pair.source.end(), is_letter) >= 2;
}

/// The clean pairs of one page.
std::vector<SentencePair> pair_page(const std::vector<HelpParagraph>& sources,
                                    const std::vector<HelpParagraph>& targets, bool full_width) {
  std::unordered_map<std::string_view, std::string_view> target_of;
  for (const HelpParagraph& paragraph : targets) target_of.emplace(paragraph.id, paragraph.text);
  std::vector<SentencePair> pairs;
  const auto take = [&](std::string_view source, std::string_view target) {
    SentencePair pair{unicode::nfc(source), unicode::nfc(target)};
    if (is_clean(pair, full_width)) pairs.push_back(std::move(pair));
  };
  for (const HelpParagraph& paragraph : sources) {
    const auto found = target_of.find(paragraph.id);
    if (found == target_of.end() || found->second == paragraph.text) continue;
    const std::vector<std::string> ours = split_sentences(paragraph.text),
                                   theirs = split_sentences(found->second, full_width);
    if (ours.size() != theirs.size())
      take(paragraph.text, found->second);
    else
      for (std::size_t i = 0; i < ours.size(); ++i) take(ours[i], theirs[i]);
  }
  return pairs;
}

enum class Part : std::uint8_t { train, valid, test };

Part part_of(const std::string& page) {
  MD5_CTX state;
  MD5Init(&state);
  MD5Update(&state, reinterpret_cast<const std::uint8_t*>(page.data()), page.size());
  std::uint8_t digest[MD5_DIGEST_LENGTH];
  MD5Final(digest, &state);
  return digest[0] <= 12 ? Part::test : digest[0] <= 25 ? Part::valid : Part::train;
}

/// Drops pairs that occur before, in lower case; a pair that train and another part share belongs to train.
void drop_repeats(std::array<std::vector<SentencePair>, 3>& parts) {
  std::unordered_set<std::string> seen;
  for (std::vector<SentencePair>& part : parts)
    std::erase_if(part, [&](const SentencePair& pair) {
      return !seen.insert(unicode::lower(pair.source) + '\t' + unicode::lower(pair.target)).second;
    });
}

/// Nothing that is measured may have been learned: neither its source nor its target, and no source is asked twice.
void drop_learned(std::array<std::vector<SentencePair>, 3>& parts) {
  std::unordered_set<std::string> known_sources, known_targets, asked;
  for (const SentencePair& pair : parts[0]) {
    known_sources.insert(unicode::lower(pair.source));
    known_targets.insert(unicode::lower(pair.target));
  }
  for (std::size_t part = 1; part < 3; ++part)
    std::erase_if(parts[part], [&](const SentencePair& pair) {
      const std::string source = unicode::lower(pair.source);
      return known_sources.contains(source) || known_targets.contains(unicode::lower(pair.target)) ||
             std::int64_t(unicode::words(pair.source).size()) < kMinTestWords || !asked.insert(source).second;
    });
}

}  // namespace

ParallelText read_libreoffice_help(const std::filesystem::path& source_pages, const std::filesystem::path& target_pages,
                                   std::string_view target_language, HelpCounts* counts) {
  const std::set<std::string> source_paths = find_pages(source_pages), target_paths = find_pages(target_pages);
  std::vector<std::string> pages;
  std::set_intersection(source_paths.begin(), source_paths.end(), target_paths.begin(), target_paths.end(),
                        std::back_inserter(pages));
  const bool full_width = has_full_width_marks(target_language);
  std::vector<std::vector<SentencePair>> pairs_of(pages.size());
  parallel_for(std::int64_t(pages.size()), [&](std::int64_t i) {
    const std::string& page = pages[std::size_t(i)];
    pairs_of[std::size_t(i)] = pair_page(read_page(source_pages / page), read_page(target_pages / page), full_width);
  });

  std::array<std::vector<SentencePair>, 3> parts;
  for (std::size_t i = 0; i < pages.size(); ++i) {
    std::vector<SentencePair>& part = parts[std::size_t(part_of(pages[i]))];
    std::move(pairs_of[i].begin(), pairs_of[i].end(), std::back_inserter(part));
  }
  drop_repeats(parts);
  HelpCounts found;
  found.pages = std::int64_t(pages.size());
  for (const std::vector<SentencePair>& part : parts) found.pairs += std::int64_t(part.size());
  drop_learned(parts);
  found.train = std::int64_t(parts[0].size());
  found.valid = std::int64_t(parts[1].size());
  found.test = std::int64_t(parts[2].size());
  if (counts != nullptr) *counts = found;
  if (found.train == 0)
    fail("read_libreoffice_help",
         fmt::format("paragraphs that {} and {} share", source_pages.string(), target_pages.string()),
         fmt::format("{} common pages without a pair to train on", found.pages));
  return {std::move(parts[0]), std::move(parts[1]), std::move(parts[2])};
}

PreparedTranslation prepare_translation(const std::filesystem::path& data_folder,
                                        const std::array<std::string, 2>& languages, const FetchProgress& progress) {
  PreparedTranslation prepared;
  prepared.packages = fetch_translation(data_folder, languages, progress);
  prepared.folder = data_folder / fmt::format("translation-{}-{}", languages[0], languages[1]);
  prepared.text =
      read_libreoffice_help(prepared.packages[0].pages, prepared.packages[1].pages, languages[1], &prepared.counts);
  for (const Recorded& recorded : kRecorded) {
    if (recorded.source != languages[0] || recorded.target != languages[1] || recorded.counts == prepared.counts)
      continue;
    const auto text = [](const HelpCounts& c) {
      return fmt::format("{} pairs, {} train, {} valid, {} test of {} pages", c.pairs, c.train, c.valid, c.test,
                         c.pages);
    };
    prepared.warnings.push_back(fmt::format("{} {} gives {}; recorded for {} were {}", prepared.packages[1].name,
                                            prepared.packages[1].version, text(prepared.counts), recorded.version,
                                            text(recorded.counts)));
  }
  write_parallel_text(prepared.folder, prepared.text);
  return prepared;
}

}  // namespace attune::train
