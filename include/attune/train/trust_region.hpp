// The trust region of attention: how far one update may move the scores of a head.
//
//   score = scale x^T Wq^T Wk y.  If the update has the gain of the weights, a score s moves by at most
//   move  = S (rho_q + rho_k + rho_q rho_k),   S = max(largest |s|, 1),   rho = |update| / |weights| of the head's rows
//   factor of the head's update = min(1, limit / move): a learning rate of its own.
//
// S is measured by the attention pass itself, so no bound on inputs and no power iteration is needed. A softmax whose
// logits move by at most d keeps its distribution within a Kullback-Leibler divergence of d^2 / 2: it is the pattern
// that is trusted for a step, however sharp it is. Rows are a head's weights with their bias terms as one more column.
// Of a key head that several query heads share, the tightest of them decides. Where a head is a product of more than
// one matrix (a gain, a short row before it), 1 + rho is the product of theirs.
//
// Rule "quack" (after arXiv:2511.21377) knows weights alone: the rate of the query rows is divided by how much larger
// the key rows have become since the first step, and the other way round; never multiplied.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "attune/nn/attention_sites.hpp"
#include "attune/optim/optimizer.hpp"
#include "attune/train/guard_event.hpp"
#include "attune/train/head_signals.hpp"

namespace attune::train {

enum class TrustRule : std::uint8_t { move, quack };

/// What a proposed update would do to one query head, and what is made of it.
struct HeadMove {
  double score = 0;                   // S
  double rho_query = 0, rho_key = 0;  // relative size of the proposed update
  double move = 0;                    // nats, as proposed
  double factor = 1;                  // what the update of the head's query rows is multiplied with
};

class TrustRegion {
 public:
  /// Of one attention; parameters that the optimizer does not train do not move.
  /// closed_loop: moves are multiplied with how much farther than predicted scores went of late.
  TrustRegion(const nn::AttentionSite& site, const optim::Optimizer& optimizer, TrustRule rule, bool closed_loop);

  /// Judges the staged update against `limit`, nats. signals: [H].
  void judge(const optim::Optimizer& optimizer, const std::vector<HeadSignals>& signals, double limit);
  /// [H], of the last judge().
  const std::vector<HeadMove>& heads() const { return heads_; }
  /// Multiplies the staged update with the factors.
  void scale(optim::Optimizer& optimizer) const;

  void save(GuardNumbers& to, const std::string& name) const;
  void load(const GuardNumbers& from, const std::string& name);

 private:
  /// Rows that have one factor. Norms are of the staged update and of the weights.
  struct Piece {
    std::size_t parameter = 0;
    std::int64_t first = 0, end = 0;
    double update = 0, weight = 0, factor = 1;
  };
  /// One head's pieces, by index: what projects it, and what multiplies it.
  struct Side {
    std::vector<std::size_t> projection, gain;
    std::vector<std::vector<std::size_t>> also;  // each moves the head on its own
  };
  Side side_of(const nn::HeadProjection& head, const optim::Optimizer& optimizer);
  double relative(const Side& side) const;
  double size(const Side& side) const;
  void tighten(const Side& side, double factor);
  void judge_moves(const std::vector<HeadSignals>& signals, double limit);
  void judge_weights();

  TrustRule rule_;
  bool closed_loop_, proportional_;
  std::vector<Piece> pieces_;
  std::vector<Side> queries_, keys_;  // [H]; query heads of one key head have equal pieces in keys_
  std::vector<HeadMove> heads_;       // [H]
  // Closed loop, [H]: the last score, what it was to move by, and the running mean of moved / predicted.
  std::vector<double> last_score_, last_move_, kappa_;
  std::vector<double> first_query_, first_key_;  // [H], sizes at the first step; empty before it; rule "quack"
};

}  // namespace attune::train
