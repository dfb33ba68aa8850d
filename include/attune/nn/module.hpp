// Module: what owns parameters. A tree by membership: a module registers its own tensors and its members.
//
//     struct Pair : nn::Module {
//       nn::Linear a, b;
//       Pair() : a({.in = 4, .out = 8}), b({.in = 8, .out = 2}) { add_module("a", a); add_module("b", b); }
//       Tensor operator()(const Tensor& x) { return b(relu(a(x))); }          // parameters: a.weight, a.bias, b.weight
//       ...
//     };
//
// Randomness at work (dropout) comes from one generator that the root gives to all below it, so a run is resumed by its
// seed and position. Modules are neither copied nor moved: children are known by address.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attune/attention/statistics.hpp"
#include "attune/autograd/roles.hpp"
#include "attune/autograd/tensor.hpp"

namespace attune::nn {

struct AttentionSite;  // attention_sites.hpp
class AttentionWatch;

struct NamedTensor {
  std::string name;  // "encoder.layers.0.attention.query.weight"
  Tensor tensor;
};

class Module {
 public:
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// All parameters of this module and those below, in the order of registration. A shared tensor appears once.
  std::vector<NamedTensor> named_parameters() const;
  std::vector<Tensor> parameters() const;
  /// Elements of all parameters.
  std::int64_t num_parameters() const;
  void zero_grad();

  /// In training, dropout drops. On at first.
  void train(bool on = true);
  void eval() { train(false); }
  bool training() const { return training_; }

  /// The generator of this tree; default_generator() until one is set.
  Generator& generator() const;
  /// Gives this module and all below it (also those added later) one generator that starts as `generator`.
  void set_generator(const Generator& generator);

  /// Converts all parameters to a compute dtype.
  void to(DType);

  /// Calls f with every module of the tree and its name, in the order of registration, parents first: "" is this one,
  /// "encoder.layer0.attention" one further down.
  void visit(const std::function<void(const std::string& name, Module& module)>& f);
  /// The parameters that this module registered itself, by their own names ("weight").
  const std::vector<NamedTensor>& own_parameters() const { return parameters_; }

  // What a module tells about itself; whoever asks (roles.hpp, attention_sites.hpp) knows no module by its type.
  /// What rows of its parameters, and of its members', are for; all rows of a tensor or none, the first first. Names
  /// and depths are left open. Where several modules speak of a tensor, the one furthest up is believed. Default:
  /// nothing.
  virtual std::vector<ParameterRows> own_roles() const;
  /// Where it attends itself, in the order of the calls; members speak for themselves. A name is the part that comes
  /// after the module's own, "" if there is but one site. Default: nowhere.
  virtual std::vector<AttentionSite> own_sites() const;
  /// Whether an AttentionWatch wants the statistics of every attention; then they are told, site by site.
  bool watched() const { return watch_ != nullptr; }
  void saw(std::string_view site, Statistics) const;

 protected:
  Module() = default;
  /// Registers a parameter: it wants a gradient from now on. Returns it.
  Tensor add_parameter(std::string name, Tensor value);
  /// Registers a member, which must live as long as this module.
  void add_module(std::string name, Module& child);

 private:
  void collect(const std::string& prefix, std::vector<NamedTensor>& out) const;
  void visit_below(const std::string& name, const std::function<void(const std::string&, Module&)>& f);
  void adopt(const std::shared_ptr<Generator>& generator);

  std::vector<NamedTensor> parameters_;
  std::vector<std::pair<std::string, Module*>> children_;
  std::vector<std::pair<bool, std::size_t>> order_;  // is a child, index
  std::shared_ptr<Generator> generator_;
  bool training_ = true;

  friend class AttentionWatch;
  AttentionWatch* watch_ = nullptr;
  std::string watched_name_;  // of this module in the watched tree
};

}  // namespace attune::nn
