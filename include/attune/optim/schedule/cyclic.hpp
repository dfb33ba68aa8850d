// Up from r to 1 and down again, for ever:  f(t) = r + (1 - r) h s,  h the height within the cycle, 0 .. 1, and
//     s = 1 (triangular), 2^(1 - c) in cycle c = 1, 2, ... (triangular2), gamma^t (exp_range);
// the momentum goes the other way.  "Cyclical learning rates for training neural networks", arXiv:1506.01186
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

enum class CycleScale : std::uint8_t { triangular, triangular2, exp_range };
std::span<const std::string_view> choices_of(CycleScale);

struct Cyclic {
  static constexpr std::string_view name = "cyclic";
  double min_ratio = 0.1;  // r: smallest rate over the largest
  double up = 2000;        // share of the total, or steps
  double down = 0;         // share of the total, or steps; 0: as many as up
  CycleScale mode = CycleScale::triangular;
  double gamma = 1;
  bool cycle_momentum = true;
  double min_momentum = 0.8;  // momentum of SGD, beta_1 of Adam
  double max_momentum = 0.9;
  std::int64_t total = 0;  // steps; 0: no end
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const;
  std::optional<double> momentum(std::int64_t t) const;
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("min_ratio", min_ratio), visit("up", length(up)), visit("down", length(down)), visit("mode", mode);
    visit("gamma", gamma), visit("cycle_momentum", cycle_momentum), visit("min_momentum", min_momentum);
    visit("max_momentum", max_momentum), visit("total", length(total)), visit("past_end", past_end);
  }

 private:
  double height(std::int64_t t) const;
};

}  // namespace attune::optim::schedule
