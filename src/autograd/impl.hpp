// What the handles of tensor.hpp and tape.hpp hold, and small helpers that operators share. Private.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "attune/autograd/memory.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/autograd/tensor.hpp"
#include "attune/base/error.hpp"

namespace attune::detail {

/// A block of the cache, held by every alias.
struct Storage {
  std::int64_t capacity = 0;  // before `memory`, whose making writes it
  void* memory;
  explicit Storage(std::int64_t bytes) : memory(take_block(bytes, capacity)) {}
  ~Storage() { return_block(memory, capacity); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
};

struct TensorImpl {
  std::shared_ptr<Storage> storage;
  std::int64_t offset = 0;  // elements from the storage's start
  Shape shape;
  DType dtype = DType::float32;
  bool requires_grad = false;  // as a leaf
  Tensor grad;                 // of a leaf
  std::shared_ptr<Node> node;  // what made it, if recorded
  int output = 0;              // which of the node's results it is

  void* data() const { return static_cast<char*>(storage->memory) + offset * std::int64_t(size_of(dtype)); }
};

/// Where a gradient flows: to a result of another node, to a leaf, or nowhere.
struct Edge {
  std::shared_ptr<Node> node;
  int output = 0;
  std::shared_ptr<TensorImpl> leaf;
  bool wants() const { return node != nullptr || leaf != nullptr; }
};

/// One recorded call of an operator.
struct Node {
  struct Output {
    Shape shape;
    DType dtype = DType::float32;
    Tensor grad;  // collected from the consumers
  };
  std::uint64_t id = 0;  // rises in the order of making
  std::string_view name;
  std::vector<Edge> inputs;
  std::vector<Output> outputs;
  BackwardFunction backward;
  bool queued = false;  // waits in a walk
  bool ran = false;     // inputs and backward are gone

  Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node();
  /// Frees what it saved; chains of nodes are taken apart without recursion.
  void free();
};

/// Adds b to a, element by element. Equal dtypes and sizes.
void accumulate(Tensor& a, const Tensor& b);
/// Another handle on the same memory, from element `offset` on.
Tensor alias(const Tensor& x, const Shape& shape, std::int64_t offset = 0);
/// Whether no other tensor, alias or saved copy sees the memory of this handle. The handle itself must be the only one.
bool is_unique(const Tensor& x);

/// Calls f(T{}) for the compute dtypes, throws for the half types.
template <class F>
void on_compute_type(std::string_view function, DType dtype, F&& f) {
  if (dtype == DType::float32) {
    f(float{});
  } else if (dtype == DType::float64) {
    f(double{});
  } else {
    fail(function, "float32 or float64 (convert with to())", "got " + std::string(name_of(dtype)));
  }
}
/// Throws unless both have the dtype.
void check_same_dtype(std::string_view function, const Tensor& a, const Tensor& b);
/// Throws unless the tensor is defined.
void check_defined(std::string_view function, const Tensor& x);
/// 0 .. rank-1 from an axis that may count from the end. Throws if it is out of range.
int checked_axis(std::string_view function, const Shape& shape, int axis);

}  // namespace attune::detail
