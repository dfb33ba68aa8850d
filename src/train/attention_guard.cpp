// The guard's update: what is looked at, in which order, and what follows. State is in guard_state.cpp.
#include "attune/train/attention_guard.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "attune/base/error.hpp"
#include "attune/train/qk_clip.hpp"

namespace attune::train {
namespace {

constexpr std::array<std::string_view, 5> kModes{"off", "observe", "lr", "clip", "full"};
constexpr std::array<std::string_view, 2> kRules{"move", "quack"};
constexpr std::size_t kSnapshots = 3;
// A collapsing layer's limit is halved an update, down to a share of the usual one; then it grows back slowly.
constexpr double kTighten = 0.5, kTightest = 1.0 / 16, kLoosen = 1.02;
constexpr double kMostDeviations = 6;  // beyond which a number enters a running mean as less than it is

template <class Enum, std::size_t n>
Enum from_name(std::string_view function, const std::array<std::string_view, n>& names, std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    fail(function, fmt::format("{}", fmt::join(names, ", ")), fmt::format("got \"{}\"", name));
  }
  return Enum(found - names.begin());
}

const GuardOptions& checked(const GuardOptions& o) {
  const auto above = [](double x, double low, std::string_view name) {
    if (!(x > low)) fail("AttentionGuard", fmt::format("`{}` above {}", name, low), fmt::format("got {}", x));
  };
  above(o.limit, 0, "limit");
  above(o.tight, 0, "tight");
  above(o.tau, 0, "tau");
  above(o.healthy_gradient, 0, "healthy_gradient");
  above(o.healthy_growth, 1, "healthy_growth");
  if (!(o.tight <= 1) || !(o.tight_until >= 0 && o.tight_until <= 0.5)) {
    fail("AttentionGuard", "`tight` of at most 1, `tight_until` in 0 .. 0.5",
         fmt::format("got {} and {}", o.tight, o.tight_until));
  }
  if (o.steps < 0 || o.warmup < 0 || o.snapshot_every < 0 || o.most_rollbacks < 0) {
    fail("AttentionGuard", "steps, warmup, snapshot_every and most_rollbacks of 0 or more",
         fmt::format("got {}, {}, {} and {}", o.steps, o.warmup, o.snapshot_every, o.most_rollbacks));
  }
  return o;
}

}  // namespace

std::string_view name_of(GuardMode mode) { return kModes[std::size_t(mode)]; }
GuardMode guard_mode_from_name(std::string_view name) {
  return from_name<GuardMode>("guard_mode_from_name", kModes, name);
}
std::string_view name_of(TrustRule rule) { return kRules[std::size_t(rule)]; }
TrustRule trust_rule_from_name(std::string_view name) {
  return from_name<TrustRule>("trust_rule_from_name", kRules, name);
}

AttentionGuard::AttentionGuard(nn::Module& model, optim::Optimizer& optimizer, const GuardOptions& options)
    : options_(checked(options)),
      model_(model),
      optimizer_(optimizer),
      spikes_(options.spike),
      clock_(options.warmup),
      snapshots_(kSnapshots) {
  if (options_.mode == GuardMode::off) return;
  sites_ = nn::attention_sites(model);
  for (const nn::AttentionSite& site : sites_) {
    layers_.push_back(
        {TrustRegion(site, optimizer, options_.rule, options_.closed_loop), CollapseDetector(options_.collapse),
         std::vector<RunningScore>(std::size_t(site.num_heads()), RunningScore(0.05, 1e-6)), options_.limit});
  }
}

void AttentionGuard::tell(GuardEvent event) {
  if (!listener_) return;
  event.step = update_;
  if (options_.mode == GuardMode::observe) event.action.insert(0, "would_");
  listener_(event);
}

std::int64_t AttentionGuard::distance() const {
  return std::max<std::int64_t>(20, std::int64_t(std::ceil(0.005 * double(options_.steps))));
}

/// 0.5^k after the k-th rollback, from near 0 over the first 2 M updates after it.
double AttentionGuard::rollback_factor() const {
  if (rollbacks_.empty()) return 1;
  const double since = double(optimizer_.step() - rollbacks_.back().to + 1) / double(2 * distance());
  return std::pow(0.5, double(rollbacks_.size())) * std::min(1.0, since);
}

double AttentionGuard::opening() const {
  const double young = options_.tight_until * double(options_.steps);
  if (young <= 0) return 1;
  const double grown = std::clamp(double(optimizer_.step()) / young - 1, 0.0, 1.0);
  return options_.tight + (1 - options_.tight) * grown;
}

void AttentionGuard::begin() {
  report_ = {};
  if (options_.mode != GuardMode::full) return;
  const std::int64_t step = optimizer_.step(),
                     every = options_.snapshot_every > 0 ? options_.snapshot_every : distance();
  const bool due = step % every == 0 && step > snapshots_.newest();
  if (snapshots_.empty() || (due && healthy_)) snapshots_.take(model_, optimizer_, numbers());
  if (due) healthy_ = true;  // a new window begins
  optimizer_.set_rate_multiplier(rollback_factor() * clock_.multiplier(optimizer_.options().schedule, step));
}

bool AttentionGuard::inspect(const GuardView& view) {
  if (options_.mode == GuardMode::off) return true;
  update_ = optimizer_.step() + 1;
  const double norm = view.staged ? optimizer_.gradient_norm() : std::nan("");
  if (judges(GuardMode::full)) {
    const Spike spike = spikes_.observe(view.loss, norm);
    if (spike != Spike::none && !go_back(spike, view)) return false;
    if (spikes_.loss_z() > options_.spike.loss_z) healthy_ = false;
  }
  if (!view.staged) return true;
  loss_.add(view.loss);
  gradient_.add(norm);
  signals_ = head_signals(sites_, view.attention);
  watch_layers();
  if (judges(GuardMode::lr)) limit_moves();
  return true;
}

/// True if training goes on as it is: the guard only observes.
bool AttentionGuard::go_back(Spike spike, const GuardView& view) {
  const std::int64_t step = optimizer_.step();
  GuardEvent event{.signal = std::string(name_of(spike)), .action = "roll_back", .before = double(step)};
  switch (spike) {
    case Spike::loss:
      event.value = spikes_.loss_z(), event.threshold = options_.spike.loss_z;
      break;
    case Spike::gradient:
      event.value = spikes_.gradient_ratio(), event.threshold = options_.spike.gradient_ratio;
      break;
    default:
      event.value = view.loss;
  }
  if (options_.mode == GuardMode::observe) {
    event.after = event.before;
    tell(event);
    return true;
  }
  if (rollbacks() >= options_.most_rollbacks) {
    event.action = "stop";
    event.after = event.before;
    tell(event);
    std::string past;
    for (const Rollback& r : rollbacks_) past += fmt::format("{}{} -> {}", past.empty() ? "" : ", ", r.from, r.to);
    fail("AttentionGuard", fmt::format("at most {} spikes", options_.most_rollbacks),
         fmt::format("another at step {} ({}: loss {}, gradient norm {}); rollbacks so far, by step: {}. A lower "
                     "learning rate, clip_norm, a longer warm-up or normalised queries and keys may help",
                     step, name_of(spike), view.loss, optimizer_.gradient_norm(), past.empty() ? "none" : past));
  }
  // What is staged goes with the weights that it is applied to: all of both comes from the snapshot.
  if (view.staged) optimizer_.apply();
  const Snapshot& snapshot = snapshots_.go_back(model_, optimizer_, distance());
  load_numbers(snapshot.guard);
  rollbacks_.push_back({step, snapshot.step});
  event.after = double(snapshot.step);
  tell(event);
  return false;
}

/// Growth of scores, and layers that collapse.
void AttentionGuard::watch_layers() {
  const bool no_better = !loss_.falling() || !gradient_.falling();
  growth_ = 0;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    double largest = 0, entropy = 0, choosing = 0;
    for (std::size_t h = 0; h < layer.scores.size(); ++h) {
      const HeadSignals& head = signals_[i][h];
      RunningScore& score = layer.scores[h];
      if (std::isfinite(head.score)) {
        const double usual = std::max(1.0, score.mean());
        if (score.count() > 0) growth_ = std::max(growth_, head.score / usual);
        score.add(head.score, kMostDeviations);
        largest = std::max(largest, head.score);
      }
      entropy += head.choosing_rows > 0 ? head.entropy : 0;
      choosing += head.choosing_rows > 0 ? 1 : 0;
    }
    if (choosing > 0) layer.collapse.observe(entropy / choosing, largest, no_better);
    if (!judges(GuardMode::lr)) continue;
    const double before = layer.limit;
    layer.limit = layer.collapse.malignant() ? std::max(layer.limit * kTighten, options_.limit * kTightest)
                                             : std::min(layer.limit * kLoosen, options_.limit);
    if (layer.limit < before) {
      tell({.layer = sites_[i].name,
            .signal = "entropy",
            .value = layer.collapse.entropy(),
            .threshold = options_.collapse.entropy,
            .action = "tighten",
            .before = before,
            .after = layer.limit});
    }
    if (layer.collapse.malignant()) healthy_ = false;
  }
}

/// The trust region of every layer.
void AttentionGuard::limit_moves() {
  const bool quack = options_.rule == TrustRule::quack;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const double most = limit(i);
    layer.region.judge(optimizer_, signals_[i], most);
    if (acts(GuardMode::lr)) layer.region.scale(optimizer_);
    for (std::size_t h = 0; h < layer.region.heads().size(); ++h) {
      const HeadMove& head = layer.region.heads()[h];
      report_.largest_move = std::max(report_.largest_move, head.move);
      if (head.factor == 1) continue;
      report_.smallest_factor = std::min(report_.smallest_factor, head.factor);
      ++report_.scaled_heads;
      tell({.layer = sites_[i].name,
            .head = std::int64_t(h),
            .signal = quack ? "weights" : "move",
            .value = head.move,
            .threshold = quack ? 1 : most,
            .action = "scale",
            .before = 1,
            .after = head.factor});
    }
  }
}

void AttentionGuard::finish() {
  if (options_.mode == GuardMode::off) return;
  if (judges(GuardMode::full)) tick_clock();
  if (!judges(GuardMode::clip)) return;
  for (std::size_t i = 0; i < sites_.size(); ++i) {
    const std::vector<double> factors = clip_factors(sites_[i], signals_[i], options_.tau);
    if (std::all_of(factors.begin(), factors.end(), [](double f) { return f == 1; })) continue;
    if (acts(GuardMode::clip)) clip_heads(sites_[i], factors);
    for (std::size_t h = 0; h < factors.size(); ++h) {
      if (factors[h] == 1) continue;
      ++report_.clipped_heads;
      tell({.layer = sites_[i].name,
            .head = std::int64_t(h),
            .signal = "score",
            .value = signals_[i][h].score,
            .threshold = options_.tau,
            .action = "clip",
            .before = signals_[i][h].score,
            .after = signals_[i][h].score * factors[h]});
    }
  }
}

/// After an update: does it count towards the warm-up?
void AttentionGuard::tick_clock() {
  const bool calm = spikes_.gradient_z() < options_.healthy_gradient, slow = growth_ < options_.healthy_growth;
  const bool well = std::none_of(layers_.begin(), layers_.end(), [](const Layer& l) { return l.collapse.malignant(); });
  const auto before = double(clock_.at(update_ - 1));
  if (clock_.tick(update_ - 1, calm && slow && well)) return;
  tell({.signal = !calm   ? "gradient"
                  : !slow ? "growth"
                          : "entropy",
        .value = !calm ? spikes_.gradient_z() : growth_,
        .threshold = !calm ? options_.healthy_gradient : options_.healthy_growth,
        .action = "hold",
        .before = before,
        .after = double(clock_.at(update_))});
}

}  // namespace attune::train
