// The trust region: norms of a head's rows, factors, and the closed loop around the prediction.
#include "attune/train/trust_region.hpp"

#include <algorithm>
#include <cmath>

namespace attune::train {
namespace {

constexpr double kForgetLoop = 0.1;  // of the closed loop's mean, an update

}  // namespace

TrustRegion::TrustRegion(const nn::AttentionSite& site, const optim::Optimizer& optimizer, TrustRule rule,
                         bool closed_loop)
    : rule_(rule), closed_loop_(closed_loop), proportional_(site.proportional) {
  const auto num_heads = std::size_t(site.num_heads());
  for (std::size_t h = 0; h < num_heads; ++h) {
    queries_.push_back(side_of(site.queries[h], optimizer));
    keys_.push_back(side_of(site.keys[h / std::size_t(site.group())], optimizer));
  }
  heads_.resize(num_heads);
  last_score_.resize(num_heads);
  last_move_.resize(num_heads);
  kappa_.resize(num_heads, 1);
}

TrustRegion::Side TrustRegion::side_of(const nn::HeadProjection& head, const optim::Optimizer& optimizer) {
  const std::vector<Tensor>& trained = optimizer.parameters();
  const auto add = [&](const nn::TensorRows& rows, std::vector<std::size_t>& to) {
    const auto found = std::find_if(trained.begin(), trained.end(), [&](const Tensor& p) { return p.is(rows.tensor); });
    if (!rows.tensor.defined() || found == trained.end()) return;
    const Piece piece{std::size_t(found - trained.begin()), rows.first, rows.end};
    const auto known = std::find_if(pieces_.begin(), pieces_.end(), [&](const Piece& p) {
      return p.parameter == piece.parameter && p.first == piece.first && p.end == piece.end;
    });
    to.push_back(std::size_t(known - pieces_.begin()));
    if (known == pieces_.end()) pieces_.push_back(piece);
  };
  Side side;
  add(head.weight, side.projection);
  add(head.bias, side.projection);
  add(head.gain, side.gain);
  for (const nn::TensorRows& rows : head.also) {
    side.also.emplace_back();
    add(rows, side.also.back());
  }
  return side;
}

namespace {

/// min(1, first / now): less than 1 once the weights have grown.
double damped(double first, double now) { return now > first && first > 0 ? first / now : 1; }

/// |update| / |weights|; 0 for weights that are all 0: there is nothing yet that could be moved in proportion.
double ratio(double update_squares, double weight_squares) {
  return weight_squares > 0 ? std::sqrt(update_squares / weight_squares) : 0;
}

}  // namespace

double TrustRegion::relative(const Side& side) const {
  double all = 1;
  const auto follow = [&](const std::vector<std::size_t>& part) {
    double update = 0, weight = 0;
    for (const std::size_t i : part) {
      update += pieces_[i].update * pieces_[i].update;
      weight += pieces_[i].weight * pieces_[i].weight;
    }
    all *= 1 + ratio(update, weight);
  };
  follow(side.projection);
  follow(side.gain);
  for (const auto& part : side.also) follow(part);
  return all - 1;
}

double TrustRegion::size(const Side& side) const {
  double weight = 0;
  for (const std::size_t i : side.gain.empty() ? side.projection : side.gain) {
    weight += pieces_[i].weight * pieces_[i].weight;
  }
  return std::sqrt(weight);
}

void TrustRegion::tighten(const Side& side, double factor) {
  const auto limit = [&](const std::vector<std::size_t>& part) {
    for (const std::size_t i : part) pieces_[i].factor = std::min(pieces_[i].factor, factor);
  };
  limit(side.projection);
  limit(side.gain);
  for (const auto& part : side.also) limit(part);
}

void TrustRegion::judge(const optim::Optimizer& optimizer, const std::vector<HeadSignals>& signals, double limit) {
  for (Piece& p : pieces_) {
    p.update = optimizer.update_norm(p.parameter, p.first, p.end);
    p.weight = optimizer.weight_norm(p.parameter, p.first, p.end);
    p.factor = 1;
  }
  for (std::size_t h = 0; h < heads_.size(); ++h) {
    heads_[h] = {std::max(signals[h].score, 1.0), relative(queries_[h]), relative(keys_[h])};
  }
  if (!proportional_) return;  // scores of another kind than a product: nothing is predicted
  if (rule_ == TrustRule::move) {
    judge_moves(signals, limit);
  } else {
    judge_weights();
  }
  // Rows that several heads read have the smallest factor among them; the others' factors stay their own.
  for (std::size_t h = 0; h < heads_.size(); ++h) {
    tighten(queries_[h], heads_[h].factor);
    tighten(keys_[h], rule_ == TrustRule::move ? heads_[h].factor : damped(first_query_[h], size(queries_[h])));
  }
}

void TrustRegion::judge_moves(const std::vector<HeadSignals>& signals, double limit) {
  for (std::size_t h = 0; h < heads_.size(); ++h) {
    HeadMove& head = heads_[h];
    if (closed_loop_ && last_move_[h] > 0) {
      const double moved = std::abs(signals[h].score - last_score_[h]) / last_move_[h];
      if (std::isfinite(moved)) kappa_[h] += kForgetLoop * (moved - kappa_[h]);
    }
    head.move = head.score * (head.rho_query + head.rho_key + head.rho_query * head.rho_key);
    if (closed_loop_) head.move *= std::max(1.0, kappa_[h]);
    // A score that is not finite makes the move so too: nothing is trusted then.
    head.factor = head.move <= limit ? 1 : std::isfinite(head.move) ? limit / head.move : 0;
    last_score_[h] = signals[h].score;
    last_move_[h] = std::min(head.move, limit);
  }
}

void TrustRegion::judge_weights() {
  const bool first = first_query_.empty();
  for (std::size_t h = 0; h < heads_.size(); ++h) {
    if (first) {
      first_query_.push_back(size(queries_[h]));
      first_key_.push_back(size(keys_[h]));
    }
    heads_[h].factor = damped(first_key_[h], size(keys_[h]));
    heads_[h].move = 1 / heads_[h].factor;
  }
}

void TrustRegion::scale(optim::Optimizer& optimizer) const {
  for (const Piece& p : pieces_) {
    if (p.factor != 1) optimizer.scale_update(p.parameter, p.first, p.end, p.factor);
  }
}

void TrustRegion::save(GuardNumbers& to, const std::string& name) const {
  to[name + "/last_score"] = last_score_;
  to[name + "/last_move"] = last_move_;
  to[name + "/kappa"] = kappa_;
  to[name + "/first_query"] = first_query_;
  to[name + "/first_key"] = first_key_;
}
void TrustRegion::load(const GuardNumbers& from, const std::string& name) {
  last_score_ = guard_numbers(from, name + "/last_score", heads_.size());
  last_move_ = guard_numbers(from, name + "/last_move", heads_.size());
  kappa_ = guard_numbers(from, name + "/kappa", heads_.size());
  const auto found = from.find(name + "/first_query");
  const std::size_t count = found != from.end() && found->second.empty() ? 0 : heads_.size();  // 0: no step yet
  first_query_ = guard_numbers(from, name + "/first_query", count);
  first_key_ = guard_numbers(from, name + "/first_key", count);
}

}  // namespace attune::train
