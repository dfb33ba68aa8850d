// Where a model attends: every attention of a module tree, with the rows of its parameters that make each query head
// and each key head, and what it saw. Controllers and reports look here; they know no model and no type of attention.
//
//   query head h  = input queries[h].weight^T + queries[h].bias      [T, D]
//   key head g    = memory keys[g].weight^T + keys[g].bias           [T, D], read by query heads g n .. g n + n - 1
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "attune/attention/statistics.hpp"
#include "attune/nn/module.hpp"

namespace attune::nn {

/// Rows first .. end-1 (indices of the first axis) of a parameter; an undefined tensor: there is none.
struct TensorRows {
  Tensor tensor;
  std::int64_t first = 0, end = 0;
};

/// What makes one head of its input. Heads may share rows.
struct HeadProjection {
  TensorRows weight;  // [D, C]; none where a head is not a product with a parameter
  TensorRows bias;    // [D]
  TensorRows gain;    // of a normalised head or matrix: then the head's size is the gain's, not the weight's
  bool gain_scales_bias = false;  // of query-key norm; sigma reparametrisation leaves the bias terms alone
  /// Further rows that move the head but do not scale it as a whole: those before a norm, those of a part of it.
  std::vector<TensorRows> also;
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

/// All of them: modules in the order of registration, a module's own sites in the order of its calls.
std::vector<AttentionSite> attention_sites(Module& model);

/// What one site saw in one forward pass.
struct SiteStatistics {
  std::string name;       // AttentionSite::name
  Statistics statistics;  // arrays [B, H]
};

/// While it lives, every attention below `model` adds what it sees, in the order of the calls. Results have the same
/// bits. The model must outlive it and gain no modules; of two watches on a tree the later one is told.
class AttentionWatch {
 public:
  AttentionWatch(Module& model, std::vector<SiteStatistics>& seen);
  ~AttentionWatch();
  AttentionWatch(const AttentionWatch&) = delete;
  AttentionWatch& operator=(const AttentionWatch&) = delete;

 private:
  friend class Module;
  Module& model_;
  std::vector<SiteStatistics>& seen_;
};

}  // namespace attune::nn
