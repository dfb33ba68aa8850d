// Every key of a recipe: its name, its place, what it may be. Reading, writing and checking all walk over this list.
#pragma once
#include <limits>
#include <string_view>
#include <vector>

#include "attune/train/config.hpp"
#include "train/config_rule.hpp"
#include "train/optimizer_fields.hpp"

namespace attune::train::detail {

/// The most that an integer key takes: enough for everything, and products of two still fit 64 bits.
inline constexpr double kMost = 1e9;

/// Calls visit.key(name, value, rule) for every key, visit.table(name, body) around those of a table,
/// visit.schedule(name, spec), visit.names(name, list, rule) for a list that one text may stand for, and in
/// [model.attention] visit.key_or_stage(name, value, rule, attention) for a key that a stage shares its name with and,
/// last, visit.stages(attention) for the options of stages. Config is RunConfig or const RunConfig.
template <class Config, class Visit>
void visit_fields(Config& c, Visit& visit) {
  visit.key("task", c.task, one_of({"translate", "language-model", "recall"}));
  visit.key("seed", c.seed, between(0, 9007199254740992.0));
  visit.table("data", [&] {
    visit.key("source", c.data.source, one_of({"libreoffice-help", "tsv", "novels", "text"}));
    visit.key("languages", c.data.languages, any());
    visit.key("folder", c.data.folder, any());
    visit.key("max_tokens", c.data.max_tokens, between(4, kMost));
    visit.key("pairs", c.data.pairs, between(1, 1e4));
    visit.key("keys", c.data.keys, between(1, 1e6));
    visit.key("questions", c.data.questions, between(1, 1e4));
  });
  visit.table("tokenizer", [&] {
    visit.key("kind", c.tokenizer.kind, one_of({"unigram", "bpe"}));
    visit.key("vocab_size", c.tokenizer.vocab_size, between(8, 1e7));
    visit.key("character_coverage", c.tokenizer.character_coverage, Rule{.low = 0.5, .high = 1});
  });
  visit.table("model", [&] {
    visit.key("kind", c.model.kind, one_of({"seq2seq_transformer", "gpt"}));
    visit.key("num_layers", c.model.num_layers, between(1, 1000));
    visit.key("model_dim", c.model.model_dim, between(1, 1e6));
    visit.key("num_heads", c.model.num_heads, between(1, 1e4));
    visit.key("num_kv_heads", c.model.num_kv_heads, between(0, 1e4));
    visit.key("feed_forward_dim", c.model.feed_forward_dim, between(0, 1e7));
    visit.key("dropout", c.model.dropout, share());
    visit.key("attention_dropout", c.model.attention_dropout, share());
    visit.key("context", c.model.context, between(1, 1e6));
    visit.key("init_deviation", c.model.init_deviation, between(0, 100));
    visit.key("embedding_deviation", c.model.embedding_deviation, between(0, 100));
    visit.key("mup_base_width", c.model.mup_base_width, between(0, 1e6));
    visit.key("norm", c.model.norm, one_of({"pre", "post"}));
    visit.key("norm_kind", c.model.norm_kind, one_of({"layer", "rms"}));
    visit.key("activation", c.model.activation, one_of({"relu", "gelu", "silu"}));
    visit.key("share_embeddings", c.model.share_embeddings, any());
    visit.key("tie_output", c.model.tie_output, any());
    visit.key("token_position", c.model.token_position, one_of({"none", "sinusoidal", "learned"}));
    visit.table("attention", [&] {
      visit.key("score", c.model.attention.score, Rule{.mechanism = "score"});
      visit.key("position", c.model.attention.position, Rule{.choices = {"none"}, .mechanism = "position"});
      visit.names("bias", c.model.attention.bias, Rule{.mechanism = "bias"});
      visit.names("mask", c.model.attention.mask, Rule{.mechanism = "mask"});
      visit.key("normalizer", c.model.attention.normalizer, Rule{.mechanism = "normalizer"});
      visit.key_or_stage("qk_norm", c.model.attention.qk_norm, one_of({"none", "rms", "l2"}), c.model.attention);
      visit.key("output_gate", c.model.attention.output_gate, any());
      visit.key("sigma_reparam", c.model.attention.sigma_reparam, any());
      visit.key("mup_base_head_dim", c.model.attention.mup_base_head_dim, between(0, 1e6));
      visit.stages(c.model.attention);
    });
  });
  visit.table("train", [&] {
    visit.key("minutes", c.train.minutes, between(0, 1e7));
    visit.key("steps", c.train.steps, between(0, 1e12));
    visit.key("batch_tokens", c.train.batch_tokens, between(1, kMost));
    visit.key("accumulate", c.train.accumulate, between(1, 1e6));
    visit.key("label_smoothing", c.train.label_smoothing, share());
    visit.key("z_loss", c.train.z_loss, between(0, 1));
    visit.key("log_every", c.train.log_every, between(1, kMost));
    visit.key("checkpoint_every", c.train.checkpoint_every, between(1, kMost));
    visit.key("validate_every", c.train.validate_every, between(0, kMost));
    visit.key("tensorboard", c.train.tensorboard, any());
  });
  visit.table("optimizer", [&] { visit_optimizer(c.optimizer, visit); });
  visit.schedule("schedule", c.schedule);
  visit.table("guard", [&] {
    visit.key("mode", c.guard.mode, one_of({"off", "observe", "lr", "clip", "full"}));
    visit.key("rule", c.guard.rule, one_of({"move", "quack"}));
    visit.key("limit", c.guard.limit, above(0));
    visit.key("tight", c.guard.tight, between(0.001, 1));
    visit.key("tight_until", c.guard.tight_until, between(0, 0.5));
    visit.key("tau", c.guard.tau, above(0));
    visit.key("closed_loop", c.guard.closed_loop, any());
    visit.key("warmup_clock", c.guard.warmup_clock, any());
    visit.key("snapshot_every", c.guard.snapshot_every, between(0, kMost));
    visit.key("most_rollbacks", c.guard.most_rollbacks, between(0, 1000));
  });
}

/// The schedule with every field but `total`, which belongs to [train]. Throws what Schedule::from_spec throws.
/// steps = 0: not known yet; lengths are then checked as far as they can be.
optim::ScheduleSpec complete_schedule(const optim::ScheduleSpec& spec, std::int64_t steps);
/// The same with `total`.
optim::Schedule schedule_over(optim::ScheduleSpec spec, std::int64_t steps);

}  // namespace attune::train::detail
