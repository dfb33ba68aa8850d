#include "attune/train/translation_memory.hpp"

#include <algorithm>
#include <set>

#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"
#include "train/unicode.hpp"

namespace attune::train {
namespace {

constexpr std::int64_t kGrain = 32;  // sentences a task

std::set<std::string> word_set(std::string_view text) {
  const std::string lower = unicode::lower(text);
  std::set<std::string> found;
  for (const std::string_view word : unicode::words(lower)) found.emplace(word);
  return found;
}

}  // namespace

TranslationMemory::TranslationMemory(std::span<const SentencePair> pairs) {
  if (pairs.empty()) fail("TranslationMemory", "at least one pair", "there is none");
  for (const SentencePair& pair : pairs) {
    const std::set<std::string> words = word_set(pair.source);
    for (const std::string& word : words) {
      const auto [place, is_new] = word_ids_.try_emplace(word, std::int32_t(word_ids_.size()));
      if (is_new) sentences_with_.emplace_back();
      sentences_with_[std::size_t(place->second)].push_back(std::int32_t(targets_.size()));
    }
    num_words_.push_back(std::int32_t(words.size()));
    targets_.push_back(pair.target);
  }
}

TranslationMemory::Match TranslationMemory::find(std::string_view source) const {
  const std::set<std::string> words = word_set(source);
  std::vector<std::int32_t> shared(targets_.size(), 0);
  for (const std::string& word : words)
    if (const auto found = word_ids_.find(word); found != word_ids_.end())
      for (const std::int32_t sentence : sentences_with_[std::size_t(found->second)]) ++shared[std::size_t(sentence)];
  Match best;
  for (std::size_t i = 0; i < shared.size(); ++i) {
    if (shared[i] == 0) continue;
    const double dice = 2.0 * shared[i] / double(std::int64_t(words.size()) + num_words_[i]);
    if (dice > best.dice) best = {.pair = std::int64_t(i), .dice = dice};
  }
  return best;
}

std::vector<std::string> TranslationMemory::translate(std::span<const std::string> sources) const {
  std::vector<std::string> found(sources.size());
  parallel_ranges(std::int64_t(sources.size()), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = std::size_t(begin); i < std::size_t(end); ++i) found[i] = translate(sources[i]);
  });
  return found;
}

}  // namespace attune::train
