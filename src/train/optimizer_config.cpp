// From [optimizer] to an optimizer.
#include "attune/train/optimizer_config.hpp"

#include <fmt/format.h>

#include <cmath>

#include "attune/nn/roles.hpp"
#include "train/optimizer_fields.hpp"

namespace attune::train {
namespace {

// The optimizer of some options; Muon's also knows roles.
template <class Options>
struct OptimizerOf;
#define ATTUNE_OPTIMIZER(Name)               \
  template <>                                \
  struct OptimizerOf<optim::Name##Options> { \
    using Type = optim::Name;                \
  }
ATTUNE_OPTIMIZER(Sgd);
ATTUNE_OPTIMIZER(Adam);
ATTUNE_OPTIMIZER(AdamW);
ATTUNE_OPTIMIZER(NAdam);
ATTUNE_OPTIMIZER(RAdam);
ATTUNE_OPTIMIZER(Adafactor);
ATTUNE_OPTIMIZER(Lamb);
ATTUNE_OPTIMIZER(Lion);
ATTUNE_OPTIMIZER(Muon);
ATTUNE_OPTIMIZER(AdEMAMix);
ATTUNE_OPTIMIZER(ScheduleFree);
ATTUNE_OPTIMIZER(Prodigy);
#undef ATTUNE_OPTIMIZER

std::unique_ptr<optim::Optimizer> build_optimizer(const OptimizerConfig& c, const optim::Schedule& schedule,
                                                  const std::vector<Tensor>& parameters,
                                                  const std::vector<ParameterRows>& roles) {
  std::vector<optim::ParameterGroup> groups{{parameters}};
  if (c.decay == "matrices") groups = optim::decay_matrices_only(parameters);
  std::unique_ptr<optim::Optimizer> made;
  detail::each_optimizer([&](std::string_view kind, auto options) {
    if (kind != c.kind) return;
    using Options = decltype(options);
    options.schedule = schedule;
    detail::each_shared_key(c, options,
                            [](std::string_view, const auto& value, auto& to, const detail::Rule&) { to = value; });
    if constexpr (std::is_same_v<Options, optim::ProdigyOptions>) {
      if (c.growth > 0) options.growth = c.growth;
    }
    if constexpr (std::is_same_v<Options, optim::MuonOptions>) {
      options.scale = optim::muon_scale_from_name(c.scale);
      made = std::make_unique<optim::Muon>(groups, options, roles);
    } else {
      made = std::make_unique<typename OptimizerOf<Options>::Type>(groups, options);
    }
  });
  if (!made) optimizer_defaults(c.kind);  // throws: there is none of that name
  if (c.average > 0) made->keep_average({.decay = c.average, .warmup_power = c.average_warmup});
  return made;
}

/// Whether a key is visited outside of tables.
struct KeySearch {
  std::string_view name;
  bool found = false;
  template <class T>
  void key(std::string_view key, T&, const detail::Rule&) {
    found = found || key == name;
  }
  template <class Body>
  void table(std::string_view, Body&&) {}
};

}  // namespace

std::vector<std::string> optimizer_kinds() {
  std::vector<std::string> kinds;
  detail::each_optimizer([&](std::string_view kind, const auto&) { kinds.emplace_back(kind); });
  return kinds;
}

std::vector<std::string> optimizers_with(std::string_view key) {
  std::vector<std::string> kinds;
  for (const std::string& kind : optimizer_kinds()) {
    OptimizerConfig c = optimizer_defaults(kind);
    KeySearch search{key};
    detail::visit_optimizer(c, search);
    if (search.found) kinds.push_back(kind);
  }
  return kinds;
}

OptimizerConfig optimizer_defaults(std::string_view kind) {
  OptimizerConfig c;
  bool found = false;
  detail::each_optimizer([&](std::string_view name, auto options) {
    if (name != kind) return;
    found = true;
    c.kind = name;
    // The oldest three share the defaults of the struct, whatever their options say.
    if (name == "sgd" || name == "adam" || name == "adamw") return;
    const double clip_norm = c.clip_norm;
    detail::each_shared_key(c, options,
                            [](std::string_view, auto& value, const auto& from, const detail::Rule&) { value = from; });
    c.clip_norm = clip_norm;
  });
  if (!found) {
    const std::vector<std::string> known = optimizer_kinds();
    fail("optimizer", fmt::format("one of {}", fmt::join(known, ", ")),
         fmt::format("got `{}`; the nearest is `{}`", kind, nearest(std::string(kind), known)));
  }
  return c;
}

std::unique_ptr<optim::Optimizer> make_optimizer(const OptimizerConfig& c, const optim::Schedule& schedule,
                                                 const std::vector<Tensor>& parameters) {
  if (c.groups != optim::GroupOptions{}) {
    fail("make_optimizer", "a model, whose parameters have roles, with factors of groups", "got parameters alone");
  }
  return build_optimizer(c, schedule, parameters, {});
}

std::unique_ptr<optim::Optimizer> make_optimizer(const OptimizerConfig& c, const optim::Schedule& schedule,
                                                 nn::Module& model) {
  const std::vector<ParameterRows> roles = nn::parameter_roles(model);
  auto optimizer = build_optimizer(c, schedule, model.parameters(), roles);
  // Roles also name the groups of a schedule per group, which may come later: they are always told.
  optimizer->set_row_factors(optim::row_factors(roles, c.groups));
  return optimizer;
}

}  // namespace attune::train
