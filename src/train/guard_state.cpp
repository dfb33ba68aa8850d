// The guard's state: to numbers and arrays, and back.
#include <fmt/format.h>

#include "attune/base/error.hpp"
#include "attune/train/attention_guard.hpp"

namespace attune::train {

/// All but the snapshots and the rollbacks: what a snapshot keeps as well.
GuardNumbers AttentionGuard::numbers() const {
  GuardNumbers to;
  spikes_.save(to);
  loss_.save(to, "loss");
  gradient_.save(to, "gradient");
  clock_.save(to);
  to["healthy"] = {double(healthy_)};
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const std::string& name = sites_[i].name;
    layer.region.save(to, name + "/region");
    layer.collapse.save(to, name + "/collapse");
    for (std::size_t h = 0; h < layer.scores.size(); ++h) layer.scores[h].save(to, fmt::format("{}/score{}", name, h));
    to[name + "/limit"] = {layer.limit};
  }
  return to;
}

void AttentionGuard::load_numbers(const GuardNumbers& from) {
  spikes_.load(from);
  loss_.load(from, "loss");
  gradient_.load(from, "gradient");
  clock_.load(from);
  healthy_ = guard_numbers(from, "healthy", 1)[0] != 0;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string& name = sites_[i].name;
    layer.region.load(from, name + "/region");
    layer.collapse.load(from, name + "/collapse");
    for (std::size_t h = 0; h < layer.scores.size(); ++h) {
      layer.scores[h].load(from, fmt::format("{}/score{}", name, h));
    }
    layer.limit = guard_numbers(from, name + "/limit", 1)[0];
  }
}

GuardState AttentionGuard::state() const {
  GuardState state;
  if (options_.mode == GuardMode::off) return state;
  state.numbers = numbers();
  std::vector<double>& past = state.numbers["rollbacks"];
  for (const Rollback& r : rollbacks_) past.insert(past.end(), {double(r.from), double(r.to)});
  snapshots_.save(state);
  return state;
}

void AttentionGuard::load_state(const GuardState& state) {
  if (options_.mode == GuardMode::off) return;
  const auto past = state.numbers.find("rollbacks");
  if (past == state.numbers.end() || past->second.size() % 2 != 0) {
    fail("AttentionGuard::load_state", "the numbers \"rollbacks\", two for each", "there are none such");
  }
  // A copy first: a state that does not fit leaves this guard as it was.
  AttentionGuard loaded = *this;
  loaded.load_numbers(state.numbers);
  loaded.snapshots_.load(state, optimizer_);
  load_numbers(state.numbers);
  snapshots_ = loaded.snapshots_;
  rollbacks_.clear();
  for (std::size_t i = 0; i < past->second.size(); i += 2) {
    rollbacks_.push_back({std::int64_t(past->second[i]), std::int64_t(past->second[i + 1])});
  }
}

}  // namespace attune::train
