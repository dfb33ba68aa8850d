// What a sweep says, for people: pictures and a page. And for programs: report.json.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "attune/io/atomic_file.hpp"
#include "attune/train/chart.hpp"
#include "attune/train/sweep.hpp"
#include "train/markup.hpp"
#include "train/sweep_rows.hpp"
#include "train/sweep_summary.hpp"

namespace attune::train {
namespace {

struct Quantity {
  std::string file, label;
  bool logarithmic;
  double (*get)(const SweepRow&);
};
/// What is drawn of a sweep, a picture each.
std::vector<Quantity> quantities(const std::vector<SweepRow>& rows) {
  std::vector<Quantity> out{
      {"loss", "held-out loss, nats", false, counted_loss},
      {"max_logit", "largest attention logit, nats", true, [](const SweepRow& row) { return row.max_logit; }},
      {"entropy", "entropy of attention (share of the largest)", false,
       [](const SweepRow& row) { return row.entropy; }}};
  const auto scored = std::find_if(rows.begin(), rows.end(), [](const SweepRow& row) { return row.score.has_value(); });
  if (scored != rows.end())
    out.push_back({"score", scored->score->name, false,
                   [](const SweepRow& row) { return row.score ? row.score->value : std::nan(""); }});
  return out;
}

std::string picture(const SweepPlan& plan, const std::vector<SweepRow>& rows,
                    const std::vector<SweepSummary>& summaries, const std::string& recipe, const Quantity& quantity) {
  ChartOptions options{.title = recipe, .x_label = plan.axis_label, .y_label = quantity.label};
  options.log_x = plan.values.front() > 0;
  options.log_y = quantity.logarithmic;
  const bool loss = quantity.file == "loss";
  if (loss) options.rules_y.push_back({initial_loss(rows, recipe), "untrained"});
  std::vector<ChartLine> lines;
  for (const std::string& remedy : plan.remedies) {
    ChartLine line{.name = remedy, .points = {}};
    for (const double value : plan.values) {
      const std::vector<const SweepRow*> here = rows_of(rows, recipe, remedy, value);
      if (here.empty()) continue;
      const std::vector<double> y = each(here, quantity.get);
      ChartPoint point{.x = value, .y = median(y)};
      point.low = *std::min_element(y.begin(), y.end());
      point.high = *std::max_element(y.begin(), y.end());
      point.hollow = std::count_if(here.begin(), here.end(), [](const SweepRow* row) { return row->diverged; }) * 2 >
                     std::ptrdiff_t(here.size());
      point.note = fmt::format("{} {} {}: {:.4g}", remedy, plan.axis_label, axis_text(value), point.y);
      for (const SweepRow* row : here) point.note += fmt::format("\nseed {}: run {}", row->seed, row->hash);
      line.points.push_back(std::move(point));
    }
    lines.push_back(std::move(line));
  }
  if (loss) {
    for (const SweepSummary& s : summaries) {
      if (s.recipe != recipe) continue;
      const std::size_t at =
          std::size_t(std::find(plan.remedies.begin(), plan.remedies.end(), s.remedy) - plan.remedies.begin());
      options.spans.push_back({at, s.sensitivity.usable_from, s.sensitivity.usable_to});
    }
  }
  return chart_svg(options, lines);
}

nlohmann::ordered_json summary_json(const SweepSummary& s) {
  nlohmann::ordered_json json{{"task", s.recipe},
                              {"remedy", s.remedy},
                              {"lrs", s.sensitivity.lrs},
                              {"lrs_right", s.sensitivity.lrs_right},
                              {"lrs_right_low", s.lrs_right_low},
                              {"lrs_right_high", s.lrs_right_high},
                              {"width", s.sensitivity.width},
                              {"best_learning_rate", s.sensitivity.best_learning_rate},
                              {"best_loss", s.sensitivity.best_loss},
                              {"diverged", s.diverged},
                              {"runs", s.runs}};
  if (s.best_score) {
    json.update(score_as_json(*s.best_score));
    json["best_score_at"] = s.best_score_at;
  }
  return json;
}

/// report.json of one sweep.
nlohmann::ordered_json report_json(const SweepPlan& plan, const std::vector<SweepRow>& rows,
                                   const std::vector<SweepSummary>& summaries) {
  nlohmann::ordered_json report{{"sweep", plan.name}, {"axis", plan.axis_label}};
  double seconds = 0;
  for (const SweepRow& row : rows) seconds += row.seconds;
  report["seconds"] = seconds;  // of training, all runs together
  report["rows"] = nlohmann::ordered_json::array();
  for (const SweepRow& row : rows) report["rows"].push_back(row_as_json(row));
  report["summary"] = nlohmann::ordered_json::array();
  for (const SweepSummary& s : summaries) report["summary"].push_back(summary_json(s));
  return report;
}

std::string table_html(const std::vector<SweepSummary>& summaries) {
  const bool scored =
      std::any_of(summaries.begin(), summaries.end(), [](const SweepSummary& s) { return s.best_score.has_value(); });
  std::string html =
      "<table><tr><th>task<th>remedy<th>best rate<th>best loss<th>LRS<th>LRS→<th>width, decades<th>diverged<th>largest "
      "logit<th>entropy";
  if (scored) html += "<th>best score, at";
  html += "</tr>\n";
  for (const SweepSummary& s : summaries) {
    html += fmt::format("<tr><td>{}<td>{}<td>{}<td>{:.3f}<td>{:.3f}<td>{:.3f}<td>{:.2f}<td>{}/{}<td>{}<td>{:.2f}",
                        escaped(s.recipe), escaped(s.remedy), axis_text(s.sensitivity.best_learning_rate),
                        s.sensitivity.best_loss, s.sensitivity.lrs, s.sensitivity.lrs_right, s.sensitivity.width,
                        s.diverged, s.runs, axis_text(s.highest_max_logit), s.lowest_entropy);
    if (scored) html += "<td>" + escaped(score_text(s));
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

/// How the pictures are to be read.
std::string legend_html(std::size_t seeds) {
  return fmt::format(
      "<p>Lines are medians over {} seed{}, bands the range. Hollow: most runs diverged, drawn at the loss of the "
      "untrained model. Bars under the axis: where the loss is within 5 % of the best. A run is trained again by "
      "<code>attune train runs/&lt;run&gt;.toml</code>; a marker tells its runs.</p>\n",
      seeds, seeds == 1 ? "" : "s");
}

}  // namespace

std::filesystem::path write_sweep_report(const SweepPlan& plan, const std::vector<SweepRow>& rows,
                                         const std::filesystem::path& folder) {
  const std::vector<SweepSummary> summaries = summarize_sweep(plan, rows);
  io::write_file(folder / "report.json", report_json(plan, rows, summaries).dump(2) + "\n");
  std::string page =
      "<h1>Sweep " + escaped(plan.name) + "</h1>" + legend_html(plan.seeds.size()) + table_html(summaries);
  for (const std::string& recipe : plan.recipes) {
    for (const Quantity& quantity : quantities(rows)) {
      const std::string svg = picture(plan, rows, summaries, recipe, quantity);
      io::write_file(folder / fmt::format("{}_{}.svg", quantity.file, recipe), svg);
      page += svg;
    }
  }
  io::write_file(folder / "index.html", report_page("Sweep " + escaped(plan.name), page));
  return folder / "index.html";
}

std::filesystem::path write_sweeps_report(std::string_view name, const std::vector<SweepPlan>& plans,
                                          const std::vector<std::vector<SweepRow>>& rows,
                                          const std::filesystem::path& folder) {
  nlohmann::ordered_json report{{"sweep", name}, {"sweeps", nlohmann::ordered_json::array()}};
  std::string page = "<h1>Sweeps " + escaped(name) + "</h1>";
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const std::vector<SweepSummary> summaries = summarize_sweep(plans[i], rows[i]);
    report["sweeps"].push_back(report_json(plans[i], rows[i], summaries));
    const std::string own = escaped(plans[i].name);
    page += fmt::format("<h2>{}</h2>{}", own, table_html(summaries));
    for (const std::string& recipe : plans[i].recipes)
      page += picture(plans[i], rows[i], summaries, recipe, quantities(rows[i]).front());
    page += fmt::format("<p><a href=\"{}/index.html\">logits, entropies, runs</a></p>\n", own);
  }
  io::write_file(folder / "report.json", report.dump(2) + "\n");
  io::write_file(folder / "index.html", report_page("Sweeps " + escaped(name), page));
  return folder / "index.html";
}

}  // namespace attune::train
