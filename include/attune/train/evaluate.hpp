// How good a translator is: BLEU and chrF of its translations, beside two baselines that have learned nothing.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "attune/train/batches.hpp"
#include "attune/train/bleu.hpp"
#include "attune/train/parallel_text.hpp"
#include "attune/train/translator.hpp"

namespace attune::train {

/// The two metrics, each 0 to 100.
struct Scores {
  double bleu = 0, chrf = 0;
};

struct Evaluation {
  std::int64_t sentences = 0;
  Scores model;
  Scores copy;                            // the source, as it is
  Scores memory;                          // the target of the most similar source of the training data
  double seconds = 0;                     // that translating took
  std::vector<std::string> translations;  // in the order of the pairs
};

/// BLEU tokens for a target language: chinese for "zh...", else mteval_13a.
BleuTokens bleu_tokens_for(std::string_view target_language);
Scores score(std::span<const std::string> hypotheses, std::span<const std::string> references, BleuTokens tokens);

/// Translates all sources and scores them against the targets. Throws Error if either list is empty.
Evaluation evaluate(const Translator& translator, std::span<const SentencePair> pairs,
                    std::span<const SentencePair> train, BleuTokens tokens, const TranslateOptions& options = {});

/// Mean cross-entropy of the target tokens in nats, without smoothing and dropout.
double mean_loss(models::Seq2SeqTransformer& model, std::span<const TokenPair> pairs, std::int64_t batch_tokens);

}  // namespace attune::train
