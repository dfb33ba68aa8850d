// Cosines whose periods grow: cycle i has T_i = T_0 k^i steps and begins where the one before ends;
//     f(t) = r + (gamma^i - r) (1 + cos(pi (t_i / T_i)^kappa)) / 2        gamma_of = peak
//     f(t) = r + (1 - r) gamma^i (1 + cos(pi (t_i / T_i)^kappa)) / 2      gamma_of = height
// with t_i steps since the cycle began; r after `cycles` of them.  "SGDR", arXiv:1608.03983; "k-decay", 2004.05909.
// The cycle is found by adding up periods: a logarithm would take the wrong one at some of the restarts.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

enum class GammaOf : std::uint8_t {
  peak,   // gamma multiplies the rate at which a cycle begins
  height  // gamma multiplies that rate's distance from the smallest
};
std::span<const std::string_view> choices_of(GammaOf);

struct Sgdr {
  static constexpr std::string_view name = "sgdr";
  double warmup = 0;         // W: share of the total, or steps; the first cycle begins after it
  double first_period = 1;   // T_0: share of the total, or steps
  double period_factor = 1;  // k, 1 or more
  double min_ratio = 0;      // r
  double gamma = 1;
  GammaOf gamma_of = GammaOf::peak;
  std::int64_t cycles = 0;  // 0: no limit
  double k_decay = 1;       // kappa
  std::int64_t total = 0;   // steps; 0: no end
  WarmupStart warmup_start = WarmupStart::nonzero;
  double warmup_from = 0;
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const;
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("warmup", length(warmup)), visit("first_period", length(first_period));
    visit("period_factor", period_factor), visit("min_ratio", min_ratio), visit("gamma", gamma);
    visit("gamma_of", gamma_of), visit("cycles", cycles), visit("k_decay", k_decay), visit("total", length(total));
    visit("warmup_start", warmup_start), visit("warmup_from", warmup_from), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
