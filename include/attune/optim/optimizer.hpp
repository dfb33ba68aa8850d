// Optimizer: parameters side by side in one flat buffer, updated in two steps, so that a controller may look at an
// update, and scale a part of it, before it is applied.
//
//     if (optimizer.propose()) {                            // clips, moves the moments, stages `update`
//       optimizer.scale_update(i, first_row, end_row, r);   // weights are [out, in]: a head is a block of rows
//       optimizer.apply();                                  // w = w (1 - learning_rate weight_decay) - update
//     }
//     optimizer.zero_grad();
//
// Decoupled weight decay acts in apply(), at the learning rate that no controller has scaled. A gradient that is not
// finite is never applied: propose() says false, counts it, and changes neither moments nor step.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "attune/autograd/tensor.hpp"
#include "attune/optim/schedule.hpp"

namespace attune::optim {

/// Parameters that are treated alike.
struct ParameterGroup {
  std::vector<Tensor> parameters;
  double learning_rate_factor = 1;  // of the base learning rate
  bool weight_decay = true;         // whether the optimizer's weight decay applies
};
/// Two groups: tensors of rank 2 and more (matrices, tables) decay; vectors (biases, norms) do not.
std::vector<ParameterGroup> decay_matrices_only(const std::vector<Tensor>& parameters);

/// What an optimizer carries from step to step. Arrays are flat, in the order and with the offsets of the parameters.
struct OptimizerState {
  std::string kind;                                    // "adamw"
  std::int64_t step = 0;                               // updates applied
  std::int64_t skipped = 0;                            // updates not applied since the gradient was not finite
  std::vector<std::int64_t> offsets;                   // where each parameter begins in the arrays, elements
  std::vector<std::pair<std::string, Tensor>> arrays;  // {"first_moment", [n]}, ...
};

/// What an optimizer is told beside its own numbers.
struct OptimizerOptions {
  double learning_rate = 0;
  Schedule schedule;
  double weight_decay = 0;
  double clip_norm = 0;   // 0: no clipping; scales what the step reads, not the stored gradient
  double clip_value = 0;  // 0: no clipping; clamps the stored gradient, before clip_norm
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// "sgd", "adam", "adamw".
  virtual std::string_view kind() const = 0;

  /// Updates applied so far: the index of the next.
  std::int64_t step() const { return step_; }
  /// Updates that propose() refused.
  std::int64_t skipped() const { return skipped_; }
  /// learning_rate * schedule(step()) of a group whose factor is 1.
  double learning_rate() const { return options_.learning_rate * options_.schedule.factor(step_); }
  const OptimizerOptions& options() const { return options_; }
  /// For a schedule that becomes known later, such as once minutes have become steps.
  void set_schedule(Schedule schedule) { options_.schedule = std::move(schedule); }

  /// Clips, moves the moments and stages the update of every parameter. The weights stay.
  /// Returns false, and stages nothing, if the gradient's norm is not finite. Throws Error if an update is staged
  /// already or the learning rate is not finite.
  bool propose() { return propose(learning_rate()); }
  bool propose(double learning_rate);
  /// Takes the staged update off the weights, after the weight decay, and counts the step. Throws Error if nothing is
  /// staged.
  void apply();
  /// propose() and apply(); returns whether the update was applied.
  bool advance();
  /// Fills all gradients with 0.
  void zero_grad();
  /// Of the last propose(), over all parameters, before clipping.
  double gradient_norm() const { return gradient_norm_; }

  /// Parameters in the order of the groups.
  const std::vector<Tensor>& parameters() const { return parameters_; }
  /// The place of a tensor among parameters(). Throws Error if it is none of them.
  std::size_t index_of(const Tensor& parameter) const;
  /// The staged update of parameter i, in its shape: what apply() subtracts.
  View update(std::size_t i);
  /// Multiplies rows first .. end-1 (indices of the first axis) of the staged update of parameter i.
  void scale_update(std::size_t i, std::int64_t first, std::int64_t end, double factor);
  /// Euclidean norms of such rows, of the staged update and of the weights.
  double update_norm(std::size_t i, std::int64_t first, std::int64_t end) const;
  double weight_norm(std::size_t i, std::int64_t first, std::int64_t end) const;

  /// A copy of all that a resumed run needs, beside the weights.
  OptimizerState state() const;
  /// Throws Error, and changes nothing, unless kind, offsets and arrays are those of this optimizer.
  void load_state(const OptimizerState& state);

 protected:
  Optimizer(std::vector<ParameterGroup> groups, OptimizerOptions options, bool decoupled_decay);

  /// One group's place in the flat arrays, elements, and its numbers at this step.
  struct Range {
    std::int64_t begin = 0, end = 0;
    double learning_rate = 0;
    double weight_decay = 0;
    double grad_scale = 1;  // of clipping by norm
  };
  /// Fills update_[range] and moves the moments.
  virtual void propose_range(const Range& range) = 0;
  /// The arrays that are kept from step to step, by name; each is [n].
  virtual std::vector<std::pair<std::string, Tensor*>> arrays() = 0;
  /// Zeros, [n], in the parameters' dtype.
  Tensor make_array() const;

  FlatParameters flat_;  // values and gradients [n]
  Tensor update_;        // [n], staged

 private:
  struct Slice {
    std::int64_t begin, count;
  };
  Slice rows(std::size_t i, std::int64_t first, std::int64_t end) const;

  OptimizerOptions options_;
  std::vector<Tensor> parameters_;
  std::vector<Range> ranges_;
  std::vector<double> rate_factors_;
  bool decoupled_decay_, staged_ = false;
  std::int64_t step_ = 0, skipped_ = 0;
  double gradient_norm_ = 0;
};

}  // namespace attune::optim
