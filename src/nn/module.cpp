// Module: the tree of names, the generator that the root hands down, the mode.
#include "attune/nn/module.hpp"

#include <algorithm>
#include <unordered_set>

#include "attune/base/error.hpp"

namespace attune::nn {

void Module::collect(const std::string& prefix, std::vector<NamedTensor>& out) const {
  for (const auto& [is_child, index] : order_) {
    if (is_child) {
      const auto& [name, child] = children_[index];
      child->collect(prefix + name + ".", out);
    } else {
      out.push_back({prefix + parameters_[index].name, parameters_[index].tensor});
    }
  }
}

std::vector<NamedTensor> Module::named_parameters() const {
  std::vector<NamedTensor> all, unique;
  collect("", all);
  std::unordered_set<const void*> seen;
  for (NamedTensor& p : all) {
    if (seen.insert(p.tensor.impl().get()).second) unique.push_back(std::move(p));
  }
  return unique;
}
std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> tensors;
  for (NamedTensor& p : named_parameters()) tensors.push_back(std::move(p.tensor));
  return tensors;
}
std::int64_t Module::num_parameters() const {
  std::int64_t n = 0;
  for (const Tensor& p : parameters()) n += p.size();
  return n;
}
void Module::zero_grad() {
  for (Tensor& p : parameters()) p.zero_grad();
}
void Module::to(DType dtype) {
  for (Tensor& p : parameters()) {
    p.convert(dtype);
    p.requires_grad();  // refuses the half types
  }
}

void Module::visit(const std::function<void(const std::string&, Module&)>& f) { visit_below("", f); }
void Module::visit_below(const std::string& name, const std::function<void(const std::string&, Module&)>& f) {
  f(name, *this);
  for (auto& [child_name, child] : children_)
    child->visit_below(name.empty() ? child_name : name + "." + child_name, f);
}

std::vector<ParameterRows> Module::own_roles() const { return {}; }

void Module::train(bool on) {
  training_ = on;
  for (auto& [name, child] : children_) child->train(on);
}

Generator& Module::generator() const { return generator_ ? *generator_ : default_generator(); }
void Module::set_generator(const Generator& generator) { adopt(std::make_shared<Generator>(generator)); }
void Module::adopt(const std::shared_ptr<Generator>& generator) {
  generator_ = generator;
  for (auto& [name, child] : children_) child->adopt(generator);
}

namespace {
void check_name(std::string_view function, const std::string& name, bool taken) {
  if (name.empty() || name.find('.') != std::string::npos) {
    fail(function, "a name without a dot", "got \"" + name + "\"");
  }
  if (taken) fail(function, "a new name", "\"" + name + "\" is taken");
}
}  // namespace

Tensor Module::add_parameter(std::string name, Tensor value) {
  check_name("add_parameter", name,
             std::any_of(parameters_.begin(), parameters_.end(), [&](const auto& p) { return p.name == name; }));
  value.requires_grad();
  order_.push_back({false, parameters_.size()});
  parameters_.push_back({std::move(name), value});
  return value;
}

void Module::add_module(std::string name, Module& child) {
  check_name("add_module", name,
             std::any_of(children_.begin(), children_.end(), [&](const auto& c) { return c.first == name; }));
  if (generator_) child.adopt(generator_);
  child.train(training_);
  order_.push_back({true, children_.size()});
  children_.push_back({std::move(name), &child});
}

}  // namespace attune::nn
