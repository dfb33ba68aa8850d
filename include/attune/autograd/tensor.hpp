// Tensor: a cheap handle on numbers in contiguous memory, and the start of every graph.
//
// Copying a Tensor copies the handle, not the numbers: both see the same memory, gradient and history. Float32 and
// float64 compute; bfloat16 and float16 are storage alone (convert with to()). Operators are free functions in
// autograd/ops/; each records how to differentiate itself (autograd/tape.hpp), and backward() walks that record once.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "attune/base/rng.hpp"
#include "attune/base/view.hpp"

namespace attune {

namespace detail {
struct TensorImpl;
struct Storage;
}  // namespace detail

class Tensor {
 public:
  /// No tensor at all: how an optional argument is left out. Everything but defined() and assignment throws.
  Tensor() = default;

  // --- making one -----------------------------------------------------------------------------------------------
  /// Numbers that are not initialised: to be written before they are read.
  static Tensor empty(const Shape&, DType = DType::float32);
  static Tensor zeros(const Shape&, DType = DType::float32);
  static Tensor ones(const Shape&, DType = DType::float32);
  static Tensor full(const Shape&, double value, DType = DType::float32);
  /// A copy of `values`, row-major. Throws Error unless their number is the shape's size.
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape) {
    return copy_of(ConstView(values.data(), Shape{std::int64_t(values.size())}), shape);
  }
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape) {
    return from(std::span<const T>(values), shape);
  }
  static Tensor from(std::initializer_list<double> values, const Shape& shape, DType = DType::float32);
  /// A copy of a strided view, in contiguous memory.
  static Tensor from(const ConstView&);
  /// Standard normal numbers. Takes them from the generator in row-major order.
  static Tensor randn(const Shape&, Generator&, DType = DType::float32);
  /// Uniform in [low, high).
  static Tensor uniform(const Shape&, double low, double high, Generator&, DType = DType::float32);

  // --- looking at it --------------------------------------------------------------------------------------------
  bool defined() const { return impl_ != nullptr; }
  explicit operator bool() const { return defined(); }
  const Shape& shape() const;
  DType dtype() const;
  int rank() const { return shape().rank(); }
  /// Number of elements.
  std::int64_t size() const { return shape().size(); }
  /// The numbers, row-major. Throws Error unless T is the dtype. Writing is seen by every handle and every alias, and
  /// is not recorded: write to leaves between passes only.
  template <class T>
  T* data() {
    return static_cast<T*>(checked_data(dtype_of<T>()));
  }
  template <class T>
  const T* data() const {
    return static_cast<const T*>(checked_data(dtype_of<T>()));
  }
  void* raw() const;
  /// The memory as a View; valid as long as this tensor.
  View view();
  ConstView view() const;
  /// The one number of a tensor of size 1.
  double item() const;
  /// All numbers as double, row-major: for tests, printing and small results.
  std::vector<double> to_vector() const;
  /// Whether both handles mean the same tensor.
  bool is(const Tensor& other) const { return impl_ == other.impl_; }

  // --- the same numbers otherwise -------------------------------------------------------------------------------
  /// Converted; differentiable between float32 and float64. The same handle if the dtype is already that.
  Tensor to(DType) const;
  /// Shares the memory, has no history and wants no gradient.
  Tensor detach() const;
  /// A copy in memory of its own, without history.
  Tensor clone() const;
  /// Overwrites the numbers with those of `source`, converted. Throws Error unless the shapes are equal.
  void copy_from(const Tensor& source);
  /// Overwrites every number.
  void fill(double value);
  /// Changes the dtype of this tensor and all its handles in place; a gradient is dropped. For leaves without aliases
  /// (parameters before training).
  void convert(DType);

  // --- gradients ------------------------------------------------------------------------------------------------
  /// From now on operators on this tensor are recorded, and backward() adds to grad(). Throws Error for half types and
  /// for results of recorded operators.
  Tensor& requires_grad(bool on = true);
  /// Whether a gradient flows here: a leaf that asked for it, or a result of a recorded operator.
  bool needs_grad() const;
  /// Wants a gradient and is not the result of an operator.
  bool is_leaf() const;
  bool has_grad() const;
  /// The gradient accumulated so far, shape and dtype of this tensor. Throws Error if there is none.
  Tensor grad() const;
  /// Replaces the gradient (shared, not copied). Throws Error unless shape and dtype agree.
  void set_grad(const Tensor&);
  /// Fills the gradient with 0, if there is one.
  void zero_grad();
  /// Adds d(this)/d(leaf) to the gradient of every leaf below; this must have size 1. The graph is freed on the way.
  void backward() const;
  /// The same for any shape, with the incoming gradient given.
  void backward(const Tensor& dout) const;

  /// Internal: what the handle holds.
  const std::shared_ptr<detail::TensorImpl>& impl() const { return impl_; }
  explicit Tensor(std::shared_ptr<detail::TensorImpl> impl) : impl_(std::move(impl)) {}

 private:
  static Tensor copy_of(const ConstView& values, const Shape& shape);
  void* checked_data(DType expected) const;
  std::shared_ptr<detail::TensorImpl> impl_;
};

/// Integers with a shape: token ids, class labels, lengths. A cheap handle on memory that is not changed any more.
class Ids {
 public:
  Ids() = default;
  /// Throws Error unless the number of values is the shape's size.
  Ids(std::vector<std::int32_t> values, const Shape& shape);
  /// Rank 1.
  explicit Ids(std::vector<std::int32_t> values);
  bool defined() const { return values_ != nullptr; }
  const Shape& shape() const { return shape_; }
  std::int64_t size() const { return shape_.size(); }
  const std::int32_t* data() const { return values_ ? values_->data() : nullptr; }
  std::int32_t operator[](std::int64_t i) const { return (*values_)[std::size_t(i)]; }
  /// The same values in another shape of equal size.
  Ids reshape(const Shape&) const;

 private:
  std::shared_ptr<const std::vector<std::int32_t>> values_;
  Shape shape_;
};

/// The generator that initialisers, randn() and dropout use when they are given none; one per thread.
Generator& default_generator();
/// Starts it afresh.
void set_seed(std::uint64_t seed);
/// Standard normal numbers from the default generator.
Tensor randn(const Shape&, DType = DType::float32);

/// Parameters side by side in one buffer, so that an optimizer runs over flat arrays.
struct FlatParameters {
  Tensor values, gradients;           // [n]; padding between tensors is 0 in both
  std::vector<std::int64_t> offsets;  // where each tensor begins, in elements; a multiple of 16
};
/// Moves the numbers and gradients of all tensors into two buffers; the handles go on working and now see those.
/// Missing gradients become zeros. Throws Error for tensors that are no leaves, differ in dtype or come twice.
/// Aliases made before (detach, reshape) keep the old memory.
FlatParameters flatten(const std::vector<Tensor>& tensors);

}  // namespace attune
