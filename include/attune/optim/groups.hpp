// What is treated alike: groups of parameters, factors of the learning rate of single rows, and the answer to "which
// learning rate did these rows get, and why".
//
//   rate = base * schedule(step) * group * rows (role, layer, width, head) * guard * rollback
//
// Layer-wise decay: arXiv:2106.08254 (BEiT). Width: arXiv:2203.03466 (muP, for Adam and its kin).
#pragma once
#include <array>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "attune/autograd/roles.hpp"

namespace attune::optim {

/// Parameters that are treated alike.
struct ParameterGroup {
  std::vector<Tensor> parameters;
  double learning_rate_factor = 1;  // of the base learning rate
  bool weight_decay = true;         // whether the optimizer's weight decay applies
  std::string name;                 // for schedules per group, and for rate_of(); "": no name
};
/// Two groups: tensors of rank 2 and more (matrices, tables) decay; vectors (biases, norms) do not.
std::vector<ParameterGroup> decay_matrices_only(const std::vector<Tensor>& parameters);

/// A factor of the learning rate of rows first .. end-1 (indices of the first axis) of a parameter. Factors of one row
/// multiply; decoupled weight decay follows the learning rate, as it does for groups.
struct RowFactor {
  Tensor parameter;
  std::int64_t first = 0, end = 0;
  double factor = 1;
  std::string reason;  // "role query", "layer 2", "width"
  std::string group;   // whose schedule of a per_group the rows follow; "": their ParameterGroup's, by its name
};

/// One factor of a learning rate.
struct RateFactor {
  std::string name;  // "base", "schedule", "group", a RowFactor's reason, "guard", "rollback"
  double value = 1;
  friend bool operator==(const RateFactor&, const RateFactor&) = default;
};
/// Their product.
double product_of(std::span<const RateFactor> factors);

/// What [optimizer.groups] of a recipe may say. Everything is 1 at first: no factor at all.
struct GroupOptions {
  std::map<Role, double> roles;     // factor of each role
  double layer_decay = 1;           // in (0, 1]: depth i of 0 .. L + 1 gets layer_decay^(L + 1 - i)
  std::vector<double> layers;       // factor of block 1 .. L; empty: 1
  std::vector<double> query_heads;  // factor of each query head's rows, in every layer; empty: 1
  std::vector<double> key_heads;    // the same of key heads
  double base_width = 0;            // muP: hidden matrices get base_width / width; 0: not
  friend bool operator==(const GroupOptions&, const GroupOptions&) = default;
};
/// The factors that these options give to the rows of a model; factors of 1 are left out, but for one of each row that
/// names its role as the group for schedules. Throws Error for factors that are negative or not finite, and for lists
/// that do not fit the model's layers and heads.
std::vector<RowFactor> row_factors(const std::vector<ParameterRows>& rows, const GroupOptions& options);

}  // namespace attune::optim
