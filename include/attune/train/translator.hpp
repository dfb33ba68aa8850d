// A translator of text: a Seq2SeqTransformer between a tokenizer's pieces. Sentences are translated many at a time,
// batched by length; the result does not depend on which others stand beside it (up to rounding).
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "attune/models/seq2seq.hpp"
#include "attune/train/attention_page.hpp"
#include "attune/train/tokenizer.hpp"

namespace attune::train {

struct TranslateOptions {
  models::SearchOptions search;      // greedy
  std::int64_t batch_tokens = 2048;  // source tokens that are translated at once, padding included
  double length_ratio = 1.6;         // a translation has at most length_ratio * (source tokens) + length_extra tokens
  std::int64_t length_extra = 10;
};

struct Translation {
  std::string text;
  std::vector<std::int32_t> ids;  // pieces, without begin and end
  double score = 0;               // of the search, nats
  bool finished = true;           // false: cut off at its greatest length
};

class Translator {
 public:
  /// Throws Error if the model's vocabulary is not the tokenizer's.
  Translator(std::shared_ptr<models::Seq2SeqTransformer> model, Tokenizer tokenizer);

  /// In the order of the sources. A source without a piece gives an empty translation.
  std::vector<Translation> translate(std::span<const std::string> sources, const TranslateOptions& options = {}) const;
  std::vector<std::string> translate_texts(std::span<const std::string> sources,
                                           const TranslateOptions& options = {}) const;
  std::string translate(const std::string& source, const TranslateOptions& options = {}) const;

  /// Translates a sentence and collects the attention of every layer and head while the translation is written.
  /// Throws Error for an empty sentence.
  AttentionPage open_up(const std::string& source, const TranslateOptions& options = {}) const;

  models::Seq2SeqTransformer& model() const { return *model_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }

 private:
  std::shared_ptr<models::Seq2SeqTransformer> model_;
  Tokenizer tokenizer_;
};

}  // namespace attune::train
