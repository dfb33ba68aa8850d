// A stage on the command line: NAME, or NAME:option=value,option=value. Lists stand in brackets: hidden=[64,32].
#pragma once
#include <string>
#include <string_view>

#include "attune/attention/option_values.hpp"

namespace attune::cli {

struct StageText {
  std::string name;
  OptionValues options;
};

/// A value is true, false, a number, a list of numbers, or else a text. Throws Error for an option without a value.
StageText stage_from_text(std::string_view text);

}  // namespace attune::cli
