// The language-model task: the next character of a text, by a decoder-only Transformer ("gpt").
//
// [data] source = "novels": six novels (train/novels.hpp), fetched once; source = "text": train.txt, valid.txt and
// test.txt in `folder`. The metric is bits per character: the mean of -log2 p(character | those before it).
#pragma once
#include <filesystem>
#include <memory>
#include <string>

#include "attune/train/alphabet.hpp"
#include "attune/train/gpt_learner.hpp"
#include "attune/train/novels.hpp"
#include "attune/train/text_stream.hpp"

namespace attune::train {

class LanguageLearner : public GptLearner {
 public:
  LanguageLearner(std::shared_ptr<models::Gpt> model, TextStream stream, std::vector<TokenBatch> valid,
                  const LossTerms& terms = {}, TaskFacts facts = {})
      : GptLearner(std::move(model), std::move(valid), terms, std::move(facts)), stream_(std::move(stream)) {}
  BatchCursor cursor() const override { return stream_.cursor(); }
  void seek(const BatchCursor& cursor) override { stream_.seek(cursor); }
  void skip(std::int64_t micro_batches) override { stream_.skip(micro_batches); }
  double batches_an_epoch() const override { return double(stream_.batches_in_epoch()); }
  double tokens_a_batch() const override { return double(stream_.options().rows * stream_.options().length); }

 protected:
  TokenBatch next() override { return stream_.next(); }

 private:
  TextStream stream_;
};

/// The text that a recipe names; "novels" is fetched below `data_folder` where it is not there yet.
SplitText language_text(const RunConfig& config, const std::filesystem::path& data_folder,
                        const FetchProgress& told = {});

/// The learner that a recipe of the task "language-model" describes. Its validation loss is over windows spread evenly
/// over the validation text, 16,384 characters at most.
std::unique_ptr<Learner> make_language_learner(const RunConfig& config, const TaskContext& context);

/// A trained model of characters, and what it read.
struct LanguageModel {
  std::shared_ptr<models::Gpt> model;  // in evaluation mode
  Alphabet alphabet;
};
/// Of a run's last checkpoint. Throws Error if the folder is no run of this task or has no checkpoint yet.
LanguageModel load_language_model(const std::filesystem::path& run);
/// The text that a run was trained on. Throws Error if it is not where it was.
SplitText load_language_text(const std::filesystem::path& run);

struct LanguageScore {
  std::int64_t characters = 0;  // scored: all but the first
  std::int64_t unknown = 0;     // of which the alphabet does not have
  double bits_per_character = 0;
  double seconds = 0;
};
/// Every character but the first is scored once, given at least context / 2 characters before it (fewer where the text
/// begins). Throws Error for a text of fewer than two characters.
LanguageScore score_text(const LanguageModel& model, std::string_view text);

}  // namespace attune::train
