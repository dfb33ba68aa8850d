// The folder of a run and what it says about itself.
//
//   out/<run>/config.toml        the complete recipe; from the first step on with the number of steps
//             tokenizer.model    SentencePiece (translate);  characters.txt: the alphabet (language-model)
//             run.json           which data, how much of it, how large the model
//             log.jsonl          one line per interval
//             checkpoint/        weights, moments, generator, data cursor, step
#pragma once
#include <cstdint>
#include <filesystem>

#include "attune/train/learner.hpp"

namespace attune::train {

/// Where the files of a run are.
struct RunFiles {
  std::filesystem::path folder, config, tokenizer, characters, facts, log, checkpoint;
  explicit RunFiles(const std::filesystem::path& run);
};

/// What run.json holds.
struct RunFacts {
  TaskFacts task;
  std::int64_t parameters = 0;
  double planned_minutes = 0;  // 0: the recipe named steps
};
void write_facts(const RunFacts& facts, const RunFiles& files);
/// Throws Error if the folder is no run, or one that has not got as far as its first step.
RunFacts read_facts(const RunFiles& files);

}  // namespace attune::train
