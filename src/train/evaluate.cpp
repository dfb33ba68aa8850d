// Scores of a translator and of what it has to beat.
#include "attune/train/evaluate.hpp"

#include <chrono>

#include "attune/autograd/ops/loss.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "attune/train/chrf.hpp"
#include "attune/train/translation_memory.hpp"

namespace attune::train {
namespace {

/// Evaluation mode for a while.
class Evaluating {
 public:
  explicit Evaluating(nn::Module& module) : module_(module), before_(module.training()) { module.eval(); }
  ~Evaluating() { module_.train(before_); }
  Evaluating(const Evaluating&) = delete;
  Evaluating& operator=(const Evaluating&) = delete;

 private:
  NoGrad no_grad_;
  nn::Module& module_;
  bool before_;
};

}  // namespace

BleuTokens bleu_tokens_for(std::string_view target_language) {
  return target_language.starts_with("zh") ? BleuTokens::chinese : BleuTokens::mteval_13a;
}

Scores score(std::span<const std::string> hypotheses, std::span<const std::string> references, BleuTokens tokens) {
  return {corpus_bleu(hypotheses, references, tokens).score, corpus_chrf(hypotheses, references)};
}

Evaluation evaluate(const Translator& translator, std::span<const SentencePair> pairs,
                    std::span<const SentencePair> train, BleuTokens tokens, const TranslateOptions& options) {
  if (pairs.empty()) fail("evaluate", "pairs to translate", "none");
  const std::vector<std::string> from = sources(pairs), references = targets(pairs);
  Evaluation out;
  out.sentences = std::int64_t(pairs.size());
  const auto start = std::chrono::steady_clock::now();
  out.translations = translator.translate_texts(from, options);
  out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  out.model = score(out.translations, references, tokens);
  out.copy = score(from, references, tokens);
  out.memory = score(TranslationMemory(train).translate(from), references, tokens);
  return out;
}

double mean_loss(models::Seq2SeqTransformer& model, std::span<const TokenPair> pairs, std::int64_t batch_tokens) {
  if (pairs.empty()) fail("mean_loss", "pairs to look at", "none");
  const Evaluating evaluating(model);
  double sum = 0;
  std::int64_t tokens = 0;
  for (const std::vector<std::int64_t>& which : plan_in_order_of_length(pairs, batch_tokens)) {
    const Batch batch = make_batch(pairs, which);
    const Shape target_shape{batch.num_pairs, batch.target_length};
    const Tensor loss = cross_entropy(
        model(Ids(batch.source, {batch.num_pairs, batch.source_length}), Ids(batch.target_in, target_shape)),
        Ids(batch.target_out, target_shape), {.ignore_index = kPaddingId, .reduction = Reduction::sum});
    sum += loss.item();
    for (const std::int32_t length : batch.target_lengths) tokens += length;
  }
  return sum / double(tokens);
}

}  // namespace attune::train
