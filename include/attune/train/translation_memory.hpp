// The baseline that a translator has to beat: for each sentence, look up the most similar sentence of the training data
// and answer with its translation. Similarity is the Dice coefficient over sets of lower-case words, 2 |A and B| / (|A|
// + |B|); of equally similar sentences the first wins.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "attune/train/parallel_text.hpp"

namespace attune::train {

class TranslationMemory {
 public:
  /// Builds the index from words to sentences. Throws Error if there are no pairs.
  explicit TranslationMemory(std::span<const SentencePair> pairs);

  struct Match {
    std::int64_t pair = 0;  // index in the pairs
    double dice = 0;        // 0 to 1
  };
  /// The most similar source; with no word in common, pair 0 at 0.
  Match find(std::string_view source) const;
  /// The target of the most similar source.
  const std::string& translate(std::string_view source) const { return targets_[std::size_t(find(source).pair)]; }
  /// All of them, in parallel, in order.
  std::vector<std::string> translate(std::span<const std::string> sources) const;

 private:
  std::vector<std::string> targets_;
  std::vector<std::int32_t> num_words_;  // different words of each source
  std::unordered_map<std::string, std::int32_t> word_ids_;
  std::vector<std::vector<std::int32_t>> sentences_with_;  // [word] -> pairs, rising
};

}  // namespace attune::train
