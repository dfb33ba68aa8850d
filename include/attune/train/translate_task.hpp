// The translation task: from a recipe to text, tokenizer and model, and back from a run's folder to a translator.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>

#include "attune/models/seq2seq.hpp"
#include "attune/train/bleu.hpp"
#include "attune/train/config.hpp"
#include "attune/train/fetch.hpp"
#include "attune/train/parallel_text.hpp"
#include "attune/train/run_files.hpp"
#include "attune/train/tokenizer.hpp"
#include "attune/train/translator.hpp"

namespace attune::train {

/// The text of a task and where it lies.
struct TaskText {
  ParallelText text;
  std::filesystem::path folder;  // absolute; holds train.tsv, valid.tsv, test.tsv
  std::string sha256;            // of the training pairs: what a resumed run must find again
};

/// The text that a recipe names. "libreoffice-help" is read from its TSV files, or fetched and prepared below
/// `data_folder` first; "tsv" lies in the recipe's folder. `told` hears of fetching and of warnings.
TaskText task_text(const RunConfig& config, const std::filesystem::path& data_folder, const FetchProgress& told = {});

/// The tokenizer that a recipe describes, trained on both sides of the training pairs.
Tokenizer task_tokenizer(const RunConfig& config, const ParallelText& text);

/// The model that a recipe describes, for a vocabulary of this size. Throws Error for a mechanism that a
/// sequence-to-sequence Transformer cannot take from a recipe.
models::Seq2SeqOptions model_options(const RunConfig& config, std::int64_t vocab_size);

/// A run that can translate: its tokenizer and the weights of its last checkpoint.
/// Throws Error if the folder is no run or has no checkpoint yet.
Translator load_translator(const std::filesystem::path& run);
/// The text that a run was trained on. Throws Error if it is not where it was.
ParallelText load_text(const std::filesystem::path& run);
/// How BLEU counts the tokens of a run's target language.
BleuTokens run_bleu_tokens(const std::filesystem::path& run);

}  // namespace attune::train
