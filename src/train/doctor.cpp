// The rows of the table that loss and gradient decide, and the whole diagnosis.
#include "attune/train/doctor.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "attune/base/error.hpp"
#include "train/doctor_signs.hpp"

namespace attune::train {
namespace {

using LossTrend = RunSigns::Trend;

bool has_symptom(const std::vector<Finding>& findings, std::string_view symptom) {
  return std::any_of(findings.begin(), findings.end(), [&](const Finding& f) { return f.symptom == symptom; });
}

/// Refused updates, and losses that are no numbers.
void find_not_finite(const RunHistory& history, const RunSigns& signs, std::vector<Finding>& out) {
  Finding f{.symptom = "not_finite", .weight = 95};
  std::int64_t updates = 0;
  const auto see = [&](std::int64_t step) {
    f.first_step = updates == 0 ? step : std::min(f.first_step, step);
    f.last_step = std::max(f.last_step, step);
    ++updates;
  };
  for (const RefusedLine& line : history.refused) see(line.step);
  for (const StepLine& line : signs.lines) {
    if (!std::isfinite(line.loss)) see(line.step);
  }
  if (updates == 0) return;
  const bool at_the_end = signs.lines.empty() || f.last_step >= signs.steps.back();
  f.bad = at_the_end || (updates > 1 && double(updates) > 0.01 * double(history.last_step()));
  f.evidence = fmt::format("{} update{} with a loss or gradient that is not finite, {}", updates,
                           updates == 1 ? "" : "s", at_the_end ? "at the end of the log" : "training went on");
  f.cause = "numbers outgrew their range: the rate is too high for the weights that it had led to";
  f.action = "a lower learning rate, more warm-up, clip_norm; [guard] mode = \"full\" goes back and tries with half";
  out.push_back(std::move(f));
}

/// Loss and gradient jump together while no score is out of the ordinary; and what the guard went back from.
void find_spikes(const RunHistory& history, const RunSigns& signs, const DoctorOptions& o, std::vector<Finding>& out) {
  Finding f{.symptom = "spike", .weight = 60};
  std::int64_t spikes = 0;
  const auto see = [&](std::int64_t step, std::string evidence) {
    f.first_step = spikes == 0 ? step : std::min(f.first_step, step);
    f.last_step = std::max(f.last_step, step);
    if (spikes++ == 0) f.evidence = std::move(evidence);
  };
  bool stopped = false;
  for (const GuardEvent& e : history.guard) {
    const bool stop = e.action.ends_with("stop");
    if (!stop && !e.action.ends_with("roll_back")) continue;
    stopped = stopped || stop;
    see(std::int64_t(e.before),
        fmt::format("the guard saw one at step {:.0f} ({}: {:.3g})", e.before, e.signal, e.value));
  }
  double before = 0;  // the loss that was usual before the first
  for (std::size_t i = 5; i < signs.lines.size(); ++i) {
    const std::size_t first = i - std::min<std::size_t>(i, 20);
    const auto part = [&](const std::vector<double>& x) {
      return std::vector<double>(x.begin() + std::ptrdiff_t(first), x.begin() + std::ptrdiff_t(i));
    };
    const double usual = middle(part(signs.loss)), norm = middle(part(signs.gradient));
    std::vector<double> away = part(signs.loss);
    for (double& x : away) x = std::abs(x - usual);
    const double deviation = std::max({1.48 * middle(away), 0.005 * std::abs(usual), 0.01 * signs.reach});
    const double z = (signs.loss[i] - usual) / deviation, ratio = signs.gradient[i] / norm;
    const auto score_exploded = [&] {
      return std::any_of(signs.heads.begin(), signs.heads.end(), [&](const HeadSeries& head) {
        const auto at = std::lower_bound(head.steps.begin(), head.steps.end(), signs.steps[i]) - head.steps.begin();
        return std::size_t(at) < head.steps.size() && !(head.score[std::size_t(at)] <= o.tau);
      });
    };
    if (!(z > o.spike_loss && ratio > o.spike_gradient) || score_exploded()) continue;
    if (spikes == 0) before = usual;
    see(signs.steps[i],
        fmt::format("at step {} loss {:.4g} (usual {:.4g}, {:.1f} deviations), gradient norm {:.3g} ({:.1f} "
                    "times the usual), scores as before",
                    signs.steps[i], signs.loss[i], usual, z, signs.gradient[i], ratio));
  }
  if (spikes == 0) return;
  if (spikes > 1) f.evidence += fmt::format("; {} in all", spikes);
  f.bad = stopped || (before > 0 && signs.loss.back() > before + 0.1 * signs.reach);
  if (f.bad) f.evidence += stopped ? "; it gave up" : "; the loss did not come back";
  f.cause = "a batch that meets weights which cannot take it; attention is not the reason";
  f.action = "clip_norm, or clip_zscore = 2.5 ([optimizer], ZClip); [guard] mode = \"full\" goes back to before it";
  out.push_back(std::move(f));
}

/// Loss and gradient rise while attention is as it should be: what is left are the logits of the output, whose
/// log-sum-exp grows. A log that does not have it leaves them as the only ones that attention does not excuse.
void find_output_divergence(const RunSigns& signs, const DoctorOptions& o, std::vector<Finding>& out) {
  if (signs.lines.size() < 8 || !out.empty()) return;
  const Stretch half = last_part(signs.loss.size(), 0.5);
  const Change gradient = change_of(signs.gradient, half), loss = change_of(signs.loss, half);
  if (signs.loss_trend(half) != LossTrend::rising || !(gradient.after > 1.2 * gradient.before)) return;
  const Change output = change_of(signs.output_lse, half);
  const bool seen = std::isfinite(output.before) && std::isfinite(output.after);
  if (seen && std::abs(output.after) < std::abs(output.before) + o.output_growth) return;
  double score = 0, entropy = 0;
  for (const HeadSeries& head : signs.heads) {
    const Change change = change_of(head.entropy, last_part(head.entropy.size(), 0.5));
    if (change.after < 0.7 * change.before) return;  // attention moves as well
    score = std::max(score, head.score.back());
    entropy += head.entropy.back() / double(signs.heads.size());
  }
  Finding f{.symptom = "output_divergence", .weight = 50};
  f.bad = loss.after - loss.before > 0.2 * signs.reach;
  f.first_step = signs.steps[half.first], f.last_step = signs.steps.back();
  f.evidence = fmt::format(
      "loss {:.4g} -> {:.4g}, gradient norm {:.3g} -> {:.3g}, while scores ({:.3g} nats) and entropy "
      "({:.2f}) are in order",
      loss.before, loss.after, gradient.before, gradient.after, score, entropy);
  if (seen) f.evidence += fmt::format("; log-sum-exp of the output {:.3g} -> {:.3g} nats", output.before, output.after);
  f.cause =
      seen ? "the logits of the output run away: their log-sum-exp grows, attention is not the reason"
           : "attention is not the reason; what is left are the logits of the output, which this log does not have";
  f.action = "[train] z_loss = 1e-4; a lower learning rate of the head ([optimizer.groups])";
  out.push_back(std::move(f));
}

/// Roles most of whose weights move by less than their rate, since epsilon is most of what their update is divided by.
void find_epsilon(const RunHistory& history, const DoctorOptions& o, std::vector<Finding>& out) {
  const std::vector<EpsilonLine> lines = standing(history.epsilon);
  if (lines.empty()) return;
  Finding f{.symptom = "epsilon_dominates", .weight = 15, .first_step = 0, .last_step = lines.back().step};
  double largest = 0;
  for (const auto& [role, share] : lines.back().share) {
    if (!(share > o.epsilon_share)) continue;
    f.evidence += fmt::format("{}{} {:.0f} %", f.evidence.empty() ? "" : ", ", role, 100 * share);
    if (share <= largest) continue;
    largest = share;
    for (auto line = lines.rbegin(); line != lines.rend(); ++line) {  // since when
      const auto then = line->share.find(role);
      if (then == line->share.end() || !(then->second > o.epsilon_share)) break;
      f.first_step = line->step;
    }
  }
  if (largest == 0) return;
  f.evidence = "weights with sqrt(v) below 10 epsilon, by role: " + f.evidence;
  f.cause = "their gradients are as small as epsilon: the update shrinks with them, Adam is no longer Adam there";
  f.action = "a smaller epsilon, or atan2_scale = 1.27, which has none ([optimizer])";
  out.push_back(std::move(f));
}

/// The loss ends above that of the untrained model.
void find_divergence(const RunSigns& signs, std::vector<Finding>& out) {
  if (signs.lines.size() < 4) return;
  const Stretch end = last_part(signs.loss.size(), 0.2);
  const double now = middle({signs.loss.begin() + std::ptrdiff_t(end.first), signs.loss.end()});
  if (!(now > signs.untrained)) return;
  Finding f{.symptom = "diverged", .bad = true, .weight = 65};
  f.first_step = signs.steps[end.first], f.last_step = signs.steps.back();
  f.evidence = fmt::format("loss {:.4g}, {:.4g} at first", now, signs.untrained);
  f.cause = "the learning rate is too high";
  f.action = "a lower one (attune lr-find proposes one), more warm-up";
  out.push_back(std::move(f));
}

/// Held-out loss rises from its best by a tenth of what was gained, while that of training falls.
void find_overfitting(const RunHistory& history, const RunSigns& signs, std::vector<Finding>& out) {
  const std::vector<ValidLine> valids = standing(history.valids);
  if (valids.size() < 4 || signs.lines.empty()) return;
  const auto best = std::min_element(valids.begin(), valids.end(),
                                     [](const ValidLine& a, const ValidLine& b) { return a.loss < b.loss; });
  const ValidLine& last = valids.back();
  const double gained = valids.front().loss - best->loss;
  if (valids.end() - best < 3 || !(last.loss - best->loss > 0.1 * gained)) return;
  if (signs.loss_trend(best->step, last.step) != LossTrend::falling) return;
  Finding f{.symptom = "overfitting", .weight = 20, .first_step = best->step, .last_step = last.step};
  f.evidence = fmt::format("held-out loss {:.4g} at step {}, {:.4g} at step {}, while that of training falls",
                           best->loss, best->step, last.loss, last.step);
  f.cause = "the model learns its training data by heart";
  f.action = "more data, dropout, weight decay, or an end near the best step";
  out.push_back(std::move(f));
}

/// What the log holds of that which is judged.
void look_at(const RunHistory& history, const RunSigns& signs, Diagnosis& d) {
  const auto look = [&](bool there, std::string what) {
    (there ? d.looked_at : d.not_logged).push_back(std::move(what));
  };
  look(!signs.lines.empty(), "loss and gradient norm");
  const bool each = !history.heads.empty();
  look(!signs.lines.empty(), each ? fmt::format("scores and entropy of each of {} heads", signs.heads.size())
                                  : "largest logit and mean entropy");
  if (!each) look(false, "heads");
  look(std::any_of(signs.output_lse.begin(), signs.output_lse.end(), [](double x) { return std::isfinite(x); }),
       "log-sum-exp of the output");
  look(!history.valids.empty(),
       history.valids.empty() ? "held-out loss" : fmt::format("{} held-out losses", standing(history.valids).size()));
  look(!history.epsilon.empty(), "weights dominated by epsilon");
  look(true, fmt::format("{} refused updates", history.refused.size()));
}

}  // namespace

Diagnosis diagnose(const RunHistory& history, const DoctorOptions& options) {
  if (history.steps.empty() && history.refused.empty())
    fail("diagnose", "a log with a line of a step at least (log_every)", "there is none");
  const RunSigns signs = read_signs(history);
  Diagnosis d{.lines = std::int64_t(signs.lines.size())};
  if (!signs.steps.empty()) d.first_step = signs.steps.front();
  d.last_step = history.last_step();
  look_at(history, signs, d);
  d.findings = attention_findings(signs, options);
  find_not_finite(history, signs, d.findings);
  find_spikes(history, signs, options, d.findings);
  find_output_divergence(signs, options, d.findings);
  if (!has_symptom(d.findings, "output_divergence")) find_divergence(signs, d.findings);
  find_overfitting(history, signs, d.findings);
  find_epsilon(history, options, d.findings);
  std::stable_sort(d.findings.begin(), d.findings.end(),
                   [](const Finding& a, const Finding& b) { return a.bad != b.bad ? a.bad : a.weight > b.weight; });
  return d;
}

std::string diagnosis_text(const Diagnosis& d) {
  std::string seen = fmt::format("{} lines of the log, steps {} .. {}", d.lines, d.first_step, d.last_step);
  if (!d.sees_trends()) seen += "; too few for trends";
  if (d.findings.empty()) {
    return fmt::format("healthy ({})\nlooked at  {}{}", seen, fmt::join(d.looked_at, ", "),
                       d.not_logged.empty() ? "" : fmt::format("\nnot logged {}", fmt::join(d.not_logged, ", ")));
  }
  std::string text;
  for (const Finding& f : d.findings) {
    text += fmt::format("{}  {}, steps {} .. {}", f.bad ? "BAD " : "note", f.symptom, f.first_step, f.last_step);
    for (std::size_t i = 0; i < std::min<std::size_t>(f.places.size(), 3); ++i)
      text += fmt::format("{}{}", i == 0 ? ": " : ", ", place_text(f.places[i]));
    if (f.places.size() > 3) text += fmt::format(" and {} more", f.places.size() - 3);
    text +=
        fmt::format("\n      evidence  {}\n      cause     {}\n      action    {}\n", f.evidence, f.cause, f.action);
  }
  return text + seen;
}

}  // namespace attune::train
