// From a tree of modules to the roles of their rows.
#include "attune/nn/roles.hpp"

#include <algorithm>
#include <cctype>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "attune/base/error.hpp"
#include "attune/base/nearest.hpp"

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

class Walk {
 public:
  explicit Walk(Module& model) {
    model.visit([&](const std::string& name, Module& module) {
      nodes_.push_back({name, &module});
      if (is_block(name)) blocks_.push_back(name);
      std::unordered_map<const void*, std::vector<ParameterRows>> own;
      for (ParameterRows& r : module.own_roles()) own[r.tensor.impl().get()].push_back(std::move(r));
      told_.merge(own);  // parents came first, and are believed
    });
  }

  std::vector<ParameterRows> rows() {
    for (const Node& node : nodes_) {
      if (is_block(node.name)) ++blocks_seen_;
      for (const NamedTensor& p : node.module->own_parameters()) {
        if (seen_.insert(p.tensor.impl().get()).second) add(joined(node.name, p.name), p.tensor, depth(node.name));
      }
    }
    return std::move(rows_);
  }

 private:
  std::int64_t depth(const std::string& module) const {
    const auto block =
        std::find_if(blocks_.begin(), blocks_.end(), [&](const std::string& b) { return inside(module, b); });
    if (block != blocks_.end()) return block - blocks_.begin() + 1;
    const std::int64_t all = std::int64_t(blocks_.size());
    return blocks_seen_ == all && all > 0 ? all + 1 : blocks_seen_;
  }

  void add(const std::string& name, const Tensor& tensor, std::int64_t depth) {
    const std::int64_t all = tensor.rank() > 0 ? tensor.shape()[0] : 1;
    const auto told = told_.find(tensor.impl().get());
    if (told == told_.end()) {  // nobody's, after all blocks: from the last state to what is predicted
      const Role role = depth > std::int64_t(blocks_.size()) ? Role::head : Role::other;
      rows_.push_back({name, tensor, 0, all, role, depth});
      return;
    }
    std::int64_t row = 0;
    for (ParameterRows& r : told->second) {
      if (r.first != row || r.end <= r.first) break;
      row = r.end;
      const bool table = r.role == Role::embedding || r.role == Role::position;
      r.parameter = name;
      r.depth = table ? 0 : depth;
      rows_.push_back(std::move(r));
    }
    if (row != all) {
      fail("parameter_roles", "own_roles() that tell of all rows of " + name + " in their order",
           "got rows up to " + std::to_string(row) + " of " + std::to_string(all));
    }
  }

  std::vector<Node> nodes_;
  std::vector<std::string> blocks_;
  std::int64_t blocks_seen_ = 0;
  std::unordered_map<const void*, std::vector<ParameterRows>> told_;
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
