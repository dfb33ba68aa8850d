// What a row of a parameter is for. Models say it (nn/roles.hpp); learning rates, controllers and reports ask.
//
// A parameter may hold several roles: the fused projection of attention [H D + Hkv D + Hkv Dv, C] has the rows of the
// query heads, then those of the key heads, then those of the value heads; each head is a range of rows of its own.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "attune/autograd/tensor.hpp"

namespace attune {

enum class Role : std::uint8_t {
  other,      // none of the following
  embedding,  // a table of tokens
  position,   // a table of positions
  query,      // projections of attention, bias terms included
  key,
  value,
  output,
  mlp,   // feed-forward
  norm,  // gain and bias of a norm
  head,  // from the last state to what is predicted
  gain   // what a stage of attention or a score learns: slopes, sinks, scales, gates
};
/// "query".
std::string_view name_of(Role);
/// The reverse; throws Error, naming the nearest, for any other text.
Role role_from_name(std::string_view name);
/// All names, in the order of the enumerators.
std::vector<std::string> role_names();

/// Rows first .. end-1 (indices of the first axis) of a parameter.
struct ParameterRows {
  std::string parameter;  // "encoder.layer0.attention.weight_in"
  Tensor tensor;
  std::int64_t first = 0, end = 0;
  Role role = Role::other;
  std::int64_t depth = 0;  // 0 before the first block, 1 .. L inside the blocks in the order of the pass, L + 1 after
  std::int64_t head = -1;  // of query, key and value rows; -1: of no head
  /// Of gains: a matrix whose inputs grow with the width of the model, as those of a projection (gates, routers).
  bool over_width = false;
};

}  // namespace attune
