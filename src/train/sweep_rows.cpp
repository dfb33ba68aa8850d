#include "train/sweep_rows.hpp"

namespace attune::train {
nlohmann::ordered_json row_as_json(const SweepRow& row) {
  nlohmann::ordered_json json{{"task", row.recipe},
                              {"remedy", row.remedy},
                              {"seed", row.seed},
                              {"value", row.value},
                              {"learning_rate", row.learning_rate},
                              {"initial_loss", number_or_text(row.initial_loss)},
                              {"loss", number_or_text(row.loss)},
                              {"max_logit", number_or_text(row.max_logit)},
                              {"entropy", number_or_text(row.entropy)},
                              {"smallest_entropy", number_or_text(row.sharpest)},
                              {"diverged", row.diverged},
                              {"actions", row.actions},
                              {"seconds", row.seconds},
                              {"hash", row.hash}};
  if (row.score) json.update(score_as_json(*row.score));
  return json;
}

nlohmann::ordered_json score_as_json(const SweepScore& score) {
  return {{"score_name", score.name}, {"score", number_or_text(score.value)}, {"more_is_better", score.more_is_better}};
}

std::optional<SweepScore> score_from_json(const nlohmann::ordered_json& json) {
  if (!json.is_object() || !json.contains("score_name")) return std::nullopt;
  return SweepScore{json.value("score_name", ""), number_of(json, "score"), json.value("more_is_better", true)};
}

std::string row_json(const SweepRow& row) { return row_as_json(row).dump(); }

std::optional<SweepRow> row_from_json(std::string_view line) {
  const nlohmann::ordered_json json = nlohmann::ordered_json::parse(line, nullptr, false);
  if (!json.is_object() || !json.contains("hash")) return std::nullopt;
  SweepRow row;
  row.recipe = json.value("task", "");
  row.remedy = json.value("remedy", "");
  row.seed = json.value("seed", std::uint64_t(0));
  row.value = number_of(json, "value");
  row.learning_rate = number_of(json, "learning_rate");
  row.initial_loss = number_of(json, "initial_loss");
  row.loss = number_of(json, "loss");
  row.max_logit = number_of(json, "max_logit");
  row.entropy = number_of(json, "entropy");
  row.sharpest = number_of(json, "smallest_entropy");
  row.diverged = json.value("diverged", false);
  row.actions = json.value("actions", std::int64_t(0));
  row.seconds = number_of(json, "seconds");
  row.hash = json.value("hash", "");
  row.score = score_from_json(json);
  return row;
}

}  // namespace attune::train
