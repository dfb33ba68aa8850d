// What is wrong with a training run, from its log alone.
//
//   symptom            scores     entropy      gradient  loss             cause, and what helps
//   (none)             stable     low          normal    falling          a sharp head may be a good one: silence
//   drift              rising     falling      normal    falling          logits run away: the guard
//   explosion          > tau      low          any       any              softmax is saturated: QK-clip
//   collapse           rising     -> 0         any       flat, rising     a tighter limit, longer warm-up, QK-norm
//   spike              normal     normal       spike     spike            a batch the weights cannot take: clip, roll
//                                                                         back
//   output_divergence  normal     normal       rising    rising           logits of the output: z-loss
//   uniform            any        -> 1         small     flat             attention does not learn: rate, scale
//   saturated_cap      > tau      not low      any       any              a cap that lets no gradient through: its size
//   not_finite         an update was refused                              rate, clipping, warm-up
//   diverged           the loss ends above that of the untrained model    rate
//   overfitting        held-out loss rises while that of training falls   more data, dropout, fewer steps
//   epsilon_dominates  sqrt(v) of most weights below 10 epsilon           a smaller epsilon
//
// Entropy alone says nothing (arXiv:2505.21910): each finding takes the signs of its whole row. Trends are read from
// eight lines of the log or more; medians, so that a spike is no trend.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "attune/train/run_log_reader.hpp"

namespace attune::train {

struct DoctorOptions {
  double limit = 0.03;         // of the growth of a head's largest |score|, nats an update
  double tau = 100;            // largest |score| beyond which softmax is saturated, nats
  double collapsed = 0.05;     // normalised entropy of a layer below which it looks at single keys
  double low = 0.3;            // normalised entropy of a head below which it counts as low
  double uniform = 0.95;       // mean over all heads above which they look at everything alike
  double spike_loss = 6;       // deviations above the median of the lines before
  double spike_gradient = 3;   // times the median of the lines before
  double output_growth = 1;    // of the log-sum-exp of the output's logits above which they run away, nats
  double epsilon_share = 0.5;  // of a role's weights with sqrt(v^) below 10 epsilon above which epsilon dominates
};

/// A head of an attention module; head -1: the whole module, layer "": the whole model.
struct HeadPlace {
  std::string layer;
  std::int64_t head = -1;
  friend bool operator==(const HeadPlace&, const HeadPlace&) = default;
};

struct Finding {
  std::string symptom;            // as in the table above
  bool bad = false;               // training has failed or is failing; else it is at risk, or could be better
  double weight = 0;              // what comes first
  std::vector<HeadPlace> places;  // where, worst first; empty: it is not about attention
  std::int64_t first_step = 0, last_step = 0;
  std::string evidence, cause, action;  // sentences
};

struct Diagnosis {
  std::vector<Finding> findings;  // bad ones first, then by weight
  std::int64_t lines = 0;         // of steps, that were looked at
  std::int64_t first_step = 0, last_step = 0;
  std::vector<std::string> looked_at, not_logged;  // what was judged, and what could not be
  /// Whether there are lines enough for trends.
  bool sees_trends() const { return lines >= 8; }
  bool bad() const { return !findings.empty() && findings.front().bad; }
};

/// Throws Error if the log has no line of a step and no refused update: there is nothing to judge.
Diagnosis diagnose(const RunHistory& history, const DoctorOptions& options = {});

/// For people: a paragraph a finding, or "healthy" and what was looked at.
std::string diagnosis_text(const Diagnosis& diagnosis);

}  // namespace attune::train
