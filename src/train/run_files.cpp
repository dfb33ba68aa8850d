// run.json: facts by name; whole numbers that are not of every run are the task's counts.
#include "attune/train/run_files.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"

namespace attune::train {

RunFiles::RunFiles(const std::filesystem::path& run)
    : folder(run),
      config(run / "config.toml"),
      tokenizer(run / "tokenizer.model"),
      characters(run / "characters.txt"),
      facts(run / "run.json"),
      log(run / "log.jsonl"),
      checkpoint(run / "checkpoint") {}

std::int64_t TaskFacts::count(std::string_view name) const {
  const auto found = std::find_if(counts.begin(), counts.end(), [&](const auto& c) { return c.first == name; });
  return found == counts.end() ? 0 : found->second;
}

void write_facts(const RunFacts& facts, const RunFiles& files) {
  nlohmann::ordered_json json = {{"data_folder", facts.task.data_folder}, {"data_sha256", facts.task.data_sha256}};
  for (const auto& [name, count] : facts.task.counts) json[name] = count;
  json["parameters"] = facts.parameters;
  json["planned_minutes"] = facts.planned_minutes;
  io::write_file(files.facts, json.dump(2) + "\n");
}

RunFacts read_facts(const RunFiles& files) {
  using Json = nlohmann::ordered_json;
  if (!std::filesystem::exists(files.config))
    fail("read_facts", "a folder with a run (config.toml)", fmt::format("none in {}", files.folder.string()));
  if (!std::filesystem::exists(files.facts))
    fail("read_facts", "a run that has begun to train", fmt::format("{} is missing", files.facts.string()));
  try {
    const Json json = Json::parse(io::read_file(files.facts));
    RunFacts facts;
    facts.task.data_folder = json.at("data_folder");
    facts.task.data_sha256 = json.at("data_sha256");
    facts.parameters = json.at("parameters");
    facts.planned_minutes = json.at("planned_minutes");
    for (const auto& [name, value] : json.items())
      if (value.is_number_integer() && name != "parameters" && name != "planned_minutes")
        facts.task.counts.emplace_back(name, value.get<std::int64_t>());
    return facts;
  } catch (const Json::exception& error) {
    fail("read_facts", fmt::format("facts of a run in {}", files.facts.string()), error.what());
  }
}

}  // namespace attune::train
