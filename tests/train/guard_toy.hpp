// A small language model that learns to count, with a guard: what the guard's tests train.
#pragma once
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "attune/autograd/ops/loss.hpp"
#include "attune/models/gpt.hpp"
#include "attune/optim/adam.hpp"
#include "attune/train/attention_guard.hpp"

namespace attune::train::guard_toy {

constexpr std::int64_t kVocab = 16, kContext = 12, kBatch = 4;

/// What is done to one update from outside.
struct Harm {
  double gradient = 1;      // factor of all gradients
  bool not_finite = false;  // the batch's loss is NaN
};

struct Toy {
  models::Gpt model;
  optim::AdamW optimizer;
  AttentionGuard guard;
  std::int64_t cursor = 0;  // batches drawn
  double loss = 0;          // of the last update, nats a token
  bool applied = false;     // whether it was
  std::vector<GuardEvent> events;

  struct Model {
    double learning_rate = 1e-2;
    std::int64_t num_kv_heads = 0;
    std::int64_t total = 200;  // of the schedule, updates
    nn::Stability stability = {};
  };
  Toy(const GuardOptions& options, const Model& o)
      : model(seeded(o)),
        optimizer(model.parameters(), {.learning_rate = o.learning_rate,
                                       .schedule = optim::warmup_linear({.warmup = 10, .total = o.total}),
                                       .betas = {0.9, 0.95},
                                       .weight_decay = 0}),
        guard(model, optimizer, options) {
    model.set_generator(Generator(9, 1));
    guard.on_event([this](const GuardEvent& e) { events.push_back(e); });
  }
  explicit Toy(const GuardOptions& options) : Toy(options, Model()) {}
  static models::GptOptions seeded(const Model& o) {
    set_seed(3);
    return {.vocab_size = kVocab,
            .num_layers = 2,
            .model_dim = 16,
            .num_heads = 4,
            .num_kv_heads = o.num_kv_heads,
            .feed_forward_dim = 32,
            .context = kContext,
            .dropout = 0.05,
            .init_deviation = 0.2,
            .stability = o.stability};
  }

  /// Rows that count upwards by 1 or by 2, from somewhere; a function of the cursor.
  struct Batch {
    Ids tokens, targets;
  };
  Batch draw() {
    Generator g(5, std::uint64_t(cursor++));
    std::vector<std::int32_t> tokens, targets;
    for (std::int64_t b = 0; b < kBatch; ++b) {
      const auto start = std::int32_t(g.below(kVocab)), by = std::int32_t(1 + g.below(2));
      for (std::int32_t t = 0; t < kContext; ++t) {
        tokens.push_back((start + by * t) % kVocab);
        targets.push_back((start + by * (t + 1)) % kVocab);
      }
    }
    return {Ids(tokens, {kBatch, kContext}), Ids(targets, {kBatch, kContext})};
  }

  /// Forward and backward; what the attention of each layer saw.
  std::vector<SiteStatistics> pass(const Harm& harm = {}) {
    const Batch batch = draw();
    model.train();
    optimizer.zero_grad();
    std::vector<SiteStatistics> statistics;
    std::optional<nn::AttentionWatch> watch;
    if (guard.options().mode != GuardMode::off) watch.emplace(model, statistics);
    const Tensor mean = cross_entropy(model.logits(batch.tokens), batch.targets);
    loss = harm.not_finite ? std::numeric_limits<double>::quiet_NaN() : mean.item();
    mean.backward();
    if (harm.gradient != 1) {
      for (const Tensor& p : model.parameters()) {
        Tensor g = p.grad();
        for (std::int64_t i = 0; i < g.size(); ++i) g.data<float>()[i] *= float(harm.gradient);
      }
    }
    return statistics;
  }

  /// One update; false if the guard went back.
  bool update(const Harm& harm = {}) {
    guard.begin();
    const std::vector<SiteStatistics> statistics = pass(harm);
    const bool staged = std::isfinite(loss) && optimizer.propose();
    applied = false;
    if (!guard.inspect({loss, staged, statistics})) return false;
    applied = staged;
    if (!staged) return true;
    optimizer.apply();
    guard.finish();
    return true;
  }
  void updates(int n) {
    for (int i = 0; i < n; ++i) update();
  }
  std::vector<std::vector<double>> weights() const {
    std::vector<std::vector<double>> all;
    for (const Tensor& p : model.parameters()) all.push_back(p.to_vector());
    return all;
  }
  std::int64_t count(const std::string& action) const {
    std::int64_t n = 0;
    for (const GuardEvent& e : events) n += e.action == action;
    return n;
  }
};

}  // namespace attune::train::guard_toy
