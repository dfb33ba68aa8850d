// Series and trends.
#include "train/doctor_signs.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace attune::train {

double middle(std::vector<double> values) {
  std::erase_if(values, [](double x) { return !std::isfinite(x); });
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

Stretch last_part(std::size_t n, double share) {
  const std::size_t wanted = std::max<std::size_t>(4, std::size_t(std::ceil(share * double(n))));
  return {n - std::min(n, wanted), n};
}

Change change_of(std::span<const double> values, Stretch where) {
  const std::size_t half = where.first + where.size() / 2;
  const auto part = [&](std::size_t a, std::size_t b) {
    return middle(std::vector<double>(values.begin() + std::ptrdiff_t(a), values.begin() + std::ptrdiff_t(b)));
  };
  return {part(where.first, half), part(half, where.end)};
}

double slope_of(std::span<const std::int64_t> steps, std::span<const double> values, Stretch where) {
  double n = 0, x = 0, y = 0, xx = 0, xy = 0;
  for (std::size_t i = where.first; i < where.end; ++i) {
    if (!std::isfinite(values[i])) continue;
    const auto t = double(steps[i] - steps[where.first]);
    n += 1, x += t, y += values[i], xx += t * t, xy += t * values[i];
  }
  const double spread = n * xx - x * x;
  return n >= 3 && spread > 0 ? (n * xy - x * y) / spread : std::numeric_limits<double>::quiet_NaN();
}

RunSigns::Trend RunSigns::loss_trend(Stretch where) const {
  if (where.size() < 2) return Trend::flat;
  const Change change = change_of(loss, where);
  const double moved = (change.after - change.before) / reach;
  return moved < -0.01 ? Trend::falling : moved > 0.02 ? Trend::rising : Trend::flat;
}

RunSigns::Trend RunSigns::loss_trend(std::int64_t first_step, std::int64_t last_step) const {
  const auto at = [&](std::int64_t step) {
    return std::size_t(std::lower_bound(steps.begin(), steps.end(), step) - steps.begin());
  };
  return loss_trend({at(first_step), at(last_step + 1)});
}

namespace {

void add_heads(const RunHistory& history, RunSigns& signs) {
  for (const std::string& layer : layers_of(history)) {
    const std::size_t first = signs.heads.size();
    for (const HeadsLine& line : heads_of(history, layer)) {
      const std::size_t num_heads = std::min({line.score.size(), line.logit.size(), line.entropy.size()});
      for (std::size_t h = 0; h < num_heads; ++h) {
        if (first + h == signs.heads.size()) signs.heads.push_back({.place = {layer, std::int64_t(h)}});
        HeadSeries& head = signs.heads[first + h];
        head.steps.push_back(line.step);
        head.score.push_back(line.score[h]);
        head.logit.push_back(line.logit[h]);
        head.entropy.push_back(line.entropy[h]);
      }
    }
  }
}

}  // namespace

RunSigns read_signs(const RunHistory& history) {
  RunSigns signs;
  signs.lines = standing(history.steps);
  for (const StepLine& line : signs.lines) {
    signs.steps.push_back(line.step);
    signs.loss.push_back(line.loss);
    signs.gradient.push_back(line.gradient_norm);
    signs.output_lse.push_back(line.output_lse);
  }
  add_heads(history, signs);
  if (signs.heads.empty() && !signs.lines.empty()) {
    HeadSeries all{.place = {}, .steps = signs.steps};
    for (const StepLine& line : signs.lines) {
      all.score.push_back(line.largest_logit);
      all.logit.push_back(line.largest_logit);
      all.entropy.push_back(line.entropy);
    }
    signs.heads.push_back(std::move(all));
  }

  const std::vector<ValidLine> valids = standing(history.valids);
  const bool before_training = !valids.empty() && valids.front().step == 0 && std::isfinite(valids.front().loss);
  double least = std::numeric_limits<double>::infinity();
  signs.untrained = before_training ? valids.front().loss : std::numeric_limits<double>::quiet_NaN();
  for (const double loss : signs.loss) {
    if (!std::isfinite(loss)) continue;
    if (std::isnan(signs.untrained)) signs.untrained = loss;
    least = std::min(least, loss);
  }
  signs.reach = std::isfinite(least) ? std::max(signs.untrained - least, 0.01 * std::abs(signs.untrained)) : 1;
  signs.reach = std::max(signs.reach, 1e-9);
  return signs;
}

}  // namespace attune::train
