// AttentionGuard: the attention pass's own statistics, fed back into the learning rate.
//
//   off      nothing
//   observe  tells what it would have done ("would_scale"); training stays the same bit for bit
//   lr       each head's update is scaled so that its scores move by at most `limit` (trust_region.hpp); a young run
//            and a layer that collapses get a tighter one (collapse.hpp)
//   clip     a head whose scores exceed `tau` is scaled back (qk_clip.hpp)
//   full     lr and clip; spikes lead back to a healthy snapshot (spike.hpp, snapshots.hpp); warm-up waits for health
//            (warmup_clock.hpp)
//
// One update, between a forward and backward pass with statistics and the next:
//
//     guard.begin();                                              // the rate: warm-up clock, rollbacks; snapshots
//     bool staged = std::isfinite(loss) && optimizer.propose();
//     if (!guard.inspect({loss, staged, statistics})) continue;   // went back: nothing is staged, go on with fresh
//     data if (staged) { optimizer.apply();  guard.finish(); }
//
// The limit of a young run: what attention looks at is chosen in the first updates, by gradients that hardly know
// anything yet, and a softmax that has made up its mind gives others little gradient to learn by. So patterns settle
// late:
//
//     limit(t) = limit * (tight                                                     t <= U, U = tight_until * steps
//                         tight + (1 - tight) (t - U) / U                           U < t < 2 U
//                         1)                                                        t >= 2 U
//
// A rollback restores the newest healthy snapshot that is at least M = max(20, 0.5 % of all updates) updates old and
// multiplies the rate with a half, which is warmed up again over 2 M updates. The data goes on where it is. The third
// spike ends training with an Error. Where nothing acts, training is the same bit for bit as without a guard.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "attune/nn/attention_sites.hpp"
#include "attune/optim/optimizer.hpp"
#include "attune/train/collapse.hpp"
#include "attune/train/guard_event.hpp"
#include "attune/train/head_signals.hpp"
#include "attune/train/snapshots.hpp"
#include "attune/train/spike.hpp"
#include "attune/train/trust_region.hpp"
#include "attune/train/warmup_clock.hpp"

namespace attune::train {

enum class GuardMode : std::uint8_t { off, observe, lr, clip, full };
/// "off", "observe", "lr", "clip", "full".
std::string_view name_of(GuardMode);
GuardMode guard_mode_from_name(std::string_view name);
/// "move", "quack".
std::string_view name_of(TrustRule);
TrustRule trust_rule_from_name(std::string_view name);

struct GuardOptions {
  GuardMode mode = GuardMode::full;
  TrustRule rule = TrustRule::move;
  double limit = 0.04;              // of a head's move, nats an update
  double tight = 0.25;              // share of the limit that a young run gets; 1: the same limit all along
  double tight_until = 0.1;         // share of `steps` that it is young for; it grows up in as many again
  double tau = 100;                 // largest |score| before QK-clip, nats
  bool closed_loop = false;         // correct predicted moves by what was seen to move
  std::int64_t steps = 0;           // updates planned; 0: unknown
  std::int64_t warmup = 0;          // of which the schedule warms up (warmup_length()); 0: no clock
  double healthy_gradient = 3;      // z-score of the gradient's norm above which warm-up waits
  double healthy_growth = 1.5;      // a head's |score| over its mean above which warm-up waits
  std::int64_t snapshot_every = 0;  // updates; 0: M
  std::int64_t most_rollbacks = 2;
  SpikeOptions spike;
  CollapseOptions collapse;
};

/// What inspect() looks at.
struct GuardView {
  double loss = 0;                            // mean over the update's target tokens
  bool staged = false;                        // whether the optimizer has a proposal
  std::span<const SiteStatistics> attention;  // of every attention module, one or more micro-batches
};

/// What happened to one update.
struct GuardReport {
  double smallest_factor = 1;     // of a head's rate
  double largest_move = 0;        // nats, as proposed
  std::int64_t scaled_heads = 0;  // whose rate was (or would have been) cut
  std::int64_t clipped_heads = 0;
};

class AttentionGuard {
 public:
  /// model and optimizer must outlive it; the optimizer's rate multiplier belongs to the guard from now on.
  /// Throws Error for options out of range.
  AttentionGuard(nn::Module& model, optim::Optimizer& optimizer, const GuardOptions& options);

  /// Events go here as they happen.
  void on_event(GuardListener listener) { listener_ = std::move(listener); }

  /// Before propose().
  void begin();
  /// After propose(), in place of whatever else looks at a refused update. False: it went back to a snapshot (mode
  /// full); weights, optimizer and generator are those of then and nothing is staged.
  /// Throws Error at the spike after the last rollback, and for statistics that do not fit the model.
  bool inspect(const GuardView& view);
  /// After apply().
  void finish();

  /// Whether inspect() needs statistics.
  bool watches() const { return options_.mode != GuardMode::off; }
  /// Of the last update.
  const GuardReport& report() const { return report_; }
  const GuardOptions& options() const { return options_; }
  std::int64_t rollbacks() const { return std::int64_t(rollbacks_.size()); }
  /// The limit of a layer in the next update, nats; youth and collapse tighten it.
  double limit(std::size_t site) const { return layers_[site].limit * opening(); }
  const std::vector<nn::AttentionSite>& sites() const { return sites_; }

  /// All that a resumed run needs, to go on bit for bit; between two updates.
  GuardState state() const;
  /// Throws Error, naming what is missing, unless it is the state of such a guard.
  void load_state(const GuardState& state);

 private:
  struct Layer {
    TrustRegion region;
    CollapseDetector collapse;
    std::vector<RunningScore> scores;  // of each query head
    double limit;
  };
  struct Rollback {
    std::int64_t from, to;
  };
  bool acts(GuardMode what) const { return options_.mode == what || options_.mode == GuardMode::full; }
  bool judges(GuardMode what) const { return acts(what) || options_.mode == GuardMode::observe; }
  std::int64_t distance() const;  // M
  double rollback_factor() const;
  double opening() const;  // share of the limit that the present update gets
  void tell(GuardEvent event);
  bool go_back(Spike spike, const GuardView& view);
  void watch_layers();
  void limit_moves();
  void tick_clock();
  GuardNumbers numbers() const;
  void load_numbers(const GuardNumbers& from);

  GuardOptions options_;
  nn::Module& model_;
  optim::Optimizer& optimizer_;
  GuardListener listener_;
  std::vector<nn::AttentionSite> sites_;
  std::vector<Layer> layers_;                      // one a site
  std::vector<std::vector<HeadSignals>> signals_;  // of the present update
  SpikeDetector spikes_;
  Trend loss_, gradient_;
  WarmupClock clock_;
  SnapshotRing snapshots_;
  std::vector<Rollback> rollbacks_;
  bool healthy_ = true;   // since the last snapshot
  bool growing_ = false;  // a score beyond healthy_growth in the present update
  double growth_ = 0;
  GuardReport report_;
  std::int64_t update_ = 0;  // number of the present update, from 1
};

}  // namespace attune::train
