// Running numbers and the spikes among them.
#include "attune/train/spike.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "attune/base/error.hpp"

namespace attune::train {
namespace {

constexpr std::int64_t kKnown = 8;              // numbers after which a deviation is one
constexpr double kForget = 0.02;                // of a running mean, an update
constexpr double kFast = 0.1, kSlow = kForget;  // of a trend's two means

}  // namespace

const std::vector<double>& guard_numbers(const GuardNumbers& numbers, const std::string& name, std::size_t count) {
  const auto found = numbers.find(name);
  if (found == numbers.end() || found->second.size() != count) {
    fail("AttentionGuard::load_state", fmt::format("{} numbers \"{}\"", count, name),
         found == numbers.end() ? "there are none" : fmt::format("got {}", found->second.size()));
  }
  return found->second;
}

double RunningScore::z(double x) const {
  const double deviation = std::max({std::sqrt(variance_), least_share_ * std::abs(mean_), least_});
  return count_ > 0 && deviation > 0 ? (x - mean_) / deviation : 0;
}

void RunningScore::add(double x, double most) {
  if (const double above = z(x); count_ >= kKnown && above > most) x = mean_ + (x - mean_) * (most / above);
  ++count_;
  // A plain mean at first: 1 / n until that is less than what is forgotten later on.
  const double share = std::max(kForget, 1 / double(count_)), distance = x - mean_;
  mean_ += share * distance;
  variance_ = (1 - share) * (variance_ + share * distance * distance);
}

void RunningScore::save(GuardNumbers& to, const std::string& name) const {
  to[name] = {mean_, variance_, double(count_)};
}
void RunningScore::load(const GuardNumbers& from, const std::string& name) {
  const auto& x = guard_numbers(from, name, 3);
  mean_ = x[0], variance_ = x[1], count_ = std::int64_t(x[2]);
}

void Trend::add(double x) {
  if (!begun_) fast_ = slow_ = x;
  begun_ = true;
  fast_ += kFast * (x - fast_);
  slow_ += kSlow * (x - slow_);
}
void Trend::save(GuardNumbers& to, const std::string& name) const { to[name] = {fast_, slow_, double(begun_)}; }
void Trend::load(const GuardNumbers& from, const std::string& name) {
  const auto& x = guard_numbers(from, name, 3);
  fast_ = x[0], slow_ = x[1], begun_ = x[2] != 0;
}

std::string_view name_of(Spike spike) {
  switch (spike) {
    case Spike::none:
      return "none";
    case Spike::not_finite:
      return "not_finite";
    case Spike::loss:
      return "loss";
    case Spike::gradient:
      return "gradient";
  }
  return "none";
}

SpikeDetector::SpikeDetector(const SpikeOptions& options)
    : options_(options), loss_(0.02, 0.01), gradient_(0.05, 1e-12) {
  const bool fits = options.loss_z > 0 && options.patience >= 1 && options.gradient_ratio > 1 && options.settle >= 2;
  if (!fits) {
    fail(
        "SpikeDetector", "loss_z above 0, patience of 1 or more, gradient_ratio above 1, settle of 2 or more",
        fmt::format("got {}, {}, {} and {}", options.loss_z, options.patience, options.gradient_ratio, options.settle));
  }
}

Spike SpikeDetector::observe(double loss, double gradient_norm) {
  if (!std::isfinite(loss) || !std::isfinite(gradient_norm)) {
    loss_z_ = gradient_z_ = gradient_ratio_ = 0;
    return Spike::not_finite;
  }
  loss_z_ = loss_.z(loss);
  gradient_z_ = gradient_.z(gradient_norm);
  gradient_ratio_ = gradient_.mean() > 0 ? gradient_norm / gradient_.mean() : 0;
  const bool settled = loss_.count() >= options_.settle;
  high_ = settled && loss_z_ > options_.loss_z ? high_ + 1 : 0;
  loss_.add(loss, options_.loss_z);
  gradient_.add(gradient_norm, options_.loss_z);
  if (settled && gradient_ratio_ > options_.gradient_ratio) return Spike::gradient;
  return high_ >= options_.patience ? Spike::loss : Spike::none;
}

void SpikeDetector::save(GuardNumbers& to) const {
  loss_.save(to, "spike/loss");
  gradient_.save(to, "spike/gradient");
  to["spike/high"] = {double(high_)};
}
void SpikeDetector::load(const GuardNumbers& from) {
  loss_.load(from, "spike/loss");
  gradient_.load(from, "spike/gradient");
  high_ = std::int64_t(guard_numbers(from, "spike/high", 1)[0]);
}

}  // namespace attune::train
