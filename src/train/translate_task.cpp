// The translation task: text, tokenizer, model.
#include "attune/train/translate_task.hpp"

#include <fmt/format.h>
#include <sha256.h>
#include <sys/types.h>

#include <memory>
#include <vector>

#include "attune/attention/attention.hpp"
#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/checkpoint.hpp"
#include "attune/train/evaluate.hpp"
#include "attune/train/libreoffice_help.hpp"
#include "train/stages_of_recipe.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;

/// Hex, over "source TAB target LF" of all pairs.
std::string sha256_of(const std::vector<SentencePair>& pairs) {
  SHA2_CTX context;
  SHA256Init(&context);
  const auto add = [&](const std::string& text, char end) {
    SHA256Update(&context, reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    SHA256Update(&context, reinterpret_cast<const std::uint8_t*>(&end), 1);
  };
  for (const SentencePair& pair : pairs) add(pair.source, '\t'), add(pair.target, '\n');
  char hex[SHA256_DIGEST_STRING_LENGTH];
  return SHA256End(&context, hex);
}

bool has_tsv_files(const fs::path& folder) {
  for (const char* name : {"train.tsv", "valid.tsv", "test.tsv"})
    if (!fs::exists(folder / name)) return false;
  return true;
}

}  // namespace

TaskText task_text(const RunConfig& config, const fs::path& data_folder, const FetchProgress& told) {
  TaskText out;
  if (config.data.source == "tsv") {
    if (config.data.folder.empty()) fail("task_text", "data.folder with source tsv", "none");
    out.folder = config.data.folder;
    out.text = read_parallel_text(out.folder);
  } else if (config.data.source == "libreoffice-help") {
    if (config.data.languages.size() != 2)
      fail("task_text", "data.languages names two", fmt::format("{}", config.data.languages.size()));
    const std::string name = fmt::format("translation-{}-{}", config.data.languages[0], config.data.languages[1]);
    out.folder = config.data.folder.empty() ? data_folder / name : fs::path(config.data.folder);
    if (!config.data.folder.empty() || has_tsv_files(out.folder)) {
      out.text = read_parallel_text(out.folder);
    } else {
      PreparedTranslation prepared =
          prepare_translation(data_folder, {config.data.languages[0], config.data.languages[1]}, told);
      for (const std::string& warning : prepared.warnings)
        if (told) told("warning: " + warning);
      out.folder = prepared.folder;
      out.text = std::move(prepared.text);
    }
  } else {
    fail("task_text", "data.source is libreoffice-help or tsv", config.data.source);
  }
  out.folder = fs::absolute(out.folder).lexically_normal();
  out.sha256 = sha256_of(out.text.train);
  return out;
}

Tokenizer task_tokenizer(const RunConfig& config, const ParallelText& text) {
  TokenizerOptions options;
  options.kind = config.tokenizer.kind == "bpe" ? TokenizerKind::bpe : TokenizerKind::unigram;
  options.vocab_size = config.tokenizer.vocab_size;
  options.character_coverage = config.tokenizer.character_coverage;
  std::vector<std::string> sentences;
  for (const SentencePair& pair : text.train) sentences.push_back(pair.source), sentences.push_back(pair.target);
  return Tokenizer::train(sentences, options);
}

models::Seq2SeqOptions model_options(const RunConfig& config, std::int64_t vocab_size) {
  const ModelConfig& model = config.model;
  if (model.kind != "seq2seq_transformer") fail("model_options", "model.kind is seq2seq_transformer", model.kind);
  models::Seq2SeqOptions options;
  options.source_vocab_size = vocab_size;
  options.num_encoder_layers = options.num_decoder_layers = model.num_layers;
  options.model_dim = model.model_dim;
  options.num_heads = model.num_heads;
  options.num_kv_heads = model.num_kv_heads;
  options.feed_forward_dim = model.feed_forward_dim;
  options.dropout = model.dropout;
  options.attention_dropout = model.attention_dropout;
  options.activation = activation_from_name(model.activation);
  options.norm = nn::norm_place_from_name(model.norm);
  options.norm_kind = nn::norm_kind_from_name(model.norm_kind);
  options.share_embeddings = model.share_embeddings;
  options.tie_output = model.tie_output;
  options.mup_base_width = model.mup_base_width;
  options.padding_id = kPaddingId;
  options.begin_id = kBeginId;
  options.end_id = kEndId;
  options.token_position = nn::token_position_from_name(token_position_of(model));
  // Twice what training sees: decoding may write more tokens than the longest target.
  options.num_positions = most_tokens(config);
  StagesOfRecipe stages = stages_of_recipe(model, options.num_positions);
  options.position = std::move(stages.position);
  options.score = std::move(stages.score);
  options.bias = std::move(stages.bias);
  options.mask = std::move(stages.mask);
  options.normalizer = std::move(stages.normalizer);
  options.stability = stages.stability;
  return options;
}

Translator load_translator(const fs::path& run) {
  const RunFiles files(run);
  read_facts(files);
  const RunConfig config = read_run_config(files.config);
  if (config.task != "translate")
    fail("load_translator", fmt::format("a run of the task translate in {}", run.string()), config.task);
  if (!has_checkpoint(files.checkpoint))
    fail("load_translator", "a run with a checkpoint", fmt::format("none in {}", files.checkpoint.string()));
  Tokenizer tokenizer = Tokenizer::load(files.tokenizer);
  auto model = std::make_shared<models::Seq2SeqTransformer>(model_options(config, tokenizer.vocab_size()));
  restore_weights(load_weights(files.checkpoint), *model);
  model->eval();
  return Translator(std::move(model), std::move(tokenizer));
}

ParallelText load_text(const fs::path& run) { return read_parallel_text(read_facts(RunFiles(run)).task.data_folder); }

BleuTokens run_bleu_tokens(const fs::path& run) {
  const RunConfig config = read_run_config(RunFiles(run).config);
  return bleu_tokens_for(config.data.languages.empty() ? "" : config.data.languages.back());
}

}  // namespace attune::train
