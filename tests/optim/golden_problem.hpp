// The problem of tools/make_optimizer_golden.py, and its cases as optimizers.
#pragma once
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attune/base/error.hpp"
#include "attune/optim/all.hpp"

namespace attune::optim {

struct Problem {
  std::vector<Tensor> weights;
  explicit Problem(DType dtype = DType::float64) {
    std::int64_t i = 0;
    for (const Shape& shape : {Shape{3, 4}, Shape{5}, Shape{2, 3}}) {
      std::vector<double> values;
      for (std::int64_t k = 0; k < shape.size(); ++k, ++i) values.push_back(double((29 * i) % 23 - 11) / 8);
      weights.push_back(Tensor::from(values, shape).to(dtype));
      weights.back().requires_grad();
    }
  }
  template <class T>
  void set_gradients(std::int64_t t, bool spikes = false) {
    const T factor = spikes && t >= 30 && t % 13 == 0 ? T(30) : T(1);
    std::int64_t i = 0;
    for (Tensor& w : weights) {
      Tensor grad = w.grad();
      for (std::int64_t k = 0; k < w.size(); ++k, ++i) {
        grad.data<T>()[k] = factor * (T(1 + i % 5) / 8 * w.data<T>()[k] + T((37 * i + 101 * t) % 17 - 8) / 16);
      }
    }
  }
  std::vector<double> values() const {
    std::vector<double> all;
    for (const Tensor& w : weights) {
      for (const double x : w.to_vector()) all.push_back(x);
    }
    return all;
  }
};

inline nlohmann::json golden_cases() {
  std::ifstream file(ATTUNE_SOURCE_DIR "/tests/golden/optimizers.json");
  return nlohmann::json::parse(file)["cases"];
}

namespace detail {

inline std::unique_ptr<Optimizer> make_kind(const nlohmann::json& c, const std::vector<ParameterGroup>& groups) {
  const std::string kind = c["kind"];
  const auto number = [&](const char* name, double otherwise) { return c.value(name, otherwise); };
  // What all options have.
  const auto with = [&](auto o) {
    o.learning_rate = c["learning_rate"];
    if (c.contains("total")) o.schedule = schedule::Linear{.warmup = c["warmup"], .total = c["total"]};
    if (c.contains("constant")) o.schedule = schedule::Constant{.warmup = c["warmup"], .total = 100};
    if (c.contains("onecycle")) o.schedule = schedule::OneCycle{.total = 100};
    o.weight_decay = number("weight_decay", 0);
    o.clip_norm = number("clip_norm", 0);
    o.clip_value = number("clip_value", 0);
    o.clip_adaptive = number("clip_adaptive", 0);
    o.clip_zscore = number("clip_zscore", 0);
    if constexpr (requires { o.betas; }) {
      if (c.contains("betas")) o.betas = {c["betas"][0], c["betas"][1]};
    }
    if constexpr (requires { o.epsilon; }) o.epsilon = number("epsilon", o.epsilon);
    if constexpr (requires { o.decoupled_decay; }) o.decoupled_decay = c.value("decoupled_decay", o.decoupled_decay);
    if constexpr (requires { o.momentum; }) o.momentum = number("momentum", o.momentum);
    if constexpr (requires { o.nesterov; }) o.nesterov = c.value("nesterov", o.nesterov);
    if constexpr (requires { o.atan2_scale; }) o.atan2_scale = number("atan2_scale", 0);
    return o;
  };
  if (kind == "sgd") {
    auto o = with(SgdOptions{});
    o.dampening = number("dampening", 0);
    return std::make_unique<Sgd>(groups, o);
  }
  if (kind == "adam") return std::make_unique<Adam>(groups, with(AdamOptions{}));
  if (kind == "adamw") return std::make_unique<AdamW>(groups, with(AdamWOptions{}));
  if (kind == "nadam") {
    auto o = with(NAdamOptions{});
    o.momentum_decay = number("momentum_decay", 4e-3);
    return std::make_unique<NAdam>(groups, o);
  }
  if (kind == "radam") return std::make_unique<RAdam>(groups, with(RAdamOptions{}));
  if (kind == "lamb") {
    auto o = with(LambOptions{});
    o.always_adapt = c.value("always_adapt", false);
    o.clip_ratio = c.value("clip_ratio", false);
    return std::make_unique<Lamb>(groups, o);
  }
  if (kind == "lion") return std::make_unique<Lion>(groups, with(LionOptions{}));
  if (kind == "ademamix") {
    auto o = with(AdEMAMixOptions{});
    if (c.contains("betas")) o.beta3 = c["betas"][2];
    o.alpha = number("alpha", 5);
    o.mix_warmup = c.value("mix_warmup", 0);
    return std::make_unique<AdEMAMix>(groups, o);
  }
  if (kind == "adafactor") {
    auto o = with(AdafactorOptions{});
    o.beta2_decay = number("beta2_decay", -0.8);
    o.least_square = number("least_square", 0);
    o.threshold = number("threshold", 1);
    return std::make_unique<Adafactor>(groups, o);
  }
  if (kind == "muon") {
    auto o = with(MuonOptions{});
    o.scale = muon_scale_from_name(c.value("scale", "original"));
    return std::make_unique<Muon>(groups, o);
  }
  if (kind == "schedule_free") {
    auto o = with(ScheduleFreeOptions{});
    o.average_power = number("average_power", 0);
    return std::make_unique<ScheduleFree>(groups, o);
  }
  auto o = with(ProdigyOptions{});
  o.first_distance = c["first_distance"];
  o.coefficient = number("coefficient", 1);
  o.growth = number("growth", o.growth);
  o.bias_correction = c.value("bias_correction", false);
  o.safeguard_warmup = c.value("safeguard_warmup", false);
  return std::make_unique<Prodigy>(groups, o);
}

}  // namespace detail

inline std::unique_ptr<Optimizer> make(const nlohmann::json& c, const std::vector<Tensor>& weights) {
  std::vector<ParameterGroup> groups;
  if (c.contains("groups")) {
    for (const nlohmann::json& g : c["groups"]) {
      ParameterGroup group{{}, g["learning_rate_factor"], g["weight_decay"]};
      for (const std::size_t i : g["parameters"]) group.parameters.push_back(weights[i]);
      groups.push_back(group);
    }
  } else {
    groups.push_back({weights});
  }
  auto optimizer = detail::make_kind(c, groups);
  if (c.contains("average")) {
    optimizer->keep_average({.decay = c["average"], .warmup_power = c.value("average_warmup", 0.0)});
  }
  return optimizer;
}

}  // namespace attune::optim
