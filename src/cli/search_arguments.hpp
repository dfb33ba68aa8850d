// How translations are searched for: the options that eval, translate and view share.
#pragma once
#include "attune/train/translator.hpp"
#include "cli/commands.hpp"

namespace attune::cli {

struct SearchArguments {
  int beam = 1;
  double length_penalty = 1;

  void add_to(CLI::App& command) {
    command.add_option("--beam", beam, "hypotheses kept for each sentence; 1 is greedy")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    command.add_option("--length-penalty", length_penalty, "of beam search; larger prefers longer translations")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
  }
  train::TranslateOptions options() const {
    train::TranslateOptions all;
    all.search = {.beam_size = beam, .length_penalty = length_penalty};
    all.batch_tokens = std::max<std::int64_t>(1, all.batch_tokens / beam);
    return all;
  }
};

}  // namespace attune::cli
