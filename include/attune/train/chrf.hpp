// Corpus chrF (Popovic, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015) as sacreBLEU computes
// it by default: character n-grams up to 6, no word n-grams, white space removed, beta = 2, case kept.
//
//   chrF = 100 * (1 + beta^2) P R / (beta^2 P + R)
//
// P and R are the means over n of precision and recall of the n-grams over all sentences; an order of which one side
// has no n-gram is left out of the means.
#pragma once
#include <span>
#include <string>

namespace attune::train {

/// 0 to 100. Throws Error if the counts differ or are 0.
double corpus_chrf(std::span<const std::string> hypotheses, std::span<const std::string> references);

}  // namespace attune::train
