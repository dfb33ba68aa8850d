// Where a model attends: every MultiHeadAttention of a module tree, with the rows of its parameters that make each
// query head and each key head. Controllers and reports look here; they know no model.
//
//   query head h  = input queries[h].weight^T + queries[h].bias      [T, D]
//   key head g    = memory keys[g].weight^T + keys[g].bias           [T, D], read by query heads g n .. g n + n - 1
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "attune/nn/multi_head_attention.hpp"

namespace attune::nn {

/// Rows first .. end-1 (indices of the first axis) of a parameter; an undefined tensor: there is none.
struct TensorRows {
  Tensor tensor;
  std::int64_t first = 0, end = 0;
};

/// What makes one head of its input. Heads may share rows.
struct HeadProjection {
  TensorRows weight;  // [D, C]
  TensorRows bias;    // [D]
  TensorRows gain;    // of a normalised head or matrix: then the head's size is the gain's, not the weight's
  bool gain_scales_bias = false;  // of query-key norm; sigma reparametrisation leaves the bias terms alone
};

struct AttentionSite {
  std::string name;                     // "encoder.layer0.attention"
  std::vector<HeadProjection> queries;  // [H]
  std::vector<HeadProjection> keys;     // [Hkv]
  /// Whether scores grow in proportion with query and key: true of scaled_dot.
  bool proportional = true;

  std::int64_t num_heads() const { return std::int64_t(queries.size()); }
  std::int64_t num_kv_heads() const { return std::int64_t(keys.size()); }
  /// Query heads that share a key head.
  std::int64_t group() const { return num_heads() / num_kv_heads(); }
};

/// All of them, in the order of registration.
std::vector<AttentionSite> attention_sites(Module& model);

}  // namespace attune::nn
