// Options of a stage by name, as a recipe or a command line gives them: {{"cap", 30.0}}.
#pragma once
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace attune {

/// An integer is a double without fraction.
using OptionValue = std::variant<bool, double, std::string, std::vector<double>>;
using OptionValues = std::map<std::string, OptionValue, std::less<>>;

}  // namespace attune
