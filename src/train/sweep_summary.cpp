// What the rows of a sweep say, in numbers: medians over seeds, the sensitivity to the rate, a table.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "attune/train/chart.hpp"
#include "attune/train/sweep.hpp"
#include "train/sweep_summary.hpp"

namespace attune::train {

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

std::string score_text(const SweepSummary& s) {
  return s.best_score
             ? fmt::format("{} {:.4g}, {}", s.best_score->name, s.best_score->value, axis_text(s.best_score_at))
             : "";
}

namespace {

/// Keeps the better of the best score so far and the median of these rows.
void take_score(SweepSummary& s, const std::vector<const SweepRow*>& rows, double value) {
  std::vector<double> scores;
  for (const SweepRow* row : rows)
    if (row->score) scores.push_back(row->score->value);
  if (scores.size() < rows.size()) return;  // some were lost
  SweepScore score = *rows.front()->score;
  score.value = median(scores);
  const bool better =
      !s.best_score || (score.more_is_better ? score.value > s.best_score->value : score.value < s.best_score->value);
  if (better) s.best_score = score, s.best_score_at = value;
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
        take_score(s, here, value);
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
  const bool scored =
      std::any_of(summaries.begin(), summaries.end(), [](const SweepSummary& s) { return s.best_score.has_value(); });
  std::string out = fmt::format(
      "| task | remedy | best rate | best loss | LRS | LRS-> (range over seeds) | width | diverged | largest logit | "
      "entropy |{}\n|---|---|---|---|---|---|---|---|---|---|{}\n",
      scored ? " best score, at |" : "", scored ? "---|" : "");
  for (const SweepSummary& s : summaries) {
    const LrSensitivity& l = s.sensitivity;
    out += fmt::format("| {} | {} | {} | {:.3f} | {:.3f} | {:.3f} ({:.3f} .. {:.3f}) | {:.2f} | {}/{} | {} | {:.2f} |",
                       s.recipe, s.remedy, axis_text(l.best_learning_rate), l.best_loss, l.lrs, l.lrs_right,
                       s.lrs_right_low, s.lrs_right_high, l.width, s.diverged, s.runs, axis_text(s.highest_max_logit),
                       s.lowest_entropy);
    if (scored) out += fmt::format(" {} |", score_text(s));
    out += '\n';
  }
  return out;
}

}  // namespace attune::train
