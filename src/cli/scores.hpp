// The table of scores that eval and demo print.
#pragma once
#include <fmt/format.h>

#include "attune/train/evaluate.hpp"
#include "cli/commands.hpp"

namespace attune::cli {

inline void print_scores(const train::Evaluation& result, std::string_view on) {
  const auto row = [](std::string_view name, const train::Scores& scores) {
    print_line(fmt::format("{:<20}{:>6.1f}{:>7.1f}", name, scores.bleu, scores.chrf));
  };
  print_line(fmt::format("{:<20}{:>6}{:>7}   ({}, {} sentences)", "", "BLEU", "chrF", on, grouped(result.sentences)));
  row("copy the source", result.copy);
  row("translation memory", result.memory);
  row("this model", result.model);
}

}  // namespace attune::cli
