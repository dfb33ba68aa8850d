// Snapshots: the last few healthy states of a training, in memory, to go back to after a spike.
//
// A snapshot has the weights, the optimizer's state and the model's generator. It has no place in the data: whoever
// goes back goes on with the data that comes next, so what lay between the snapshot and the spike is skipped (as in
// arXiv:2204.02311, section 5.1).
#pragma once
#include <cstdint>
#include <deque>

#include "attune/nn/module.hpp"
#include "attune/optim/optimizer.hpp"
#include "attune/train/checkpoint.hpp"
#include "attune/train/guard_event.hpp"

namespace attune::train {

struct Snapshot {
  std::int64_t step = 0;        // updates made
  std::vector<Tensor> weights;  // of the optimizer's parameters, in their order
  optim::OptimizerState optimizer;
  GeneratorState generator;
  GuardNumbers guard;  // what the guard knew
};

class SnapshotRing {
 public:
  /// Keeps at most `most`.
  explicit SnapshotRing(std::size_t most) : most_(most) {}
  bool empty() const { return ring_.empty(); }
  /// Step of the newest; -1 if there is none.
  std::int64_t newest() const { return ring_.empty() ? -1 : ring_.back().step; }
  /// Copies the present state; the oldest snapshot goes if there are too many.
  void take(const nn::Module& model, const optim::Optimizer& optimizer, GuardNumbers guard);
  /// Goes back to the newest snapshot that is at least `age` updates old, or else to the oldest, and forgets those
  /// after it. Returns it. Throws Error if there is none.
  const Snapshot& go_back(nn::Module& model, optim::Optimizer& optimizer, std::int64_t age);

  void save(GuardState& to) const;
  /// Throws Error unless the snapshots are of such an optimizer.
  void load(const GuardState& from, const optim::Optimizer& optimizer);

 private:
  std::size_t most_;
  std::deque<Snapshot> ring_;  // oldest first
};

}  // namespace attune::train
