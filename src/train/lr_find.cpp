// The range test, with an eye on the attention.
#include "attune/train/lr_find.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "attune/base/error.hpp"
#include "attune/train/head_signals.hpp"
#include "attune/train/snapshots.hpp"
#include "attune/train/trust_region.hpp"

namespace attune::train {
namespace {

void check_options(const LrFindOptions& o) {
  if (!(o.low > 0 && o.high > o.low && std::isfinite(o.high)))
    fail("find_learning_rate", "0 < low < high", fmt::format("{} and {}", o.low, o.high));
  if (o.iterations < 10) fail("find_learning_rate", "10 iterations or more", fmt::format("{}", o.iterations));
  if (!(o.smoothing >= 0 && o.smoothing < 1))
    fail("find_learning_rate", "a smoothing from 0 to below 1", fmt::format("{}", o.smoothing));
  if (!(o.give_up > 1)) fail("find_learning_rate", "give_up above 1", fmt::format("{}", o.give_up));
  if (!(o.move_limit > 0)) fail("find_learning_rate", "a move_limit above 0", fmt::format("{}", o.move_limit));
}

/// Puts everything back where it was, also if something throws.
class PutBack {
 public:
  PutBack(Learner& learner, optim::Optimizer& optimizer)
      : learner_(learner), optimizer_(optimizer), cursor_(learner.cursor()), training_(learner.model().training()) {
    ring_.take(learner.model(), optimizer, {});
  }
  ~PutBack() {
    ring_.go_back(learner_.model(), optimizer_, 0);
    learner_.seek(cursor_);
    learner_.model().train(training_);
  }

 private:
  Learner& learner_;
  optim::Optimizer& optimizer_;
  SnapshotRing ring_{1};
  BatchCursor cursor_;
  bool training_;
};

/// Where the smoothed loss is smallest, if that is below the first losses by more than chance: by twice the median step
/// from one loss to the next.
std::optional<std::size_t> bottom_of(const std::vector<LrFindPoint>& points) {
  const std::size_t n = points.size(), few = n / 10;
  if (few == 0) return std::nullopt;
  std::size_t bottom = 0;
  double first = 0;
  std::vector<double> steps;
  for (std::size_t i = 0; i < n; ++i) {
    if (points[i].smooth_loss < points[bottom].smooth_loss) bottom = i;
    if (i < few) first += points[i].loss / double(few);
    if (i > 0) steps.push_back(std::abs(points[i].loss - points[i - 1].loss));
  }
  std::nth_element(steps.begin(), steps.begin() + std::ptrdiff_t(steps.size() / 2), steps.end());
  if (!(first - points[bottom].smooth_loss > 2 * steps[steps.size() / 2])) return std::nullopt;
  return bottom;
}

}  // namespace

std::optional<double> LrFindResult::suggestion() const {
  if (!valley) return std::nullopt;
  return attention_limit ? std::min(*valley, *attention_limit / 3) : *valley;
}

LrFindResult find_learning_rate(Learner& learner, optim::Optimizer& optimizer, const TrainerOptions& trainer_options,
                                const LrFindOptions& options) {
  check_options(options);
  LrFindResult result;
  const PutBack put_back(learner, optimizer);
  const std::vector<nn::AttentionSite> sites = nn::attention_sites(learner.model());
  std::vector<TrustRegion> regions;
  for (const nn::AttentionSite& site : sites) regions.emplace_back(site, optimizer, TrustRule::move, false);

  Trainer trainer(learner, optimizer, trainer_options);
  double mean = 0, weight = 0, smallest = std::numeric_limits<double>::infinity();
  for (std::int64_t i = 0; i < options.iterations; ++i) {
    LrFindPoint point;
    point.learning_rate =
        options.low * std::pow(options.high / options.low, double(i) / double(options.iterations - 1));
    UpdateReport report = trainer.propose(true, point.learning_rate);
    point.loss = report.loss;
    mean = options.smoothing * mean + (1 - options.smoothing) * report.loss;
    weight = options.smoothing * weight + (1 - options.smoothing);
    point.smooth_loss = mean / weight;
    if (!report.staged || !(point.smooth_loss <= options.give_up * smallest)) {
      trainer.apply(report);  // nothing may stay staged; it is undone with the rest
      result.diverged = true;
      break;
    }
    smallest = std::min(smallest, point.smooth_loss);
    point.max_logit = report.attention.largest_logit;
    point.entropy = report.attention.entropy;
    const std::vector<std::vector<HeadSignals>> signals = head_signals(sites, report.sites);
    for (std::size_t s = 0; s < sites.size(); ++s) {
      regions[s].judge(optimizer, signals[s], std::numeric_limits<double>::max());
      for (std::size_t h = 0; h < regions[s].heads().size(); ++h) {
        const double move = regions[s].heads()[h].move;
        if (move > point.move) point.move = move, point.site = sites[s].name, point.head = std::int64_t(h);
      }
    }
    if (point.move > options.move_limit && !result.attention_limit) {
      result.attention_limit = point.learning_rate;
      result.limiting_site = point.site;
      result.limiting_head = point.head;
    }
    trainer.apply(report);
    result.points.push_back(std::move(point));
  }

  if (const std::optional<std::size_t> bottom = bottom_of(result.points))
    result.valley = result.points[*bottom].learning_rate / 10;
  return result;
}

}  // namespace attune::train
