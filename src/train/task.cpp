// Tasks by name, and what is the same for all of them.
#include "attune/train/task.hpp"

#include <fmt/format.h>

#include "attune/base/error.hpp"
#include "attune/train/checkpoint.hpp"
#include "attune/train/language_task.hpp"
#include "attune/train/recall_task.hpp"
#include "attune/train/translate_learner.hpp"

namespace attune::train {

std::unique_ptr<Learner> make_learner(const RunConfig& config, const TaskContext& context) {
  if (config.task == "translate") return make_translate_learner(config, context);
  if (config.task == "language-model") return make_language_learner(config, context);
  if (config.task == "recall") return make_recall_learner(config, context);
  fail("make_learner", "a task: translate, language-model or recall", config.task);
}

LossTerms loss_terms(const RunConfig& config) {
  return {.label_smoothing = config.train.label_smoothing, .z_loss = config.train.z_loss};
}

void expect_same_data(const TaskContext& context, const std::string& sha256, const std::string& where) {
  if (context.data_sha256.empty() || context.data_sha256 == sha256) return;
  fail("make_learner", fmt::format("the data that the run began with (sha256 {})", context.data_sha256),
       fmt::format("{} in {}", sha256, where));
}

std::vector<std::pair<std::string, std::string>> facts_of(const RunConfig& config, const RunFacts& facts) {
  const ModelConfig& m = config.model;
  const bool translates = config.task == "translate";
  std::string task = config.task, data;
  if (translates)
    for (std::size_t i = 0; i < config.data.languages.size(); ++i)
      task += (i == 0 ? " " : " to ") + config.data.languages[i];
  const auto count = [&](std::string_view name) { return facts.task.count(name); };
  if (translates)
    data = fmt::format("{} pairs, {} pieces", count("train_pairs"), count("vocab_size"));
  else if (config.task == "recall")
    data = fmt::format("{} pairs of {} keys in a sequence", count("pairs"), count("keys"));
  else
    data = fmt::format("{} characters, {} different", count("train_characters"), count("vocab_size"));
  const std::string layers =
      translates ? fmt::format("{} + {}", m.num_layers, m.num_layers) : fmt::format("{}", m.num_layers);
  std::string attention = m.attention.score;
  if (const std::string added = token_position_of(m); added != "none") attention += ", token position " + added;
  if (m.attention.position != "none") attention += ", position " + m.attention.position;
  attention += ", " + m.attention.normalizer;
  return {{"task", task},
          {"model", fmt::format("{} layers, width {}, {} heads, {} parameters", layers, m.model_dim, m.num_heads,
                                facts.parameters)},
          {"attention", attention},
          {config.task == "recall" ? "data" : "text", data}};
}

std::vector<std::pair<std::string, std::string>> facts_of(const std::filesystem::path& run) {
  const RunFiles files(run);
  const RunConfig config = read_run_config(files.config);
  auto facts = facts_of(config, read_facts(files));
  const std::int64_t step = has_checkpoint(files.checkpoint) ? load_checkpoint(files.checkpoint).step : 0;
  facts.emplace_back("trained", fmt::format("{} of {} steps", step, config.train.steps));
  return facts;
}

}  // namespace attune::train
