#include "cli/stage_text.hpp"

#include <charconv>
#include <optional>
#include <vector>

#include "attune/base/error.hpp"

namespace attune::cli {
namespace {

/// The parts of a text between commas that stand outside brackets.
std::vector<std::string_view> parts_of(std::string_view text) {
  std::vector<std::string_view> parts;
  std::size_t begin = 0;
  int depth = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (text[i] == ',' && depth == 0)) {
      parts.push_back(text.substr(begin, i - begin));
      begin = i + 1;
    } else {
      depth += text[i] == '[' ? 1 : text[i] == ']' ? -1 : 0;
    }
  }
  return parts;
}

std::optional<double> number_in(std::string_view text) {
  double x = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), x);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return x;
}

OptionValue value_of(std::string_view option, std::string_view text) {
  if (text == "true" || text == "false") return text == "true";
  if (const auto x = number_in(text)) return *x;
  if (!text.starts_with('[') || !text.ends_with(']')) return std::string(text);
  std::vector<double> list;
  if (text.size() > 2) {
    for (const std::string_view item : parts_of(text.substr(1, text.size() - 2))) {
      const auto x = number_in(item);
      if (!x) fail("explain", "numbers in the list " + std::string(option), "got \"" + std::string(item) + "\"");
      list.push_back(*x);
    }
  }
  return list;
}

}  // namespace

StageText stage_from_text(std::string_view text) {
  const std::size_t colon = text.find(':');
  StageText stage{std::string(text.substr(0, colon)), {}};
  if (colon == std::string_view::npos) return stage;
  for (const std::string_view part : parts_of(text.substr(colon + 1))) {
    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos || equals == 0 || equals + 1 == part.size())
      fail("explain", "options of " + stage.name + " as option=value", "got \"" + std::string(part) + "\"");
    const std::string_view option = part.substr(0, equals);
    stage.options[std::string(option)] = value_of(option, part.substr(equals + 1));
  }
  return stage;
}

}  // namespace attune::cli
