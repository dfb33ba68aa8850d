// The decoder-only Transformer: an encoder stack under a causal mask, between a table and its transpose.
#include "attune/models/gpt.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/loss.hpp"
#include "attune/autograd/ops/matmul.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "attune/nn/mup.hpp"

namespace attune::models {
namespace {

const GptOptions& checked(const GptOptions& o) {
  if (o.vocab_size < 1) fail("Gpt", "a vocab_size of at least 1", fmt::format("got {}", o.vocab_size));
  if (o.context < 1) fail("Gpt", "a context of at least 1 token", fmt::format("got {}", o.context));
  for (const double deviation : {o.init_deviation, o.embedding_deviation}) {
    if (!(deviation >= 0 && std::isfinite(deviation)))
      fail("Gpt", "a finite init_deviation and embedding_deviation of at least 0", fmt::format("got {}", deviation));
  }
  return o;
}

nn::TransformerOptions stack(const GptOptions& o) {
  return nn::Mup{o.mup_base_width}.stack({.num_layers = o.num_layers,
                                          .model_dim = o.model_dim,
                                          .num_heads = o.num_heads,
                                          .num_kv_heads = o.num_kv_heads,
                                          .feed_forward_dim = o.feed_forward_dim,
                                          .dropout = o.dropout,
                                          .attention_dropout = o.attention_dropout,
                                          .activation = o.activation,
                                          .norm_kind = o.norm_kind,
                                          .bias_terms = o.bias_terms,
                                          .init = {nn::Init::normal, o.init_deviation},
                                          .num_tokens = o.context,
                                          .position = o.position,
                                          .score = o.score,
                                          .bias = o.bias,
                                          .mask = AnyMask(Causal{}) & o.mask,
                                          .normalizer = o.normalizer,
                                          .stability = o.stability});
}

/// The place of the largest number, or one drawn from softmax(logits / temperature).
std::int32_t choose(const float* logits, std::int64_t n, double temperature, Generator& generator) {
  const std::int64_t best = std::max_element(logits, logits + n) - logits;
  if (!std::isfinite(logits[best])) fail("Gpt::generate", "finite logits", "the largest is not finite");
  if (temperature == 0) return std::int32_t(best);
  std::vector<double> cumulative;
  double total = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    total += std::exp((double(logits[i]) - double(logits[best])) / temperature);
    cumulative.push_back(total);
  }
  const double at = generator.uniform() * total;
  const auto found = std::upper_bound(cumulative.begin(), cumulative.end(), at);
  return std::int32_t(std::min<std::int64_t>(found - cumulative.begin(), n - 1));
}

}  // namespace

Gpt::Gpt(const GptOptions& options)
    : options_(checked(options)),
      embedding_({.num_ids = options_.vocab_size,
                  .dim = options_.model_dim,
                  .init = {nn::Init::normal,
                           options_.embedding_deviation > 0 ? options_.embedding_deviation : options_.init_deviation}}),
      dropout_(options_.dropout),
      layers_(stack(options_)) {
  add_module("embedding", embedding_);
  if (options_.token_position == nn::TokenPosition::learned) {
    positions_.emplace(nn::LearnedPositionsOptions{.num_positions = options_.context, .model_dim = options_.model_dim});
    add_module("positions", *positions_);
  }
  if (options_.token_position == nn::TokenPosition::sinusoidal) {
    sinusoidal_.emplace(nn::SinusoidalPositionsOptions{.model_dim = options_.model_dim});
    add_module("positions", *sinusoidal_);
  }
  add_module("dropout", dropout_);
  add_module("layers", layers_);
  if (!options_.tied) {
    output_.emplace(nn::LinearOptions{.in = options_.model_dim,
                                      .out = options_.vocab_size,
                                      .bias = false,
                                      .init = options_.mup_base_width > 0
                                                  ? nn::Initializer{nn::Init::zeros}
                                                  : nn::Initializer{nn::Init::normal, options_.init_deviation}});
    add_module("output", *output_);
  }
}

/// tokens [B, T] -> [B, T, C]; `first` is the position of the first column.
Tensor Gpt::embed(const Ids& tokens, std::int64_t first) const {
  if (tokens.shape().rank() != 2 || first + tokens.shape()[1] > options_.context) {
    fail("Gpt", fmt::format("tokens [B, T] with positions below {}", options_.context),
         fmt::format("got {} from position {}", tokens.shape().text(), first));
  }
  Tensor x = embedding_(tokens);
  if (positions_) x = (*positions_)(x, first);
  if (sinusoidal_) x = (*sinusoidal_)(x, first);
  return dropout_(x);
}

/// states [B, T, C] -> logits [B, T, V]
Tensor Gpt::project(const Tensor& states) const {
  const double m = nn::Mup{options_.mup_base_width}.ratio(options_.model_dim);
  const Tensor x = m == 1 ? states : states * (1 / m);
  return output_ ? (*output_)(x) : linear(x, embedding_.weight);
}

Tensor Gpt::logits(const Ids& tokens, const nn::WatchOptions& watch, std::vector<nn::LayerAttention>* seen) const {
  return project(layers_(embed(tokens, 0), {}, watch, seen));
}

Tensor Gpt::loss(const Ids& tokens, const Ids& targets) const {
  if (!(tokens.shape() == targets.shape())) {
    fail("Gpt::loss", "targets of the tokens' shape " + tokens.shape().text(), "got " + targets.shape().text());
  }
  return cross_entropy(logits(tokens), targets);
}

std::vector<std::int32_t> Gpt::generate(const std::vector<std::int32_t>& prompt, const GenerateOptions& options) {
  if (prompt.empty()) fail("Gpt::generate", "a prompt of at least one token", "got none");
  if (!(options.temperature >= 0 && std::isfinite(options.temperature))) {
    fail("Gpt::generate", "a finite temperature of at least 0", fmt::format("got {}", options.temperature));
  }
  const NoGrad no_grad;
  struct Evaluating {
    nn::Module& module;
    bool before = module.training();
    explicit Evaluating(nn::Module& m) : module(m) { module.eval(); }
    ~Evaluating() { module.train(before); }
  } const evaluating(*this);
  Generator generator(options.seed);
  std::vector<nn::KvCache> caches;
  std::vector<std::int32_t> text = prompt, fresh = prompt;
  for (std::int64_t written = 0; written < options.max_new_tokens; ++written) {
    if (std::int64_t(text.size()) >= options_.context) break;
    const auto n = std::int64_t(fresh.size()), first = std::int64_t(text.size()) - n;
    const Tensor states = layers_.step(embed(Ids(fresh, {1, n}), first), caches);  // [1, n, C]
    const Tensor after = project(slice(states, 1, n - 1, n)).to(DType::float32);   // [1, 1, V]
    const std::int32_t next = choose(after.data<float>(), options_.vocab_size, options.temperature, generator);
    text.push_back(next);
    fresh = {next};
    if (next == options.end_id) break;
  }
  return text;
}

}  // namespace attune::models
