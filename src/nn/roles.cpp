// From a tree of modules to the roles of their rows.
#include "attune/nn/roles.hpp"

#include <algorithm>
#include <cctype>
#include <string>
#include <unordered_set>

#include "attune/base/error.hpp"
#include "attune/base/nearest.hpp"
#include "attune/nn/additive_attention.hpp"
#include "attune/nn/embedding.hpp"
#include "attune/nn/feed_forward.hpp"
#include "attune/nn/multi_head_attention.hpp"
#include "attune/nn/norm.hpp"
#include "attune/nn/positions.hpp"

namespace attune::nn {
namespace {

std::string joined(const std::string& a, const std::string& b) { return a.empty() ? b : a + "." + b; }
std::string parent_of(const std::string& name) {
  const std::size_t dot = name.rfind('.');
  return dot == std::string::npos ? "" : name.substr(0, dot);
}
bool inside(const std::string& name, const std::string& module) {
  return name == module || (name.starts_with(module) && name[module.size()] == '.');
}

/// Whether the last part of a name is layer<number>.
bool is_block(const std::string& name) {
  const std::string last = name.substr(name.rfind('.') + 1);
  return last.starts_with("layer") && last.size() > 5 &&
         std::all_of(last.begin() + 5, last.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

struct Node {
  std::string name;
  Module* module;
};

/// The role of a module's own parameters, all rows alike; attention's are looked at one by one.
Role role_of(const Node& node, const Module* parent, bool after_blocks) {
  // A norm that is chosen at run time is known by its name. That of a residual block is called norm; others inside
  // attention scale queries and keys.
  const bool called_norm = node.name == "norm" || node.name.ends_with(".norm");
  const bool norm =
      called_norm || dynamic_cast<const LayerNorm*>(node.module) || dynamic_cast<const RMSNorm*>(node.module);
  if (dynamic_cast<const MultiHeadAttention*>(parent)) return called_norm ? Role::norm : Role::gain;
  if (norm) return Role::norm;
  if (dynamic_cast<const Embedding*>(node.module)) return Role::embedding;
  if (dynamic_cast<const LearnedPositions*>(node.module)) return Role::position;
  if (dynamic_cast<const FeedForward*>(parent)) return Role::mlp;
  if (dynamic_cast<const Linear*>(node.module) && after_blocks) return Role::head;
  return Role::other;
}

class Walk {
 public:
  explicit Walk(Module& model) {
    model.visit([&](const std::string& name, Module& module) {
      nodes_.push_back({name, &module});
      if (is_block(name)) blocks_.push_back(name);
    });
  }

  std::vector<ParameterRows> rows() {
    for (const Node& node : nodes_) {
      if (is_block(node.name)) ++blocks_seen_;
      const std::string above = parent_of(node.name);
      const auto parent = std::find_if(nodes_.begin(), nodes_.end(), [&](const Node& n) { return n.name == above; });
      const Module* parent_module = node.name.empty() ? nullptr : parent->module;
      node_ = &node;
      for (const NamedTensor& p : node.module->own_parameters()) {
        if (!seen_.insert(p.tensor.impl().get()).second) continue;
        if (const auto* attention = dynamic_cast<const MultiHeadAttention*>(node.module)) {
          add_attention(p, attention->options());
        } else if (dynamic_cast<const AdditiveAttention*>(node.module)) {
          add(p, p.name == "query_weight" ? Role::query : p.name == "key_weight" ? Role::key : Role::gain);
        } else {
          add(p, role_of(node, parent_module, depth() > std::int64_t(blocks_.size())));
        }
      }
    }
    return std::move(rows_);
  }

 private:
  std::int64_t depth() const {
    const auto block =
        std::find_if(blocks_.begin(), blocks_.end(), [&](const std::string& b) { return inside(node_->name, b); });
    if (block != blocks_.end()) return block - blocks_.begin() + 1;
    const std::int64_t all = std::int64_t(blocks_.size());
    return blocks_seen_ == all && all > 0 ? all + 1 : blocks_seen_;
  }

  void add(const NamedTensor& p, Role role) { add(p, 0, p.tensor.rank() > 0 ? p.tensor.shape()[0] : 1, role, -1); }
  void add(const NamedTensor& p, std::int64_t first, std::int64_t end, Role role, std::int64_t head) {
    const bool table = role == Role::embedding || role == Role::position;
    rows_.push_back({joined(node_->name, p.name), p.tensor, first, end, role, table ? 0 : depth(), head});
  }

  void add_attention(const NamedTensor& p, const MultiHeadAttentionOptions& o) {
    if (p.name == "weight_out" || p.name == "bias_out") return add(p, Role::output);
    const bool memory = p.name == "weight_memory";
    if (!memory && p.name != "weight_in" && p.name != "bias_in") return add(p, Role::gain);
    std::int64_t row = 0;
    const auto heads = [&](Role role, std::int64_t count, std::int64_t rows_each) {
      for (std::int64_t h = 0; h < count; ++h, row += rows_each) add(p, row, row + rows_each, role, h);
    };
    if (!memory) heads(Role::query, o.num_heads, o.head_dim);
    if (row == p.tensor.shape()[0]) return;  // keys and values have a weight of their own
    heads(Role::key, o.num_kv_heads, o.head_dim);
    heads(Role::value, o.num_kv_heads, o.value_dim);
  }

  std::vector<Node> nodes_;
  std::vector<std::string> blocks_;
  std::int64_t blocks_seen_ = 0;
  const Node* node_ = nullptr;
  std::unordered_set<const void*> seen_;
  std::vector<ParameterRows> rows_;
};

}  // namespace

std::vector<ParameterRows> parameter_roles(Module& model) { return Walk(model).rows(); }

std::vector<ParameterRows> rows_named(const std::vector<ParameterRows>& rows, std::string_view name) {
  std::vector<std::string> known;
  std::vector<ParameterRows> found;
  std::string whole;  // the full name that was meant
  for (const ParameterRows& r : rows) {
    const std::string role = joined(parent_of(r.parameter), std::string(name_of(r.role)));
    std::vector<std::string> names{r.parameter, role};
    if (r.head >= 0) names.push_back(role + ".head" + std::to_string(r.head));
    for (const std::string& n : names) {
      known.push_back(n);
      if (n != name && !n.ends_with(std::string(".").append(name))) continue;
      if (!whole.empty() && n != whole) {
        fail("rows_named", "a name that means one thing", "got `" + std::string(name) + "`: " + whole + " and " + n);
      }
      whole = n;
      found.push_back(r);
    }
  }
  if (found.empty()) {
    fail("rows_named", "the name of a parameter, a module's role or a head's",
         "got `" + std::string(name) + "`; the nearest is `" + nearest(name, known) + "`");
  }
  return found;
}

}  // namespace attune::nn
