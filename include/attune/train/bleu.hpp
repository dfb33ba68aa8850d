// Corpus BLEU (Papineni et al., "BLEU: a method for automatic evaluation of machine translation", ACL 2002) as
// sacreBLEU computes it by default (Post, arXiv:1804.08771): one reference, case kept, mteval-13a tokens, exponential
// smoothing.
//
//   BLEU = 100 * min(1, exp(1 - reference length / hypothesis length)) * (p1 * p2 * p3 * p4)^(1/4)
//
// pn is the share of the hypotheses' n-grams that occur in the reference, clipped to its count there, over all
// sentences. The k-th order without a match counts 1 / 2^k matches.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace attune::train {

enum class BleuTokens : std::uint8_t {
  mteval_13a,  // words and punctuation, for languages with spaces
  chinese      // sacreBLEU's "zh": each Han character on its own, the rest as 13a
};

struct BleuScore {
  double score = 0;                                          // 0 to 100
  std::array<double, 4> precisions{};                        // p1 to p4, percent, smoothed
  double brevity_penalty = 0;                                // 0 to 1
  std::int64_t hypothesis_length = 0, reference_length = 0;  // tokens
};

/// Throws Error if the counts differ or are 0.
BleuScore corpus_bleu(std::span<const std::string> hypotheses, std::span<const std::string> references,
                      BleuTokens tokens = BleuTokens::mteval_13a);

/// The tokens that are counted, for those who want to look. Text is UTF-8.
std::vector<std::string> bleu_tokens(std::string_view text, BleuTokens tokens = BleuTokens::mteval_13a);

}  // namespace attune::train
