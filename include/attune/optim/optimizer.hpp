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
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "attune/autograd/tensor.hpp"
#include "attune/optim/average.hpp"
#include "attune/optim/clip.hpp"
#include "attune/optim/groups.hpp"
#include "attune/optim/schedule.hpp"

namespace attune::optim {

/// What an optimizer carries from step to step. Arrays of [n] are flat, in the order and with the offsets of the
/// parameters.
struct OptimizerState {
  std::string kind;                                    // "adamw"
  std::int64_t step = 0;                               // updates applied
  std::int64_t skipped = 0;                            // updates not applied since the gradient was not finite
  std::vector<std::int64_t> offsets;                   // where each parameter begins in the arrays, elements
  std::vector<std::pair<std::string, Tensor>> arrays;  // {"first_moment", [n]}, ...
  std::map<std::string, double> numbers;               // {"rate_multiplier", 1}, ...
};

/// What an optimizer is told beside its own numbers.
struct OptimizerOptions {
  double learning_rate = 0;
  Schedule schedule;
  double weight_decay = 0;
  double clip_norm = 0;      // 0: no clipping; scales what the step reads, not the stored gradient
  double clip_value = 0;     // 0: no clipping; clamps the stored gradient, first of all
  double clip_adaptive = 0;  // 0: no clipping; else AGC's factor: scales rows of the stored gradient, second
  double clip_zscore = 0;    // 0: no clipping; else ZClip's threshold: scales what the step reads, with clip_norm as G
};

/// Weights of Adam and its kin, whose update is divided by sqrt(v^) + epsilon.
struct EpsilonCount {
  std::int64_t moved = 0;  // weights that had a gradient other than 0
  std::int64_t small = 0;  // of them, those with sqrt(v^) < 10 epsilon: their step shrinks with their gradient
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// "sgd", "adam", "adamw", ...
  virtual std::string_view kind() const = 0;

  /// Updates applied so far: the index of the next.
  std::int64_t step() const { return step_; }
  /// Updates that propose() refused.
  std::int64_t skipped() const { return skipped_; }
  /// learning_rate * schedule(step()) * plateau_factor() * rate_multiplier() of rows whose factors are 1 and whose
  /// group has no schedule of its own.
  double learning_rate() const {
    return options_.learning_rate * options_.schedule.factor(step_) * plateau_factor() * rate_multiplier_;
  }
  const OptimizerOptions& options() const { return options_; }
  /// For a schedule that becomes known later, such as once minutes have become steps. Throws Error while an update is
  /// staged.
  void set_schedule(Schedule schedule);
  /// A factor of every learning rate: after a rollback, less than 1. Part of the state. Throws Error unless it is
  /// finite and not negative.
  void set_rate_multiplier(double factor);
  double rate_multiplier() const { return rate_multiplier_; }
  /// Whether the schedule has a plateau, which observe() tells how training goes.
  bool listens() const { return plateau_.has_value(); }
  /// Takes in a loss, such as that of a validation, and returns the plateau's factor from now on. Its state is part of
  /// this optimizer's. Throws Error for a loss that is not finite, if nothing listens, and while an update is staged.
  double observe(double loss);
  /// What the plateau has cut the learning rate to; 1 without one.
  double plateau_factor() const { return plateau_ ? plateau_->factor() : 1; }
  /// Factors of the learning rate of single rows; replaces those before. Not part of the state: like groups and
  /// options they belong to how an optimizer is made. Throws Error for rows that are not there, factors that are
  /// negative or not finite, factors that this optimizer cannot have, and while an update is staged.
  virtual void set_row_factors(const std::vector<RowFactor>& factors);

  /// Clips, moves the moments and stages the update of every parameter. The weights stay.
  /// Returns false, and stages nothing, if the gradient's norm is not finite. Throws Error if an update is staged
  /// already, the learning rate is not finite, or the weights are those to evaluate with.
  bool propose();
  /// The same at a given rate instead of learning_rate().
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
  /// How many weights of such rows epsilon holds back, after the last apply(); none of an optimizer without an epsilon
  /// beside a second moment.
  virtual EpsilonCount epsilon_count(std::size_t i, std::int64_t first, std::int64_t end) const;
  /// Every factor of the learning rate that rows first .. end-1 of parameter i get, in the update that is staged, else
  /// in the last one applied, else in the first: base, schedule, the group's and the rows' factors, those of the
  /// optimizer's own (Prodigy's d), guard (scale_update) and rollback (the multiplier). Throws Error if the rows do not
  /// have all of them in common.
  std::vector<RateFactor> rate_of(std::size_t i, std::int64_t first, std::int64_t end) const;

  /// Keeps an average of the weights from now on: evaluate with it between eval() and train(). Part of the state.
  /// Throws Error if the optimizer has an average of its own or steps have been made.
  void keep_average(const AverageOptions& options);
  /// Whether weights to evaluate with differ from those that are trained: with keep_average() and Schedule-Free.
  bool has_average() const { return average_options_.decay > 0 || averages(); }
  /// Puts the weights to evaluate with in place of the trained ones; train() puts those back, bit for bit. Without
  /// averages both do nothing. Evaluating stands between steps: propose() and state() throw meanwhile.
  void eval();
  void train();
  bool evaluating() const { return trained_.defined(); }
  /// Throws Error, naming `function`, if the weights are those that are trained and others were made to evaluate with.
  void require_eval(std::string_view function) const;

  /// A copy of all that a resumed run needs, beside the weights; with averages, the trained weights as well, since a
  /// checkpoint's are then those to evaluate with.
  OptimizerState state() const;
  /// Throws Error, and changes nothing, unless kind, offsets, arrays and numbers are those of this optimizer.
  void load_state(const OptimizerState& state);

 protected:
  /// How a subclass works.
  struct Manner {
    bool decoupled_decay = false;  // weight decay acts in apply()
    bool by_parameter = false;     // propose_range() wants whole parameters; else any range will do
  };
  Optimizer(std::vector<ParameterGroup> groups, OptimizerOptions options, Manner manner);

  /// A place in the flat arrays, elements, and its numbers at this step.
  struct Range {
    std::int64_t begin = 0, end = 0;
    std::size_t group = 0;
    std::size_t name = 0;       // of its schedule, among group_names_
    std::size_t parameter = 0;  // the first of the range
    double row_factor = 1;
    double learning_rate = 0;
    double weight_decay = 0;
    double grad_scale = 1;  // of clipping by norm
  };
  /// What the whole step needs before its first range: sums over all parameters, coefficients.
  virtual void begin_step(double /*learning_rate*/) {}
  /// Fills update_[range] and moves the moments.
  virtual void propose_range(const Range& range) = 0;
  /// weights = weights (1 - decay) - update.
  virtual void apply_range(const Range& range, double decay);
  /// Arrays that are kept from step to step, by name; of any shape.
  virtual std::vector<std::pair<std::string, Tensor*>> arrays() = 0;
  /// Numbers that are.
  virtual std::vector<std::pair<std::string, double*>> numbers() { return {}; }
  /// Whether this optimizer makes weights to evaluate with, and what they are, [n].
  virtual bool averages() const { return false; }
  virtual void fill_average(Tensor& /*weights*/) const {}
  /// Factors of the learning rate that the optimizer finds by itself.
  virtual std::vector<RateFactor> own_factors() const { return {}; }
  /// The schedule's momentum at this step, where it has an opinion (onecycle, cyclic), else `own`.
  double momentum_or(double own) const { return options_.schedule.momentum(step_).value_or(own); }
  /// Zeros, [n], in the parameters' dtype.
  Tensor make_array() const;
  /// The pieces of this step: groups, or what row factors cut them into, or parameters.
  const std::vector<Range>& ranges() const { return ranges_; }
  /// Rows of parameter i in the flat arrays, elements. Throws Error for rows that are not there.
  struct Slice {
    std::int64_t begin, count;
  };
  Slice rows(std::size_t i, std::int64_t first, std::int64_t end) const;
  /// The groups, without their parameters.
  const std::vector<ParameterGroup>& groups() const { return groups_; }

  FlatParameters flat_;  // values and gradients [n]
  Tensor update_;        // [n], staged

 private:
  struct Scaled {
    std::int64_t begin, end;  // elements
    double factor;
  };
  void cut();
  double clip();
  bool propose(double learning_rate, bool given);
  double group_rate(std::size_t name) const;
  std::size_t group_name_of(std::size_t group) const;
  void scale_segments(const std::vector<double>& rates);
  std::vector<std::pair<std::string, Tensor*>> all_arrays();
  std::vector<std::pair<std::string, double*>> all_numbers();

  OptimizerOptions options_;
  Manner manner_;
  std::vector<Tensor> parameters_;
  std::vector<ParameterGroup> groups_;    // without their parameters
  std::vector<std::size_t> group_of_;     // of each parameter
  std::vector<std::string> group_names_;  // that schedules per group may speak of
  std::vector<RowFactor> row_factors_;
  std::vector<Scaled> row_slices_;  // of row_factors_, in the flat arrays
  std::vector<Range> ranges_;       // what propose_range() gets
  std::vector<Range> segments_;     // cut by factors: what apply_range() gets
  ZClip zclip_;
  AverageOptions average_options_;
  Tensor average_, trained_;  // [n] or undefined
  bool staged_ = false;
  std::int64_t step_ = 0, skipped_ = 0;
  double gradient_norm_ = 0, rate_multiplier_ = 1;
  std::optional<schedule::Plateau> plateau_;  // of options_.schedule

  // Of the last propose(), for rate_of().
  struct Asked {
    std::int64_t at = -1;  // step; -1: none yet
    bool given = false;    // the rate was given, not found from base and schedule
    double base = 0, plateau = 1, rollback = 1;
  };
  Asked asked_;
  std::vector<Scaled> guarded_;
};

}  // namespace attune::optim
