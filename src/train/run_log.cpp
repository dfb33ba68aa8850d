// From reports to lines.
#include "train/run_log.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "attune/train/dashboard.hpp"

namespace attune::train {
namespace {

/// A statistic of every head of an attention module, each [H].
struct SiteLine {
  std::vector<double> score, logit, entropy, variance, largest_prob, sink_mass;
  std::vector<double> rows, choosing_rows;  // that means are over
};

/// Batch entries and micro-batches together: maxima, and means over rows.
void add(const Statistics& s, SiteLine& line) {
  const auto num_heads = std::size_t(s.num_heads);
  if (line.rows.empty()) {
    line.score.assign(num_heads, 0);
    line.logit.assign(num_heads, -std::numeric_limits<double>::infinity());
    for (auto* zeros :
         {&line.entropy, &line.variance, &line.largest_prob, &line.sink_mass, &line.rows, &line.choosing_rows}) {
      zeros->assign(num_heads, 0);
    }
  }
  for (std::size_t i = 0; i < s.rows.size(); ++i) {
    if (s.rows[i] == 0) continue;  // a head that saw no key has nothing to say
    const std::size_t h = i % num_heads;
    const double score = std::max(s.largest_score[i], -s.smallest_score[i]);
    const bool finite = std::isfinite(score) && s.non_finite[i] == 0;
    line.score[h] = finite ? std::max(line.score[h], score) : std::numeric_limits<double>::infinity();
    line.logit[h] = std::max(line.logit[h], s.largest_logit[i]);
    if (s.entropy_normalized.empty()) continue;  // a normalizer without a log-sum-exp
    const auto rows = double(s.rows[i]), choosing = double(s.choosing_rows[i]);
    line.rows[h] += rows;
    line.choosing_rows[h] += choosing;
    line.entropy[h] += choosing * s.entropy_normalized[i];
    line.variance[h] += rows * s.variance[i];
    line.largest_prob[h] += rows * s.largest_prob[i];
    line.sink_mass[h] += rows * s.sink_mass[i];
  }
}

/// sum / weight; not a number where nothing was summed up.
std::vector<double> means(std::vector<double> sum, const std::vector<double>& weight) {
  for (std::size_t h = 0; h < sum.size(); ++h) sum[h] /= weight[h];
  return sum;
}

EventLog open_log(const RunFiles& files, const RunJournal::Place& place) {
  if (place.begins) return EventLog::create(files.log);
  return place.bytes ? EventLog::resume_at(files.log, *place.bytes) : EventLog::resume(files.log, place.step);
}

}  // namespace

RunJournal::RunJournal(const RunFiles& files, bool tensorboard, const Place& place, Dashboard* dashboard)
    : log_(open_log(files, place)) {
  if (tensorboard) board_.emplace(files.folder / "tensorboard", place.step, place.begins);
  if (dashboard) dashboard->follow(files.folder);
  log_.on_line([this, dashboard](std::string_view line) {
    if (board_) board_->line(line);
    if (dashboard) dashboard->grown();
  });
}

void RunJournal::begin_update(bool log_due) {
  log_due_ = log_due;
  factors_.clear();
}

void RunJournal::guard(const GuardEvent& e) {
  if (e.action == "scale") factors_[e.layer][e.head] = e.after;
  const bool frequent = e.action.ends_with("scale") || e.action.ends_with("clip");
  if (frequent && !log_due_) return;
  log_.write({{"event", "guard"},
              {"step", e.step},
              {"layer", e.layer},
              {"head", e.head},
              {"signal", e.signal},
              {"value", e.value},
              {"threshold", e.threshold},
              {"action", e.action},
              {"before", e.before},
              {"after", e.after}});
}

void RunJournal::refused(std::int64_t step, const UpdateReport& update) {
  log_.write({{"event", "refused"}, {"step", step}, {"loss", update.loss}, {"gradient_norm", update.gradient_norm}});
}

void RunJournal::step(const UpdateReport& update, const optim::Optimizer& optimizer, const AttentionGuard* guard,
                      const StepTotals& totals) {
  const std::int64_t step = optimizer.step();
  std::vector<std::pair<std::string_view, EventValue>> line{{"event", "step"},
                                                            {"step", step},
                                                            {"loss", totals.loss},
                                                            {"learning_rate", update.learning_rate},
                                                            {"base", optimizer.options().learning_rate},
                                                            {"schedule", optimizer.options().schedule.factor(step - 1)},
                                                            {"rollback", optimizer.rate_multiplier()},
                                                            {"gradient_norm", update.gradient_norm},
                                                            {"largest_logit", update.attention.largest_logit},
                                                            {"entropy", update.attention.entropy},
                                                            {"smallest_entropy", update.attention.smallest_entropy}};
  if (optimizer.listens()) line.emplace_back("plateau", optimizer.plateau_factor());
  if (update.output.tokens > 0) line.emplace_back("output_lse", update.output.lse());
  line.emplace_back("tokens", totals.tokens);
  line.emplace_back("seconds", totals.seconds);
  log_.write(line);
  heads(step, update.sites);
  if (guard == nullptr || !guard->watches()) return;
  const GuardReport& seen = guard->report();
  log_.write({{"event", "guard_step"},
              {"step", step},
              {"largest_move", seen.largest_move},
              {"smallest_factor", seen.smallest_factor},
              {"scaled_heads", seen.scaled_heads},
              {"clipped_heads", seen.clipped_heads}});
}

void RunJournal::epsilon(const optim::Optimizer& optimizer, const std::vector<ParameterRows>& roles) {
  std::map<Role, optim::EpsilonCount> of_role;  // in the order of the roles
  for (const ParameterRows& r : roles) {
    const optim::EpsilonCount count = optimizer.epsilon_count(optimizer.index_of(r.tensor), r.first, r.end);
    of_role[r.role].small += count.small;
    of_role[r.role].moved += count.moved;
  }
  std::vector<std::pair<std::string_view, EventValue>> line{{"event", "epsilon"}, {"step", optimizer.step()}};
  for (const auto& [role, count] : of_role) {
    if (count.moved > 0) line.emplace_back(name_of(role), double(count.small) / double(count.moved));
  }
  if (line.size() > 2) log_.write(line);
}

void RunJournal::heads(std::int64_t step, const std::vector<SiteStatistics>& sites) {
  std::vector<std::pair<std::string, SiteLine>> lines;  // in the model's order
  for (const SiteStatistics& site : sites) {
    auto found = std::find_if(lines.begin(), lines.end(), [&](const auto& line) { return line.first == site.name; });
    if (found == lines.end()) found = lines.insert(lines.end(), {site.name, {}});
    add(site.statistics, found->second);
  }
  for (const auto& [name, line] : lines) {
    std::vector<double> factor(line.rows.size(), 1);
    for (const auto& [head, f] : factors_[name]) factor.at(std::size_t(head)) = f;
    log_.write({{"event", "heads"},
                {"step", step},
                {"layer", name},
                {"score", line.score},
                {"logit", line.logit},
                {"entropy", means(line.entropy, line.choosing_rows)},
                {"variance", means(line.variance, line.rows)},
                {"largest_prob", means(line.largest_prob, line.rows)},
                {"sink_mass", means(line.sink_mass, line.rows)},
                {"factor", factor}});
  }
}

void RunJournal::valid(std::int64_t step, double loss) {
  log_.write({{"event", "valid"}, {"step", step}, {"loss", loss}});
}

}  // namespace attune::train
