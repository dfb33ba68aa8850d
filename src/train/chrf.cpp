#include "attune/train/chrf.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "attune/base/error.hpp"
#include "train/unicode.hpp"

namespace attune::train {
namespace {

constexpr std::size_t kCharacterOrders = 6;
constexpr double kBetaSquared = 4;

/// A text without white space, and where its characters begin (one place more than characters).
struct Characters {
  std::string text;
  std::vector<std::size_t> begins;

  explicit Characters(std::string_view line) {
    unicode::for_each(line, [&](std::int32_t c, std::size_t at, std::int64_t bytes) {
      if (unicode::is_space(c)) return;
      begins.push_back(text.size());
      text.append(line.substr(at, std::size_t(bytes)));
    });
    begins.push_back(text.size());
  }

  std::unordered_map<std::string_view, std::int64_t> count_ngrams(std::size_t order) const {
    std::unordered_map<std::string_view, std::int64_t> counts;
    for (std::size_t i = 0; i + order < begins.size(); ++i)
      ++counts[std::string_view(text).substr(begins[i], begins[i + order] - begins[i])];
    return counts;
  }
};

}  // namespace

double corpus_chrf(std::span<const std::string> hypotheses, std::span<const std::string> references) {
  if (hypotheses.size() != references.size() || hypotheses.empty())
    fail("corpus_chrf", "as many references as hypotheses, at least one",
         fmt::format("{} and {}", references.size(), hypotheses.size()));
  std::array<std::int64_t, kCharacterOrders> in_hypotheses{}, in_references{}, matches{};
  for (std::size_t i = 0; i < hypotheses.size(); ++i) {
    const Characters hypothesis(hypotheses[i]), reference(references[i]);
    for (std::size_t order = 1; order <= kCharacterOrders; ++order) {
      const auto known = reference.count_ngrams(order);
      // A reference too short for this order cannot be matched; the hypothesis is not charged for it.
      if (known.empty()) continue;
      for (const auto& [ngram, count] : known) in_references[order - 1] += count;
      for (const auto& [ngram, count] : hypothesis.count_ngrams(order)) {
        in_hypotheses[order - 1] += count;
        if (const auto found = known.find(ngram); found != known.end())
          matches[order - 1] += std::min(count, found->second);
      }
    }
  }
  double precision = 0, recall = 0;
  int orders = 0;
  for (std::size_t order = 0; order < kCharacterOrders; ++order) {
    if (in_hypotheses[order] == 0 || in_references[order] == 0) continue;
    precision += double(matches[order]) / double(in_hypotheses[order]);
    recall += double(matches[order]) / double(in_references[order]);
    ++orders;
  }
  if (precision + recall == 0) return 0;
  precision /= orders;
  recall /= orders;
  return 100 * (1 + kBetaSquared) * precision * recall / (kBetaSquared * precision + recall);
}

}  // namespace attune::train
