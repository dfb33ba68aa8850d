// Text to windows of characters, and back to bits per character.
#include "attune/train/language_task.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numbers>

#include "attune/base/error.hpp"
#include "attune/train/checkpoint.hpp"
#include "attune/train/clock.hpp"
#include "train/sha256.hpp"
#include "train/unicode.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kValidCharacters = 16384;  // of the validation loss
constexpr std::int64_t kScoreRows = 32;           // windows at a time

/// Windows of `length` tokens that begin at these places, `rows` at a time.
std::vector<TokenBatch> windows(const std::vector<std::int32_t>& text, const std::vector<std::int64_t>& starts,
                                std::int64_t length, std::int64_t rows) {
  std::vector<TokenBatch> batches;
  for (std::size_t first = 0; first < starts.size(); first += std::size_t(rows)) {
    const std::size_t end = std::min(starts.size(), first + std::size_t(rows));
    std::vector<std::int32_t> tokens, targets;
    for (std::size_t i = first; i < end; ++i) {
      const auto at = text.begin() + starts[i];
      tokens.insert(tokens.end(), at, at + length);
      targets.insert(targets.end(), at + 1, at + 1 + length);
    }
    const Shape shape{std::int64_t(end - first), length};
    batches.push_back({Ids(std::move(tokens), shape), Ids(std::move(targets), shape), shape.size()});
  }
  return batches;
}

/// Evenly spread over the text.
std::vector<TokenBatch> valid_windows(const std::vector<std::int32_t>& text, std::int64_t length, std::int64_t rows) {
  const std::int64_t fit = (std::int64_t(text.size()) - 1) / length;
  const std::int64_t count = std::min(fit, std::max<std::int64_t>(1, kValidCharacters / length));
  std::vector<std::int64_t> starts;
  for (std::int64_t i = 0; i < count; ++i) starts.push_back(i * fit / count * length);
  return windows(text, starts, length, rows);
}

std::int64_t rows_of(const RunConfig& config) {
  return std::max<std::int64_t>(1, config.train.batch_tokens / config.model.context);
}

/// A run of this task, its files and recipe.
RunConfig language_config(const RunFiles& files) {
  RunConfig config = read_run_config(files.config);
  if (config.task != "language-model")
    fail("load_language_model", fmt::format("a run of the task language-model in {}", files.folder.string()),
         config.task);
  return config;
}

}  // namespace

SplitText language_text(const RunConfig& config, const fs::path& data_folder, const FetchProgress& told) {
  if (config.data.source == "text") {
    if (config.data.folder.empty()) fail("language_text", "data.folder with source text", "none");
    return read_split_text(config.data.folder);
  }
  if (config.data.source != "novels") fail("language_text", "data.source is novels or text", config.data.source);
  const fs::path folder = config.data.folder.empty() ? data_folder / "novels" : fs::path(config.data.folder);
  if (!config.data.folder.empty() || fs::exists(folder / "test.txt")) return read_split_text(folder);
  PreparedNovels novels = prepare_novels(data_folder, told);
  for (const std::string& warning : novels.warnings)
    if (told) told("warning: " + warning);
  return std::move(novels.text);
}

std::unique_ptr<Learner> make_language_learner(const RunConfig& config, const TaskContext& context) {
  const SplitText data = language_text(config, context.data_folder, context.told);
  const std::string sum = sha256_hex(data.train);
  expect_same_data(context, sum, data.folder.string());
  if (!fs::exists(context.files.characters)) Alphabet::of(data.train).save(context.files.characters);
  const Alphabet alphabet = Alphabet::load(context.files.characters);
  const std::int64_t length = config.model.context, rows = rows_of(config);
  std::vector<std::int32_t> train = alphabet.encode(data.train), valid = alphabet.encode(data.valid);
  TaskFacts facts{.data_folder = data.folder.string(),
                  .data_sha256 = sum,
                  .counts = {{"train_characters", std::int64_t(train.size())},
                             {"valid_characters", std::int64_t(valid.size())},
                             {"test_characters", unicode::length(data.test)},
                             {"vocab_size", alphabet.size()}}};
  return std::make_unique<LanguageLearner>(
      make_gpt(config, alphabet.size(), length),
      TextStream(std::move(train), {.rows = rows, .length = length, .seed = config.seed}),
      valid_windows(valid, length, rows), loss_terms(config), std::move(facts));
}

LanguageModel load_language_model(const fs::path& run) {
  const RunFiles files(run);
  const RunConfig config = language_config(files);
  if (!has_checkpoint(files.checkpoint))
    fail("load_language_model", "a run with a checkpoint", fmt::format("none in {}", files.checkpoint.string()));
  LanguageModel out{nullptr, Alphabet::load(files.characters)};
  out.model = make_gpt(config, out.alphabet.size(), config.model.context);
  restore_weights(load_weights(files.checkpoint), *out.model);
  out.model->eval();
  return out;
}

SplitText load_language_text(const fs::path& run) {
  const RunFiles files(run);
  language_config(files);
  return read_split_text(read_facts(files).task.data_folder);
}

LanguageScore score_text(const LanguageModel& language, std::string_view text) {
  const std::vector<std::int32_t> ids = language.alphabet.encode(text);
  const auto size = std::int64_t(ids.size());
  if (size < 2) fail("score_text", "a text of two characters or more", fmt::format("{}", size));
  LanguageScore score{.characters = size - 1, .unknown = std::count(ids.begin() + 1, ids.end(), Alphabet::kUnknown)};
  const double began = steady_seconds();
  // Windows that overlap by half; a target that an earlier window has scored does not count again.
  const std::int64_t length = std::min(language.model->options().context, size - 1);
  const std::int64_t stride = std::max<std::int64_t>(1, (length + 1) / 2);
  double nats = 0;
  std::vector<std::int32_t> tokens, targets;
  std::int64_t rows = 0, counted = 0, scored = 0;  // targets 1 .. scored have been scored
  const auto flush = [&] {
    const Shape shape{rows, length};
    nats += double(counted) * mean_loss(*language.model, {{Ids(tokens, shape), Ids(targets, shape), counted}});
    tokens.clear(), targets.clear();
    rows = counted = 0;
  };
  for (std::int64_t at = 0; scored < size - 1; at = std::min(at + stride, size - 1 - length)) {
    for (std::int64_t i = at; i < at + length; ++i) {
      tokens.push_back(ids[std::size_t(i)]);
      targets.push_back(i < scored ? kNoTarget : ids[std::size_t(i + 1)]);
      counted += i >= scored;
    }
    scored = at + length;
    if (++rows == kScoreRows) flush();
  }
  if (rows > 0) flush();
  score.bits_per_character = nats / double(score.characters) / std::numbers::ln2;
  score.seconds = steady_seconds() - began;
  return score;
}

}  // namespace attune::train
