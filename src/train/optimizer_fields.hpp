// Every key of [optimizer]: its name, its place in the recipe and in an optimizer's options, what it may be. Which keys
// an optimizer has follows from its options. Private.
#pragma once
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "attune/base/error.hpp"
#include "attune/base/nearest.hpp"
#include "attune/optim/all.hpp"
#include "attune/train/optimizer_config.hpp"
#include "train/config_rule.hpp"

namespace attune::train::detail {

/// f(name, options) for every optimizer; the order is that of messages.
template <class F>
void each_optimizer(F&& f) {
  f("sgd", optim::SgdOptions{});
  f("adam", optim::AdamOptions{});
  f("adamw", optim::AdamWOptions{});
  f("nadam", optim::NAdamOptions{});
  f("radam", optim::RAdamOptions{});
  f("adafactor", optim::AdafactorOptions{});
  f("lamb", optim::LambOptions{});
  f("lion", optim::LionOptions{});
  f("muon", optim::MuonOptions{});
  f("ademamix", optim::AdEMAMixOptions{});
  f("schedule_free", optim::ScheduleFreeOptions{});
  f("prodigy", optim::ProdigyOptions{});
}

/// f(name, value in the recipe, value in the options, rule) for every key that both have by the same name and meaning.
template <class Config, class Options, class F>
void each_shared_key(Config& c, Options& o, F&& f) {
#define ATTUNE_KEY(name, ...) \
  if constexpr (requires { o.name; }) f(#name, c.name, o.name, __VA_ARGS__)
  ATTUNE_KEY(learning_rate, Rule{.low = 0, .high = 1e6, .above_low = true});
  ATTUNE_KEY(betas, share());
  ATTUNE_KEY(epsilon, Rule{.low = 0, .high = 1, .above_low = true});
  ATTUNE_KEY(momentum, share());
  ATTUNE_KEY(nesterov, any());
  ATTUNE_KEY(dampening, between(0, 1));
  ATTUNE_KEY(weight_decay, between(0, 1e6));
  ATTUNE_KEY(decoupled_decay, any());
  ATTUNE_KEY(clip_norm, between(0, 1e30));
  ATTUNE_KEY(clip_value, between(0, 1e30));
  ATTUNE_KEY(clip_adaptive, between(0, 1e30));
  ATTUNE_KEY(clip_zscore, between(0, 1e30));
  ATTUNE_KEY(atan2_scale, between(0, 1e6));
  ATTUNE_KEY(momentum_decay, between(0, 1e6));
  ATTUNE_KEY(beta3, share());
  ATTUNE_KEY(alpha, between(0, 1e6));
  ATTUNE_KEY(mix_warmup, between(0, 1e12));
  ATTUNE_KEY(always_adapt, any());
  ATTUNE_KEY(clip_ratio, any());
  ATTUNE_KEY(beta2_decay, Rule{.low = -100, .high = 0, .below_high = true});
  ATTUNE_KEY(least_square, between(0, 1));
  ATTUNE_KEY(threshold, above(0));
  ATTUNE_KEY(iterations, between(0, 100));
  ATTUNE_KEY(average_power, between(0, 1e6));
  ATTUNE_KEY(rate_power, between(0, 1e6));
  ATTUNE_KEY(bias_correction, any());
  ATTUNE_KEY(safeguard_warmup, any());
  ATTUNE_KEY(first_distance, Rule{.low = 0, .high = 1e30, .above_low = true});
  ATTUNE_KEY(coefficient, Rule{.low = 0, .high = 1e30, .above_low = true});
#undef ATTUNE_KEY
}

/// visit.key(name, value, rule) for every key of [optimizer] that the kind has, and the table of groups.
template <class Config, class Visit>
void visit_optimizer(Config& c, Visit& visit) {
  const std::vector<std::string> kinds = optimizer_kinds();
  const std::string before = c.kind;
  visit.key("kind", c.kind, one_of({kinds.begin(), kinds.end()}));
  if constexpr (!std::is_const_v<Config>) {
    if (c.kind != before) c = optimizer_defaults(c.kind);
  }
  each_optimizer([&](std::string_view kind, auto options) {
    if (kind != c.kind) return;
    each_shared_key(c, options,
                    [&](std::string_view name, auto& value, auto&, const Rule& rule) { visit.key(name, value, rule); });
    visit.key("decay", c.decay, one_of({"all", "matrices"}));
    if constexpr (std::is_same_v<decltype(options), optim::MuonOptions>) {
      visit.key("scale", c.scale, one_of({"original", "adamw", "spectral"}));
    }
    if constexpr (std::is_same_v<decltype(options), optim::ProdigyOptions>) {
      visit.key("growth", c.growth, between(0, 1e30));
    }
    if constexpr (!std::is_same_v<decltype(options), optim::ScheduleFreeOptions>) {
      visit.key("average", c.average, share());
      visit.key("average_warmup", c.average_warmup, between(0, 1));
    }
  });
  visit.table("groups", [&] {
    visit.key("layer_decay", c.groups.layer_decay, Rule{.low = 0, .high = 1, .above_low = true});
    visit.key("base_width", c.groups.base_width, between(0, 1e9));
    visit.key("layers", c.groups.layers, between(0, 1e9));
    visit.key("query_heads", c.groups.query_heads, between(0, 1e9));
    visit.key("key_heads", c.groups.key_heads, between(0, 1e9));
    for (const std::string& name : role_names()) {
      const Role role = role_from_name(name);
      const auto found = c.groups.roles.find(role);
      double factor = found == c.groups.roles.end() ? 1 : found->second;
      visit.key(name, factor, between(0, 1e9));
      if constexpr (!std::is_const_v<Config>) {
        c.groups.roles.erase(role);
        if (factor != 1) c.groups.roles[role] = factor;
      }
    }
  });
}

}  // namespace attune::train::detail
