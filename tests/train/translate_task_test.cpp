// From recipes to models and text, and what is said when they do not fit.
#include "attune/train/translate_task.hpp"

#include <gtest/gtest.h>

#include "attune/attention/attention.hpp"
#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/evaluate.hpp"
#include "train/tiny_task.hpp"

namespace attune::train {
namespace {

/// The message of the Error that f throws.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(TranslateTask, ARecipeBecomesAModel) {
  RunConfig config = parse_config("task = \"translate\"\n[train]\nsteps = 1\n");
  config.model.num_layers = 3;
  config.model.norm = "post";
  config.model.activation = "gelu";
  config.model.attention = {.score = "additive",
                            .position = "rotary",
                            .bias = {"soft_cap", "alibi"},
                            .mask = {"window", "causal"},
                            .normalizer = "sigmoid",
                            .options = {{"soft_cap", {{"cap", 20.0}}}, {"window", {{"left", 7.0}}}}};
  const models::Seq2SeqOptions options = model_options(config, 500);
  EXPECT_EQ(options.source_vocab_size, 500);
  EXPECT_EQ(options.num_encoder_layers, 3);
  EXPECT_EQ(options.num_decoder_layers, 3);
  EXPECT_EQ(options.norm, nn::NormPlace::post);
  EXPECT_EQ(options.activation, Activation::gelu);
  EXPECT_EQ(options.score.name(), "additive");
  EXPECT_EQ(options.position.name(), "rotary");
  EXPECT_EQ(options.token_position, nn::TokenPosition::none) << "rotary positions stand in for added ones";
  ASSERT_EQ(options.bias.size(), 2u);
  EXPECT_EQ(options.bias[0].as<SoftCap>()->cap, 20);
  EXPECT_EQ(options.bias[1].name(), "alibi");
  ASSERT_NE(options.mask.as<Both>(), nullptr);
  EXPECT_EQ(options.mask.as<Both>()->a.as<Window>()->left, 7);
  EXPECT_EQ(options.score.as<Additive>()->hidden_dim, 32);
  EXPECT_EQ(options.normalizer.name(), "sigmoid");

  config.model.attention = {};
  EXPECT_EQ(model_options(config, 500).token_position, nn::TokenPosition::sinusoidal);
  EXPECT_FALSE(model_options(config, 500).position);
  EXPECT_EQ(model_options(config, 500).mask.name(), "none");
  for (const char* position : {"sinusoidal", "learned"}) {
    config.model.attention.position = position;
    EXPECT_EQ(model_options(config, 500).position.name(), position);
    EXPECT_EQ(model_options(config, 500).token_position, nn::TokenPosition::none);
  }
  config.model.token_position = "learned";
  EXPECT_EQ(model_options(config, 500).token_position, nn::TokenPosition::learned);
  config.model.attention.score = "cosin";
  EXPECT_NE(error_of([&] { model_options(config, 500); }).find("cosin"), std::string::npos);
}

TEST(TranslateTask, TextIsReadWhereTheRecipeSays) {
  const tiny::Folder folder;
  tiny::write_text(folder.path());
  const RunConfig config = tiny::config(folder.path(), 1);
  const TaskText text = task_text(config, "unused");
  EXPECT_EQ(text.text.train.size(), 240u);
  EXPECT_EQ(text.sha256.size(), 64u);
  EXPECT_EQ(task_text(config, "unused").sha256, text.sha256);
  std::vector<SentencePair> changed = text.text.train;
  changed[100].target += "!";
  write_tsv(folder / "train.tsv", changed);
  EXPECT_NE(task_text(config, "unused").sha256, text.sha256);

  // Help texts that were prepared before are not fetched again.
  RunConfig help = config;
  help.data = {.source = "libreoffice-help", .languages = {"en-US", "de"}};
  tiny::write_text(folder / "data/translation-en-US-de");
  EXPECT_EQ(task_text(help, folder / "data").text.test.size(), 24u);

  RunConfig nowhere = config;
  nowhere.data.folder = folder / "nowhere";
  EXPECT_NE(error_of([&] { task_text(nowhere, "unused"); }).find("nowhere"), std::string::npos);
}

TEST(TranslateTask, FactsAreReadAsTheyWereWritten) {
  const tiny::Folder folder;
  const RunFiles files(folder.path());
  EXPECT_NE(error_of([&] { read_facts(files); }).find("config.toml"), std::string::npos);
  write_config(tiny::config(folder.path(), 1), files.config);
  EXPECT_NE(error_of([&] { read_facts(files); }).find("run.json"), std::string::npos);
  write_facts({.task = {.data_folder = "a \"folder\"", .data_sha256 = "ab", .counts = {{"train_pairs", 5}}},
               .parameters = 7,
               .planned_minutes = 2.5},
              files);
  EXPECT_EQ(read_facts(files).task.data_folder, "a \"folder\"");
  EXPECT_EQ(read_facts(files).task.data_sha256, "ab");
  EXPECT_EQ(read_facts(files).task.count("train_pairs"), 5);
  EXPECT_EQ(read_facts(files).task.count("vocab_size"), 0);
  EXPECT_EQ(read_facts(files).task.counts.size(), 1u);
  EXPECT_EQ(read_facts(files).parameters, 7);
  EXPECT_EQ(read_facts(files).planned_minutes, 2.5);
  EXPECT_NE(error_of([&] { load_translator(folder.path()); }).find("checkpoint"), std::string::npos);
  io::write_file(files.facts, io::read_file(files.facts).substr(0, 40));
  EXPECT_NE(error_of([&] { read_facts(files); }).find("run.json"), std::string::npos);
}

TEST(TranslateTask, ATranslatorNeedsTextAndAFittingModel) {
  const tiny::Folder folder;
  tiny::write_text(folder.path());
  const RunConfig config = tiny::config(folder.path(), 1);
  const Tokenizer tokenizer = task_tokenizer(config, task_text(config, "unused").text);
  const auto model = [&](std::int64_t vocab_size) {
    return std::make_shared<models::Seq2SeqTransformer>(model_options(config, vocab_size));
  };
  EXPECT_THROW(Translator(model(tokenizer.vocab_size() + 1), tokenizer), Error);
  const Translator translator(model(tokenizer.vocab_size()), tokenizer);
  EXPECT_EQ(translator.translate(std::string("")), "");
  EXPECT_TRUE(translator.translate(std::span<const std::string>()).empty());
  EXPECT_NE(error_of([&] { translator.translate(std::string("open \xff")); }).find("UTF-8"), std::string::npos);
  EXPECT_THROW(translator.open_up(""), Error);
  EXPECT_THROW(evaluate(translator, {}, tiny::sentences(3, 1), BleuTokens::mteval_13a), Error);

  // A batch gives what each sentence gives alone, in the order of the sentences.
  const std::vector<std::string> sentences = sources(tiny::sentences(12, 4));
  const std::vector<Translation> together = translator.translate(sentences, {.batch_tokens = 40});
  for (std::size_t i = 0; i < sentences.size(); ++i)
    EXPECT_EQ(together[i].text, translator.translate(sentences[i])) << sentences[i];
}

TEST(Evaluate, CountsTokensAsTheLanguageWants) {
  EXPECT_EQ(bleu_tokens_for("de"), BleuTokens::mteval_13a);
  EXPECT_EQ(bleu_tokens_for("zh-CN"), BleuTokens::chinese);
  const std::vector<std::string> same = {"Das ist ein kurzer Satz mit Punkt."};
  EXPECT_NEAR(score(same, same, BleuTokens::mteval_13a).bleu, 100, 1e-9);
  EXPECT_NEAR(score(same, same, BleuTokens::mteval_13a).chrf, 100, 1e-9);
}

}  // namespace
}  // namespace attune::train
