// What a range test says: numbers, three pictures and a page.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/chart.hpp"
#include "attune/train/lr_find.hpp"
#include "train/json_numbers.hpp"
#include "train/markup.hpp"

namespace attune::train {
namespace {

nlohmann::ordered_json as_json(const std::optional<double>& x) {
  return x ? nlohmann::ordered_json(*x) : nlohmann::ordered_json();
}

nlohmann::ordered_json as_json(const LrFindResult& result) {
  nlohmann::ordered_json points = nlohmann::ordered_json::array();
  for (const LrFindPoint& p : result.points)
    points.push_back({{"learning_rate", p.learning_rate},
                      {"loss", number_or_text(p.loss)},
                      {"smooth_loss", number_or_text(p.smooth_loss)},
                      {"max_logit", number_or_text(p.max_logit)},
                      {"entropy", number_or_text(p.entropy)},
                      {"move", number_or_text(p.move)}});
  return {{"valley", as_json(result.valley)},
          {"attention_limit", as_json(result.attention_limit)},
          {"suggestion", as_json(result.suggestion())},
          {"diverged", result.diverged},
          {"points", points}};
}

/// Loss, largest logit and entropy, all over the rate, as SVG.
std::vector<std::string> panels_of(const LrFindResult& result) {
  std::vector<ChartRule> marks;
  if (result.valley) marks.push_back({*result.valley, fmt::format("valley {}", axis_text(*result.valley))});
  if (result.attention_limit)
    marks.push_back({*result.attention_limit, fmt::format("attention limit {}", axis_text(*result.attention_limit))});
  const auto panel = [&](const char* label, bool logarithmic,
                         const std::vector<std::pair<const char*, double LrFindPoint::*>>& what) {
    ChartOptions options{
        .x_label = "learning rate", .y_label = label, .log_x = true, .log_y = logarithmic, .rules_x = marks};
    options.height = 280;
    std::vector<ChartLine> lines;
    for (const auto& [name, value] : what) {
      ChartLine line{.name = name, .points = {}, .markers = false};
      for (const LrFindPoint& point : result.points) {
        const double y = point.*value;
        line.points.push_back({.x = point.learning_rate, .y = y});
      }
      lines.push_back(std::move(line));
    }
    return chart_svg(options, lines);
  };
  return {
      panel("loss, nats a token", false, {{"smoothed", &LrFindPoint::smooth_loss}, {"each step", &LrFindPoint::loss}}),
      panel("largest logit and predicted move, nats", true,
            {{"logit", &LrFindPoint::max_logit}, {"move", &LrFindPoint::move}}),
      panel("entropy of attention", false, {{"entropy", &LrFindPoint::entropy}})};
}

}  // namespace

std::optional<double> mean_suggestion(std::span<const LrFindResult> seeds) {
  double sum = 0;
  int found = 0;
  for (const LrFindResult& r : seeds)
    if (const auto suggestion = r.suggestion()) sum += std::log(*suggestion), ++found;
  if (found == 0) return std::nullopt;
  return std::exp(sum / found);
}

std::filesystem::path write_lr_find_report(std::string_view recipe, std::span<const LrFindResult> seeds,
                                           const std::filesystem::path& folder) {
  if (seeds.empty()) fail("write_lr_find_report", "a result", "none");
  const std::optional<double> suggestion = mean_suggestion(seeds);
  nlohmann::ordered_json report{
      {"recipe", recipe}, {"suggestion", as_json(suggestion)}, {"seeds", nlohmann::ordered_json::array()}};
  for (const LrFindResult& r : seeds) report["seeds"].push_back(as_json(r));
  io::write_file(folder / "lr_find.json", report.dump(2) + "\n");

  std::string page =
      suggestion ? fmt::format("<h1>Begin with {:.2g}</h1>", *suggestion) : "<h1>The loss never fell</h1>";
  const char* const names[] = {"loss", "logits", "entropy"};
  const std::vector<std::string> panels = panels_of(seeds.front());
  for (std::size_t i = 0; i < panels.size(); ++i) {
    io::write_file(folder / fmt::format("{}.svg", names[i]), panels[i]);
    page += panels[i];
  }
  io::write_file(folder / "index.html", report_page("Learning rate", page));
  return folder / "index.html";
}

}  // namespace attune::train
