#include "attune/train/bleu.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <utility>

#include "attune/base/error.hpp"
#include "train/unicode.hpp"

namespace attune::train {
namespace {

constexpr std::size_t kWordOrders = 4;

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_point(char c) { return c == '.' || c == ','; }
/// ASCII punctuation and the space, except ' , - . which depend on their neighbours.
bool stands_alone(char c) {
  return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') ||
         (c >= ':' && c <= '@') || c == '/';
}

/// The rules of mteval-13a, one pass each, from left to right and without overlap. Working on bytes is right for UTF-8:
/// every byte of a longer character is "not a digit" and none is a point.
std::string separate_punctuation(std::string_view line) {
  std::string a, b, c, d;
  for (const char x : line) {
    if (stands_alone(x))
      a.append({' ', x, ' '});
    else
      a += x;
  }
  for (std::size_t i = 0; i < a.size(); ++i) {  // a point that no digit precedes
    b += a[i];
    if (!is_digit(a[i]) && i + 1 < a.size() && is_point(a[i + 1])) b.append({' ', a[++i], ' '});
  }
  for (std::size_t i = 0; i < b.size(); ++i) {  // a point that no digit follows
    if (is_point(b[i]) && i + 1 < b.size() && !is_digit(b[i + 1])) {
      c.append({' ', b[i], ' ', b[i + 1]});
      ++i;
    } else {
      c += b[i];
    }
  }
  for (std::size_t i = 0; i < c.size(); ++i) {  // a dash that a digit precedes
    d += c[i];
    if (is_digit(c[i]) && i + 1 < c.size() && c[i + 1] == '-') d.append({' ', c[++i], ' '});
  }
  return d;
}

/// What sacreBLEU's "zh" takes for Chinese: Han, its radicals and strokes, full-width forms, phonetic signs, symbols.
/// It writes two ranges beyond the 16-bit plane as five digits where the language reads four, so they begin with U+2000
/// and U+2F80; equal scores need the ranges as they work: most typographic punctuation stands alone too.
bool is_chinese(std::int32_t c) {
  constexpr std::pair<std::int32_t, std::int32_t> kRanges[] = {
      {0x2001, 0x2a6d}, {0x2e80, 0x2eff}, {0x2f00, 0x2fdf}, {0x2ff0, 0x303f}, {0x3100, 0x312f}, {0x31a0, 0x31bf},
      {0x31c0, 0x31ef}, {0x3200, 0x33ff}, {0x3400, 0x4db5}, {0x4e00, 0x9fbb}, {0xf900, 0xfa2d}, {0xfa30, 0xfa6a},
      {0xfa70, 0xfad9}, {0xfe10, 0xfe1f}, {0xfe30, 0xfe4f}, {0xff00, 0xffef}};
  return std::any_of(std::begin(kRanges), std::end(kRanges),
                     [c](const auto& range) { return c >= range.first && c <= range.second; });
}

using Counts = std::unordered_map<std::string, std::int64_t>;

/// N-grams of one order; tokens hold no space, so a space joins them without ambiguity.
Counts count_ngrams(const std::vector<std::string>& tokens, std::size_t order) {
  Counts counts;
  for (std::size_t i = 0; i + order <= tokens.size(); ++i) {
    std::string ngram = tokens[i];
    for (std::size_t k = 1; k < order; ++k) ngram.append(1, ' ').append(tokens[i + k]);
    ++counts[std::move(ngram)];
  }
  return counts;
}

}  // namespace

std::vector<std::string> bleu_tokens(std::string_view text, BleuTokens tokens) {
  const std::string_view trimmed = unicode::trim(text);
  std::string line;
  if (tokens == BleuTokens::chinese) {
    unicode::for_each(trimmed, [&](std::int32_t c, std::size_t, std::int64_t) {
      const bool alone = is_chinese(c);
      if (alone) line += ' ';
      unicode::append(line, c);
      if (alone) line += ' ';
    });
  } else {
    line = trimmed;
    replace_all(line, "<skipped>", "");
    replace_all(line, "-\n", "");
    replace_all(line, "\n", " ");
    replace_all(line, "&quot;", "\"");
    replace_all(line, "&amp;", "&");
    replace_all(line, "&lt;", "<");
    replace_all(line, "&gt;", ">");
    line = ' ' + line + ' ';
  }
  const std::string separated = separate_punctuation(line);
  std::vector<std::string> found;
  for (const std::string_view word : unicode::words(separated)) found.emplace_back(word);
  return found;
}

BleuScore corpus_bleu(std::span<const std::string> hypotheses, std::span<const std::string> references,
                      BleuTokens tokens) {
  if (hypotheses.size() != references.size() || hypotheses.empty())
    fail("corpus_bleu", "as many references as hypotheses, at least one",
         fmt::format("{} and {}", references.size(), hypotheses.size()));
  BleuScore result;
  std::array<std::int64_t, kWordOrders> matches{}, totals{};
  for (std::size_t i = 0; i < hypotheses.size(); ++i) {
    const std::vector<std::string> hypothesis = bleu_tokens(hypotheses[i], tokens);
    const std::vector<std::string> reference = bleu_tokens(references[i], tokens);
    result.hypothesis_length += std::int64_t(hypothesis.size());
    result.reference_length += std::int64_t(reference.size());
    for (std::size_t order = 1; order <= kWordOrders; ++order) {
      const Counts known = count_ngrams(reference, order);
      for (const auto& [ngram, count] : count_ngrams(hypothesis, order)) {
        totals[order - 1] += count;
        if (const auto found = known.find(ngram); found != known.end())
          matches[order - 1] += std::min(count, found->second);
      }
    }
  }
  if (result.hypothesis_length >= result.reference_length)
    result.brevity_penalty = 1;
  else if (result.hypothesis_length > 0)
    result.brevity_penalty = std::exp(1 - double(result.reference_length) / double(result.hypothesis_length));
  if (std::all_of(matches.begin(), matches.end(), [](std::int64_t n) { return n == 0; })) return result;

  double smoothing = 1, log_sum = 0;
  for (std::size_t order = 0; order < kWordOrders; ++order) {
    // Without any n-gram of this length the geometric mean is 0, and so is the score.
    if (totals[order] == 0) return result;
    double counted = double(matches[order]);
    if (matches[order] == 0) counted = 1 / (smoothing *= 2);
    result.precisions[order] = 100 * counted / double(totals[order]);
    log_sum += std::log(result.precisions[order]);
  }
  result.score = result.brevity_penalty * std::exp(log_sum / double(kWordOrders));
  return result;
}

}  // namespace attune::train
