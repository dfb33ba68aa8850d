// A task small enough to be learned in a test: made-up sentences whose translation goes word by word, and a recipe.
#pragma once
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "attune/base/rng.hpp"
#include "attune/train/config.hpp"
#include "attune/train/parallel_text.hpp"

namespace attune::train::tiny {

/// A folder that is gone after the test. Its name carries the process, so that tests may run side by side.
class Folder {
 public:
  Folder() {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() / fmt::format("attune_test_{}_{}", ::getpid(), count++);
    std::filesystem::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline std::vector<SentencePair> sentences(int count, std::uint64_t stream) {
  static const std::vector<std::pair<std::string, std::string>> words = {
      {"open", "öffne"},   {"close", "schließe"}, {"the", "die"},      {"file", "Datei"},     {"table", "Tabelle"},
      {"page", "Seite"},   {"insert", "füge"},    {"red", "rote"},     {"small", "kleine"},   {"line", "Linie"},
      {"format", "forme"}, {"delete", "lösche"},  {"every", "jede"},   {"second", "zweite"},  {"cell", "Zelle"},
      {"and", "und"},      {"then", "dann"},      {"print", "drucke"}, {"picture", "Grafik"}, {"choose", "wähle"}};
  Generator generator(11, stream);
  std::vector<SentencePair> pairs;
  for (int i = 0; i < count; ++i) {
    SentencePair pair;
    const int length = 3 + int(generator.below(5));
    for (int w = 0; w < length; ++w) {
      const auto& [source, target] = words[std::size_t(generator.below(words.size()))];
      pair.source += (w ? " " : "") + source;
      pair.target += (w ? " " : "") + target;
    }
    pair.source += ".";
    pair.target += ".";
    pairs.push_back(pair);
  }
  return pairs;
}

/// train.tsv, valid.tsv and test.tsv.
inline void write_text(const std::filesystem::path& folder) {
  write_parallel_text(folder, {.train = sentences(240, 1), .valid = sentences(24, 2), .test = sentences(24, 3)});
}

inline std::string recipe(const std::filesystem::path& text, int steps) {
  return fmt::format(R"(task = "translate"
seed = 3
[data]
source = "tsv"
languages = ["en-US", "de"]
folder = "{}"
[tokenizer]
vocab_size = 90
[model]
num_layers = 1
model_dim = 32
num_heads = 2
feed_forward_dim = 64
dropout = 0.1
attention_dropout = 0.1
[train]
steps = {}
batch_tokens = 160
log_every = 5
checkpoint_every = 10
validate_every = 10
[optimizer]
kind = "adamw"
learning_rate = 5e-3
betas = [0.9, 0.98]
[schedule]
kind = "linear"
warmup = 0.1
)",
                     text.string(), steps);
}

inline RunConfig config(const std::filesystem::path& text, int steps) { return parse_config(recipe(text, steps)); }

}  // namespace attune::train::tiny
