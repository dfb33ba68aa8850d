// What the attention guard tells of itself (train/attention_guard.hpp): every action is an event, and its whole state
// is plain numbers by name.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "attune/autograd/tensor.hpp"

namespace attune::train {

/// One action, or, from a guard that only observes, one that it would have taken ("would_scale").
///
///   signal         value                          threshold         action         before -> after
///   "move"         of the logits, nats            limit             "scale"        1 -> the head's rate factor
///   "weights"      |W| / |W at first| of the      1                 "scale"        1 -> the head's rate factor
///                  other side (rule "quack")
///   "score"        largest |score|, nats          tau               "clip"         the score -> what it becomes
///   "entropy"      of a layer that collapses      0.05              "tighten"      its limit before -> after
///   "gradient"     z-score of its norm            3                 "hold"         warm-up steps -> the same
///   "growth"       largest |score| over its mean  1.5               "hold"
///   "not_finite", "loss", "gradient"              see spike.hpp     "roll_back"    step -> step gone back to
struct GuardEvent {
  std::int64_t step = 0;   // number of the update, from 1: the updates made once it is done
  std::string layer;       // name of the attention module; "" if it is about the whole model
  std::int64_t head = -1;  // query head; -1: all
  std::string signal;
  double value = 0, threshold = 0;
  std::string action;
  double before = 0, after = 0;
};
using GuardListener = std::function<void(const GuardEvent&)>;

/// Numbers by name: {"clock", {12, 0}}, ...
using GuardNumbers = std::map<std::string, std::vector<double>>;

/// What a resumed run needs of a guard: numbers, and the snapshots that it may go back to.
struct GuardState {
  GuardNumbers numbers;
  std::vector<std::pair<std::string, Tensor>> arrays;  // {"snapshot0/weights", [n]}, ...; empty unless mode is full
};

/// The numbers of that name. Throws Error unless there are `count` of them.
const std::vector<double>& guard_numbers(const GuardNumbers& numbers, const std::string& name, std::size_t count);

}  // namespace attune::train
