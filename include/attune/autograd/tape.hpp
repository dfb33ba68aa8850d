// The tape: what an operator writes down so that it can be differentiated, and the walk back over it.
//
// Reverse mode. Every recorded result points at a node; a node points at the nodes of its inputs and holds a closure
// that turns the gradient of its outputs into gradients of its inputs. backward() visits the nodes below a result in
// the reverse order of their making, each once, and frees what a node has saved as soon as it has run. Gradients are
// added in that order, so sums have the same bits in every run.
//
// How to write an operator (forward and backward adjacent, shapes on every tensor):
//
//     Tensor square(const Tensor& x) {                                    // x [...]
//       Tensor y = Tensor::empty(x.shape(), x.dtype());
//       ... y = x * x ...
//       record("square", y, {x}, [x = x.detach()](Backward& b) {
//         GradientSlot dx = b.slot(0);                                     // dy/dx = 2 x
//         ... dx.memory = (dx.accumulate ? dx.memory : 0) + b.dout() * 2 * x ...
//       });
//       return y;
//     }
//
// A closure keeps detached tensors: an output itself would make a cycle, an input would keep the graph below alive.
#pragma once
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "attune/autograd/tensor.hpp"

namespace attune {

/// Whether operators record themselves on this thread. On at first.
bool grad_enabled();
/// Turns recording off for its lifetime: evaluation, decoding, updates of parameters.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_;
};
/// Recording is on and one of the inputs wants a gradient. Undefined tensors are skipped.
bool will_record(std::initializer_list<std::reference_wrapper<const Tensor>> inputs);

/// Where a backward writes the gradient of one input.
struct GradientSlot {
  Tensor memory;    // shape and dtype of the input
  bool accumulate;  // true: add to what is there. false: nothing is there yet, overwrite every element
};

namespace detail {
struct Node;
}

/// What the backward of an operator is given.
class Backward {
 public:
  explicit Backward(detail::Node& node) : node_(node) {}
  /// Whether an incoming gradient for this output exists; with one output it always does.
  bool has_dout(int output = 0) const;
  /// The incoming gradient, contiguous. Not to be written to. Throws Error if there is none.
  Tensor dout(int output = 0) const;
  /// Whether input i wants a gradient. Asking for a slot or giving a gradient where it does not throws.
  bool wants(int input) const;
  /// Memory for the gradient of input i. Must be filled before another slot of the same tensor is asked for.
  GradientSlot slot(int input);
  /// The same, filled with zeros if nothing was there: for operators that can only add.
  Tensor zeroed_slot(int input);
  /// Hands a finished gradient over; it is adopted without a copy if nothing is there yet. May be dout() itself or an
  /// alias of it.
  void give(int input, const Tensor& gradient);

 private:
  detail::Node& node_;
};

using BackwardFunction = std::function<void(Backward&)>;

/// Makes `outputs` results of an operator on `inputs`. Does nothing if no gradient is wanted (see will_record).
/// Undefined tensors among the inputs are kept as places that want no gradient.
void record(std::string_view name, std::initializer_list<Tensor> outputs, std::span<const Tensor> inputs,
            BackwardFunction backward);
inline void record(std::string_view name, const Tensor& output, std::initializer_list<Tensor> inputs,
                   BackwardFunction backward) {
  record(name, {output}, std::span<const Tensor>(inputs.begin(), inputs.size()), std::move(backward));
}

}  // namespace attune
