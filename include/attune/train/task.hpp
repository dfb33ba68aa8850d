// Tasks by name: from a recipe to a learner.
//
//   translate        sentences from one language to another (train/translate_task.hpp)
//   language-model   the next character of a text (train/language_task.hpp)
//   recall           the value that stood beside a key (train/recall_task.hpp)
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "attune/train/config.hpp"
#include "attune/train/fetch.hpp"
#include "attune/train/learner.hpp"
#include "attune/train/run_files.hpp"

namespace attune::train {

/// What a task needs beside the recipe.
struct TaskContext {
  RunFiles files;                     // of the run; the vocabulary is made there unless it is there
  std::filesystem::path data_folder;  // that data is fetched to
  FetchProgress told;                 // hears of fetching, of what is made, and of warnings
  std::string data_sha256;            // the training data must have; "": any
};

/// The learner that a recipe describes, at the beginning of its data; its model's weights come from the recipe's seed.
/// Throws Error if the data is not there, or not the same as before.
std::unique_ptr<Learner> make_learner(const RunConfig& config, const TaskContext& context);

/// The terms of the loss that a recipe asks for.
LossTerms loss_terms(const RunConfig& config);
/// Throws Error if the context asks for data of another sum.
void expect_same_data(const TaskContext& context, const std::string& sha256, const std::string& where);

/// What a run is, in words: {"model", "2 + 2 layers, ..."}, {"trained", "4400 of 4400 steps"}, ...
std::vector<std::pair<std::string, std::string>> facts_of(const std::filesystem::path& run);
/// The same without how far it has come.
std::vector<std::pair<std::string, std::string>> facts_of(const RunConfig& config, const RunFacts& facts);

}  // namespace attune::train
