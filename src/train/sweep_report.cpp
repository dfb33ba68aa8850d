// What a sweep says: medians over seeds, a table, pictures and a page.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/chart.hpp"
#include "attune/train/sweep.hpp"
#include "train/markup.hpp"
#include "train/sweep_rows.hpp"

namespace attune::train {
namespace {

/// NaN counts as larger than any number: a median of three with two NaN is NaN.
double median(std::vector<double> x) {
  if (x.empty()) return std::numeric_limits<double>::quiet_NaN();
  for (double& v : x)
    if (std::isnan(v)) v = std::numeric_limits<double>::infinity();
  std::sort(x.begin(), x.end());
  return x.size() % 2 ? x[x.size() / 2] : (x[x.size() / 2 - 1] + x[x.size() / 2]) / 2;
}

/// The rows of one recipe, remedy and value, one a seed.
std::vector<const SweepRow*> rows_of(const std::vector<SweepRow>& rows, std::string_view recipe,
                                     std::string_view remedy, double value) {
  std::vector<const SweepRow*> out;
  for (const SweepRow& row : rows)
    if (row.recipe == recipe && row.remedy == remedy && row.value == value) out.push_back(&row);
  return out;
}

template <class Get>
std::vector<double> each(const std::vector<const SweepRow*>& rows, Get get) {
  std::vector<double> out;
  for (const SweepRow* row : rows) out.push_back(get(*row));
  return out;
}

/// A diverged run's loss is that of the untrained model: what it counts as, and where it is drawn.
double counted_loss(const SweepRow& row) {
  return row.diverged || !std::isfinite(row.loss) ? row.initial_loss : std::min(row.loss, row.initial_loss);
}

double initial_loss(const std::vector<SweepRow>& rows, std::string_view recipe) {
  std::vector<double> losses;
  for (const SweepRow& row : rows)
    if (row.recipe == recipe && std::isfinite(row.initial_loss)) losses.push_back(row.initial_loss);
  return median(losses);
}

struct Quantity {
  std::string file, label;
  bool logarithmic;
  double (*get)(const SweepRow&);
};
const Quantity kQuantities[] = {
    {"loss", "held-out loss, nats", false, counted_loss},
    {"max_logit", "largest attention logit, nats", true, [](const SweepRow& row) { return row.max_logit; }},
    {"entropy", "entropy of attention (share of the largest)", false, [](const SweepRow& row) { return row.entropy; }}};

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

}  // namespace

std::vector<SweepSummary> summarize_sweep(const SweepPlan& plan, const std::vector<SweepRow>& rows) {
  std::vector<SweepSummary> out;
  for (const std::string& recipe : plan.recipes) {
    const double start = initial_loss(rows, recipe);
    for (const std::string& remedy : plan.remedies) {
      SweepSummary s{.recipe = recipe, .remedy = remedy, .sensitivity = {}};
      std::vector<RateOutcome> outcomes;
      std::vector<std::vector<RateOutcome>> of_seeds(plan.seeds.size());
      for (const double value : plan.values) {
        const std::vector<const SweepRow*> here = rows_of(rows, recipe, remedy, value);
        if (here.size() < plan.seeds.size()) continue;
        const std::int64_t diverged =
            std::count_if(here.begin(), here.end(), [](const SweepRow* row) { return row->diverged; });
        s.runs += std::int64_t(here.size());
        s.diverged += diverged;
        outcomes.push_back({value, median(each(here, counted_loss)), 2 * diverged > std::int64_t(here.size())});
        for (std::size_t k = 0; k < here.size() && k < of_seeds.size(); ++k)
          of_seeds[k].push_back({value, here[k]->loss, here[k]->diverged});
        s.highest_max_logit = median(each(here, [](const SweepRow& row) { return row.max_logit; }));
        s.lowest_entropy = median(each(here, [](const SweepRow& row) { return row.entropy; }));
      }
      s.sensitivity = lr_sensitivity(outcomes, start);
      s.lrs_right_low = std::numeric_limits<double>::infinity();
      for (const std::vector<RateOutcome>& seed : of_seeds) {
        if (std::all_of(seed.begin(), seed.end(), [](const RateOutcome& o) { return o.diverged; })) continue;
        const double right = lr_sensitivity(seed, start).lrs_right;
        s.lrs_right_low = std::min(s.lrs_right_low, right);
        s.lrs_right_high = std::max(s.lrs_right_high, right);
      }
      out.push_back(std::move(s));
    }
  }
  return out;
}

std::string sweep_table(const std::vector<SweepSummary>& summaries) {
  std::string out =
      "| task | remedy | best rate | best loss | LRS | LRS-> (range over seeds) | width | diverged | largest logit | "
      "entropy |\n"
      "|---|---|---|---|---|---|---|---|---|---|\n";
  for (const SweepSummary& s : summaries) {
    const LrSensitivity& l = s.sensitivity;
    out += fmt::format(
        "| {} | {} | {} | {:.3f} | {:.3f} | {:.3f} ({:.3f} .. {:.3f}) | {:.2f} | {}/{} | {} | {:.2f} |\n", s.recipe,
        s.remedy, axis_text(l.best_learning_rate), l.best_loss, l.lrs, l.lrs_right, s.lrs_right_low, s.lrs_right_high,
        l.width, s.diverged, s.runs, axis_text(s.highest_max_logit), s.lowest_entropy);
  }
  return out;
}

std::filesystem::path write_sweep_report(const SweepPlan& plan, const std::vector<SweepRow>& rows,
                                         const std::filesystem::path& folder) {
  const std::vector<SweepSummary> summaries = summarize_sweep(plan, rows);
  nlohmann::ordered_json report{{"sweep", plan.name}, {"axis", plan.axis_label}};
  report["rows"] = nlohmann::ordered_json::array();
  for (const SweepRow& row : rows) report["rows"].push_back(row_as_json(row));
  report["summary"] = nlohmann::ordered_json::array();
  for (const SweepSummary& s : summaries) {
    report["summary"].push_back({{"task", s.recipe},
                                 {"remedy", s.remedy},
                                 {"lrs", s.sensitivity.lrs},
                                 {"lrs_right", s.sensitivity.lrs_right},
                                 {"lrs_right_low", s.lrs_right_low},
                                 {"lrs_right_high", s.lrs_right_high},
                                 {"width", s.sensitivity.width},
                                 {"best_learning_rate", s.sensitivity.best_learning_rate},
                                 {"best_loss", s.sensitivity.best_loss},
                                 {"diverged", s.diverged},
                                 {"runs", s.runs}});
  }
  io::write_file(folder / "report.json", report.dump(2) + "\n");

  std::string page = fmt::format(
      "<h1>Sweep {}</h1><p>Lines are medians over {} seed{}, bands the range. Hollow: most runs diverged, drawn at the "
      "loss "
      "of the untrained model. Bars under the axis: where the loss is within 5 % of the best. A run is trained again "
      "by "
      "<code>attune train runs/&lt;run&gt;.toml</code>; a marker tells its runs.</p>\n",
      escaped(plan.name), plan.seeds.size(), plan.seeds.size() == 1 ? "" : "s");
  page +=
      "<table><tr><th>task<th>remedy<th>best rate<th>best loss<th>LRS<th>LRS→<th>width, decades<th>diverged<th>largest "
      "logit<th>entropy</tr>\n";
  for (const SweepSummary& s : summaries) {
    page +=
        fmt::format("<tr><td>{}<td>{}<td>{}<td>{:.3f}<td>{:.3f}<td>{:.3f}<td>{:.2f}<td>{}/{}<td>{}<td>{:.2f}</tr>\n",
                    escaped(s.recipe), escaped(s.remedy), axis_text(s.sensitivity.best_learning_rate),
                    s.sensitivity.best_loss, s.sensitivity.lrs, s.sensitivity.lrs_right, s.sensitivity.width,
                    s.diverged, s.runs, axis_text(s.highest_max_logit), s.lowest_entropy);
  }
  page += "</table>\n";
  for (const std::string& recipe : plan.recipes) {
    for (const Quantity& quantity : kQuantities) {
      const std::string svg = picture(plan, rows, summaries, recipe, quantity);
      io::write_file(folder / fmt::format("{}_{}.svg", quantity.file, recipe), svg);
      page += svg;
    }
  }
  io::write_file(folder / "index.html", report_page("Sweep " + escaped(plan.name), page));
  return folder / "index.html";
}

}  // namespace attune::train
