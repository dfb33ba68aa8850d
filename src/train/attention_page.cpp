// Checks an opened-up translation and fills viewer/index.html with it; the script shows tokens as text nodes only.
#include "attune/train/attention_page.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "train/page_parts.hpp"
#include "train/viewer_files.hpp"

namespace attune::train {
namespace {

constexpr std::string_view kPageFunction = "attention_page";
constexpr float kSlack = 1e-3f;     // how far rounding may carry a probability outside 0 .. 1
constexpr float kUnits = 10000.0f;  // weights are stored in ten-thousandths

std::string text_of(const AttentionMap& map) {
  return fmt::format("{} layer {} head {}", name_of(map.kind), map.layer, map.head);
}

void check(const AttentionMap& map, std::int64_t source, std::int64_t target) {
  const std::int64_t rows = map.kind == AttentionKind::encoder ? source : target;
  const std::int64_t cols = map.kind == AttentionKind::decoder ? target : source;
  if (map.rows != rows || map.cols != cols)
    fail(kPageFunction,
         fmt::format("{} is [{}, {}] for {} source and {} target tokens", text_of(map), rows, cols, source, target),
         fmt::format("got [{}, {}]", map.rows, map.cols));
  if (std::int64_t(map.weights.size()) != rows * cols)
    fail(kPageFunction, fmt::format("{} has {} weights", text_of(map), rows * cols),
         fmt::format("got {}", map.weights.size()));
  for (const float weight : map.weights)
    if (!(weight >= -kSlack && weight <= 1 + kSlack))  // written so that NaN fails too
      fail(kPageFunction, fmt::format("{} has weights in 0 .. 1", text_of(map)), fmt::format("got {}", weight));
}

nlohmann::ordered_json json_of(const AttentionMap& map) {
  std::vector<int> units(map.weights.size());
  std::transform(map.weights.begin(), map.weights.end(), units.begin(),
                 [](float weight) { return int(std::lround(std::clamp(weight, 0.0f, 1.0f) * kUnits)); });
  return {{"kind", name_of(map.kind)}, {"layer", map.layer}, {"head", map.head},
          {"rows", map.rows},          {"cols", map.cols},   {"w", units}};
}

nlohmann::ordered_json json_of(const AttentionPage& page) {
  nlohmann::ordered_json maps = nlohmann::ordered_json::array(), facts = nlohmann::ordered_json::array();
  for (const AttentionMap& map : page.maps) maps.push_back(json_of(map));
  for (const auto& [name, value] : page.facts) facts.push_back({name, value});
  return {{"title", page.title},
          {"source", page.source_text},
          {"target", page.target_text},
          {"facts", facts},
          {"sourceTokens", page.source_tokens},
          {"targetTokens", page.target_tokens},
          {"targetInputs", page.target_inputs.empty() ? page.target_tokens : page.target_inputs},
          {"maps", maps}};
}

}  // namespace

std::string_view name_of(AttentionKind kind) {
  switch (kind) {
    case AttentionKind::encoder:
      return "encoder";
    case AttentionKind::decoder:
      return "decoder";
    default:
      return "cross";
  }
}

std::string attention_page_html(const AttentionPage& page) {
  const auto source = std::int64_t(page.source_tokens.size()), target = std::int64_t(page.target_tokens.size());
  if (!page.target_inputs.empty() && std::int64_t(page.target_inputs.size()) != target)
    fail(kPageFunction, fmt::format("{} target inputs, one for each target token, or none", target),
         fmt::format("got {}", page.target_inputs.size()));
  for (const AttentionMap& map : page.maps) check(map, source, target);
  std::string data;
  try {
    data = json_of(page).dump();
  } catch (const nlohmann::ordered_json::exception&) {
    fail(kPageFunction, "all texts are UTF-8", "a text holds other bytes");
  }
  return assemble_page({.html = kViewerHtml,
                        .css = kViewerCss,
                        .js = kViewerJs,
                        .css_link = "<link rel=\"stylesheet\" href=\"viewer.css\">",
                        .js_link = "<script src=\"viewer.js\"></script>",
                        .data_open = "<script type=\"application/json\" id=\"attention-data\">"},
                       page.title, data);
}

void write_attention_page(const std::filesystem::path& path, const AttentionPage& page) {
  io::write_file(path, attention_page_html(page));
}

}  // namespace attune::train
