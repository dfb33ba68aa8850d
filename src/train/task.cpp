// Tasks by name, and what is the same for all of them.
#include "attune/train/task.hpp"

#include <fmt/format.h>

#include "attune/base/error.hpp"
#include "attune/train/checkpoint.hpp"
#include "attune/train/translate_learner.hpp"

namespace attune::train {

std::unique_ptr<Learner> make_learner(const RunConfig& config, const TaskContext& context) {
  if (config.task == "translate") return make_translate_learner(config, context);
  fail("make_learner", "a task: translate", config.task);
}

LossTerms loss_terms(const RunConfig& config) { return {.label_smoothing = config.train.label_smoothing}; }

void expect_same_data(const TaskContext& context, const std::string& sha256, const std::string& where) {
  if (context.data_sha256.empty() || context.data_sha256 == sha256) return;
  fail("make_learner", fmt::format("the data that the run began with (sha256 {})", context.data_sha256),
       fmt::format("{} in {}", sha256, where));
}

std::vector<std::pair<std::string, std::string>> facts_of(const std::filesystem::path& run) {
  const RunFiles files(run);
  const RunFacts facts = read_facts(files);
  const RunConfig config = read_config(files.config);
  const ModelConfig& m = config.model;
  std::string languages;
  for (const std::string& language : config.data.languages) languages += (languages.empty() ? "" : " to ") + language;
  const std::int64_t step = has_checkpoint(files.checkpoint) ? load_checkpoint(files.checkpoint).step : 0;
  return {{"task", languages.empty() ? config.task : config.task + " " + languages},
          {"model", fmt::format("{} + {} layers, width {}, {} heads, {} parameters", m.num_layers, m.num_layers,
                                m.model_dim, m.num_heads, facts.parameters)},
          {"attention", fmt::format("{}, {}, {}", m.attention.score, m.attention.position, m.attention.normalizer)},
          {"text", fmt::format("{} pairs, {} pieces", facts.task.count("train_pairs"), facts.task.count("vocab_size"))},
          {"trained", fmt::format("{} of {} steps", step, config.train.steps)}};
}

}  // namespace attune::train
