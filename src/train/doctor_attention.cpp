// The rows of the table that attention's own statistics decide.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "train/doctor_signs.hpp"

namespace attune::train {

std::string place_text(const HeadPlace& place) {
  if (place.layer.empty()) return "all heads";
  return place.head < 0 ? place.layer : fmt::format("{} head {}", place.layer, place.head);
}

namespace {

constexpr double kCapped = 0.25;         // share of the score that a saturated cap leaves of it, at most
constexpr double kWorryingScore = 0.25;  // share of tau below which growing scores are learning, no drift

using LossTrend = RunSigns::Trend;

/// A head in which a symptom shows, with the number by which heads are compared.
struct Sick {
  const HeadSeries* head;
  double value;
  std::size_t line;  // of the head's series, where it is worst
  std::int64_t first_step, last_step;
};

/// Worst first; places, steps and weight of the finding.
void tell_where(std::vector<Sick>& sick, Finding& finding) {
  std::stable_sort(sick.begin(), sick.end(), [](const Sick& a, const Sick& b) { return a.value > b.value; });
  finding.first_step = std::numeric_limits<std::int64_t>::max();
  for (const Sick& s : sick) {
    finding.places.push_back(s.head->place);
    finding.first_step = std::min(finding.first_step, s.first_step);
    finding.last_step = std::max(finding.last_step, s.last_step);
  }
}

/// S > tau where entropy is low; or, behind a cap, where it is not.
void find_large_scores(const RunSigns& signs, const DoctorOptions& o, std::vector<Finding>& out) {
  std::vector<Sick> exploded, capped;
  bool still = false;
  for (const HeadSeries& head : signs.heads) {
    Sick explosion{&head, 0, 0, 0, 0}, cap = explosion;
    for (std::size_t i = 0; i < head.steps.size(); ++i) {
      const double score = head.score[i];
      if (score <= o.tau) continue;
      const bool low = !(head.entropy[i] >= o.low);  // also if it is no number any more
      const bool behind_cap = std::abs(head.logit[i]) < kCapped * score;
      if (!low && !behind_cap) continue;
      Sick& s = low ? explosion : cap;
      if (s.first_step == 0) s.first_step = head.steps[i];
      s.last_step = head.steps[i];
      const double size = std::isfinite(score) ? score : std::numeric_limits<double>::infinity();
      if (size > s.value) s.value = size, s.line = i;
    }
    if (explosion.value > 0) exploded.push_back(explosion);
    if (cap.value > 0 && explosion.value == 0) capped.push_back(cap);
    still = still || (explosion.value > 0 && explosion.last_step == head.steps.back());
  }
  if (!exploded.empty()) {
    Finding f{.symptom = "explosion"};
    tell_where(exploded, f);
    const Sick& worst = exploded.front();
    const bool rising = signs.loss_trend(last_part(signs.loss.size(), 0.5)) == LossTrend::rising;
    f.bad = still && (worst.value > 10 * o.tau || rising);
    f.weight = 70 + std::min(15.0, 5 * std::log10(worst.value / o.tau));
    f.evidence = fmt::format("largest |score| {:.3g} nats at step {} (limit {:g}), entropy {:.3f}{}", worst.value,
                             worst.head->steps[worst.line], o.tau, worst.head->entropy[worst.line],
                             still ? "" : "; at the end it is below the limit again");
    f.cause = "scores beyond what softmax can tell apart: one key takes all, and no gradient comes back";
    f.action = "[guard] mode = \"clip\" or \"full\" (QK-clip), or [model.attention] qk_norm = \"rms\"";
    out.push_back(std::move(f));
  }
  if (!capped.empty()) {
    Finding f{.symptom = "saturated_cap", .weight = 35};
    tell_where(capped, f);
    const Sick& worst = capped.front();
    f.evidence = fmt::format(
        "largest |score| {:.3g} nats before the cap, logit {:.3g} after it, entropy {:.2f}, step {}", worst.value,
        worst.head->logit[worst.line], worst.head->entropy[worst.line], worst.head->steps[worst.line]);
    f.cause = "scores lie far outside the cap, where its derivative is nearly 0: heads no longer learn";
    f.action = "a lower learning rate of queries and keys ([guard] mode = \"lr\"), or qk_norm instead of the cap";
    out.push_back(std::move(f));
  }
}

/// A layer over time: the mean entropy of its heads and their largest score, by lines of the log.
struct LayerSeries {
  HeadPlace place;
  std::vector<std::int64_t> steps;
  std::vector<double> entropy, score;
};
std::vector<LayerSeries> layers_over_time(const RunSigns& signs) {
  std::vector<LayerSeries> layers;
  std::map<std::int64_t, std::pair<double, std::int64_t>> sums;  // by step: entropy, heads
  for (std::size_t i = 0; i < signs.heads.size(); ++i) {
    const HeadSeries& head = signs.heads[i];
    if (layers.empty() || layers.back().place.layer != head.place.layer) {
      sums.clear();
      layers.push_back({{head.place.layer, -1}, head.steps, {}, {}});
      layers.back().entropy.resize(head.steps.size());
      layers.back().score.resize(head.steps.size());
    }
    LayerSeries& layer = layers.back();
    for (std::size_t t = 0; t < std::min(head.steps.size(), layer.steps.size()); ++t) {
      auto& [sum, count] = sums[layer.steps[t]];
      if (std::isfinite(head.entropy[t])) sum += head.entropy[t], ++count;
      layer.entropy[t] = count > 0 ? sum / double(count) : std::numeric_limits<double>::quiet_NaN();
      layer.score[t] = std::max(layer.score[t], head.score[t]);
    }
  }
  return layers;
}

/// Scores rising, entropy -> 0, the loss rising, or flat while the gradient rises; in a fifth of the lines at least.
void find_collapse(const RunSigns& signs, const DoctorOptions& o, std::vector<Finding>& out) {
  Finding f{.symptom = "collapse", .weight = 90};
  bool to_the_end = false;
  for (const LayerSeries& layer : layers_over_time(signs)) {
    const std::size_t n = layer.steps.size(), window = std::max<std::size_t>(4, n / 5);
    std::int64_t first = -1, last = -1;
    Change scores;
    double lowest = 1;
    for (std::size_t end = window; end <= n; ++end) {
      const Stretch where{end - window, end};
      const auto entropies = std::span(layer.entropy).subspan(where.first, window);
      const bool sharp = std::all_of(entropies.begin(), entropies.end(), [&](double x) { return x < o.collapsed; });
      const Change score = change_of(layer.score, where);
      const bool rises = slope_of(layer.steps, layer.score, where) > o.limit && score.after > 1.05 * score.before;
      if (!sharp || !rises) continue;
      const std::int64_t from = layer.steps[where.first], to = layer.steps[end - 1];
      const LossTrend loss = signs.loss_trend(from, to);
      const auto gradient_rises = [&] {
        const auto at = std::lower_bound(signs.steps.begin(), signs.steps.end(), from) - signs.steps.begin();
        const auto past = std::upper_bound(signs.steps.begin(), signs.steps.end(), to) - signs.steps.begin();
        const Change g = change_of(signs.gradient, {std::size_t(at), std::size_t(past)});
        return g.after > 1.1 * g.before;
      };
      if (loss == LossTrend::falling || (loss == LossTrend::flat && !gradient_rises())) continue;
      if (first < 0) first = from, scores.before = score.before;
      last = to, scores.after = score.after;
      lowest = std::min(lowest, *std::min_element(entropies.begin(), entropies.end()));
    }
    if (first < 0) continue;
    const bool here_to_end =
        layer.entropy.back() < o.collapsed && signs.loss_trend(first, signs.steps.back()) != LossTrend::falling;
    if (f.places.empty() || (here_to_end && !to_the_end)) {
      f.evidence = fmt::format("mean entropy down to {:.3f}, largest |score| {:.3g} -> {:.3g} nats, loss not falling",
                               lowest, scores.before, scores.after);
      f.places.insert(f.places.begin(), layer.place);
    } else {
      f.places.push_back(layer.place);
    }
    to_the_end = to_the_end || here_to_end;
    f.first_step = f.places.size() == 1 ? first : std::min(f.first_step, first);
    f.last_step = std::max(f.last_step, last);
  }
  if (f.places.empty()) return;
  f.bad = to_the_end;
  f.cause = "queries and keys feed each other's growth until the layer looks at single keys that do not help";
  f.action =
      "[guard] mode = \"full\" with a smaller limit (it halves it by itself), a longer warm-up, or qk_norm = \"rms\"";
  out.push_back(std::move(f));
}

/// Scores still rising faster than the limit, entropy falling, the loss still falling: not sick yet.
void find_drift(const RunSigns& signs, const DoctorOptions& o, std::vector<Finding>& out) {
  std::vector<Sick> drifting;
  for (const HeadSeries& head : signs.heads) {
    const std::size_t n = head.steps.size();
    if (n < 8) continue;
    const Stretch where = last_part(n, 0.5);
    const double slope = slope_of(head.steps, head.score, where);
    const Change entropy = change_of(head.entropy, where), score = change_of(head.score, where);
    const bool rising = slope > o.limit && score.after > 1.05 * score.before && head.score.back() <= o.tau &&
                        head.score.back() > kWorryingScore * o.tau;
    const bool sharper = entropy.after < 0.9 * entropy.before;
    const bool learning = signs.loss_trend(head.steps[where.first], head.steps.back()) == LossTrend::falling;
    if (rising && sharper && learning)
      drifting.push_back({&head, slope, where.first, head.steps[where.first], head.steps.back()});
  }
  if (drifting.empty()) return;
  Finding f{.symptom = "drift", .weight = 40};
  tell_where(drifting, f);
  const Sick& worst = drifting.front();
  const double now = worst.head->score.back(), left = (o.tau - now) / worst.value;
  f.evidence = fmt::format(
      "largest |score| {:.3g} -> {:.3g} nats, {:.2g} an update (limit {:g}), entropy {:.2f} -> {:.2f}; at this pace "
      "{:g} nats in {:.0f} updates",
      worst.head->score[worst.line], now, worst.value, o.limit, worst.head->entropy[worst.line],
      worst.head->entropy.back(), o.tau, left);
  f.cause = "the learning rate of queries and keys moves their scores faster than the rest of the model follows";
  f.action = "[guard] mode = \"lr\" or \"full\": it cuts the rate of these heads alone; or a lower learning rate";
  out.push_back(std::move(f));
}

/// All heads look at everything alike, gradient not rising, the loss flat.
void find_uniform(const RunSigns& signs, const DoctorOptions& o, std::vector<Finding>& out) {
  if (signs.lines.size() < 8 || signs.heads.empty()) return;
  double lowest = 1, sum = 0;
  for (const HeadSeries& head : signs.heads) {
    const Stretch where = last_part(head.entropy.size(), 0.25);
    const double entropy = middle({head.entropy.begin() + std::ptrdiff_t(where.first), head.entropy.end()});
    if (!std::isfinite(entropy)) return;
    lowest = std::min(lowest, entropy);
    sum += entropy;
  }
  const double mean = sum / double(signs.heads.size());
  const Stretch half = last_part(signs.loss.size(), 0.5);
  const Change gradient = change_of(signs.gradient, half);
  if (mean < o.uniform || signs.loss_trend(half) != LossTrend::flat || gradient.after > 1.1 * gradient.before) return;
  Finding f{.symptom = "uniform", .weight = 30, .places = {{}}};
  f.first_step = signs.steps[half.first], f.last_step = signs.steps.back();
  f.evidence =
      fmt::format("mean entropy {:.3f} (lowest head {:.3f}), loss flat at {:.4g}, gradient norm {:.2g} -> {:.2g}", mean,
                  lowest, signs.loss.back(), gradient.before, gradient.after);
  f.cause = "attention does not choose: the rate of queries and keys, or the scale of their scores, is too small";
  f.action = "a higher learning rate (attune lr-find), a shorter warm-up; check scale and initialisation of the scores";
  out.push_back(std::move(f));
}

}  // namespace

std::vector<Finding> attention_findings(const RunSigns& signs, const DoctorOptions& options) {
  std::vector<Finding> out;
  find_collapse(signs, options, out);
  find_large_scores(signs, options, out);
  find_drift(signs, options, out);
  find_uniform(signs, options, out);
  return out;
}

}  // namespace attune::train
