// Snapshots: copies, the way back, and how they travel through a checkpoint.
#include "attune/train/snapshots.hpp"

#include <fmt/format.h>

#include "attune/base/error.hpp"

namespace attune::train {
namespace {

// A double holds 53 bits: 64-bit counters go in halves.
void put_halves(std::vector<double>& to, std::uint64_t x) {
  to.push_back(double(x >> 32));
  to.push_back(double(x & 0xFFFFFFFFu));
}
std::uint64_t take_halves(const std::vector<double>& from, std::size_t at) {
  return std::uint64_t(from[at]) << 32 | std::uint64_t(from[at + 1]);
}

}  // namespace

void SnapshotRing::take(const nn::Module& model, const optim::Optimizer& optimizer, GuardNumbers guard) {
  Snapshot snapshot;
  if (ring_.size() >= most_) {  // the oldest one's memory serves the newest: fresh pages cost more than the copy
    snapshot = std::move(ring_.front());
    ring_.pop_front();
  }
  snapshot.step = optimizer.step();
  const std::vector<Tensor>& parameters = optimizer.parameters();
  snapshot.weights.resize(parameters.size());
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (snapshot.weights[i].defined()) {
      snapshot.weights[i].copy_from(parameters[i]);
    } else {
      snapshot.weights[i] = parameters[i].clone();
    }
  }
  snapshot.optimizer = {};  // its memory first
  snapshot.optimizer = optimizer.state();
  snapshot.generator = GeneratorState(model.generator());
  snapshot.guard = std::move(guard);
  ring_.push_back(std::move(snapshot));
}

const Snapshot& SnapshotRing::go_back(nn::Module& model, optim::Optimizer& optimizer, std::int64_t age) {
  if (ring_.empty()) fail("SnapshotRing", "a snapshot to go back to", "there is none");
  const std::int64_t now = optimizer.step();
  while (ring_.size() > 1 && now - ring_.back().step < age) ring_.pop_back();
  const Snapshot& snapshot = ring_.back();
  std::vector<Tensor> parameters = optimizer.parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].copy_from(snapshot.weights[i]);
  optimizer.load_state(snapshot.optimizer);
  model.generator() = snapshot.generator.generator();
  return snapshot;
}

void SnapshotRing::save(GuardState& to) const {
  to.numbers["snapshots"] = {double(ring_.size())};
  for (std::size_t i = 0; i < ring_.size(); ++i) {
    const Snapshot& s = ring_[i];
    const std::string name = fmt::format("snapshot{}", i);
    std::vector<double> counts{double(s.step), double(s.optimizer.step), double(s.optimizer.skipped)};
    for (const std::uint64_t x : {s.generator.seed, s.generator.stream, s.generator.position}) put_halves(counts, x);
    to.numbers[name] = std::move(counts);
    for (const auto& [key, number] : s.optimizer.numbers) to.numbers[name + "/optimizer/" + key] = {number};
    for (const auto& [key, numbers] : s.guard) to.numbers[name + "/guard/" + key] = numbers;
    for (std::size_t p = 0; p < s.weights.size(); ++p) {
      to.arrays.emplace_back(fmt::format("{}/weight{}", name, p), s.weights[p]);
    }
    for (const auto& [key, array] : s.optimizer.arrays) to.arrays.emplace_back(name + "/optimizer/" + key, array);
  }
}

namespace {

Tensor array_of(const GuardState& state, const std::string& name, const Shape& shape, DType dtype) {
  for (const auto& [key, array] : state.arrays) {
    if (key == name && array.defined() && array.shape() == shape && array.dtype() == dtype) return array;
  }
  fail("AttentionGuard::load_state", fmt::format("an array {} of shape {}", name, shape.text()), "there is none");
}

}  // namespace

void SnapshotRing::load(const GuardState& from, const optim::Optimizer& optimizer) {
  std::deque<Snapshot> ring;
  const optim::OptimizerState like = optimizer.state();
  const auto count = std::size_t(guard_numbers(from.numbers, "snapshots", 1)[0]);
  for (std::size_t i = 0; i < count; ++i) {
    const std::string name = fmt::format("snapshot{}", i);
    const auto& counts = guard_numbers(from.numbers, name, 9);
    Snapshot s{.step = std::int64_t(counts[0]), .weights = {}, .optimizer = like, .generator = {}, .guard = {}};
    s.optimizer.step = std::int64_t(counts[1]);
    s.optimizer.skipped = std::int64_t(counts[2]);
    s.generator.seed = take_halves(counts, 3);
    s.generator.stream = take_halves(counts, 5);
    s.generator.position = take_halves(counts, 7);
    for (auto& [key, number] : s.optimizer.numbers) {
      number = guard_numbers(from.numbers, name + "/optimizer/" + key, 1)[0];
    }
    const std::string prefix = name + "/guard/";
    for (const auto& [key, numbers] : from.numbers) {
      if (key.starts_with(prefix)) s.guard[key.substr(prefix.size())] = numbers;
    }
    for (const Tensor& p : optimizer.parameters()) {
      s.weights.push_back(array_of(from, fmt::format("{}/weight{}", name, s.weights.size()), p.shape(), p.dtype()));
    }
    for (auto& [key, array] : s.optimizer.arrays) {
      array = array_of(from, name + "/optimizer/" + key, array.shape(), array.dtype());
    }
    ring.push_back(std::move(s));
  }
  ring_ = std::move(ring);
}

}  // namespace attune::train
