// Transformer layers and stacks, put together from MultiHeadAttention with its residual block and FeedForward with its
// own.
#include "attune/nn/transformer.hpp"

#include <string>

#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"

namespace attune::nn {
namespace {

const TransformerOptions& checked(const TransformerOptions& o) {
  if (o.norm == NormPlace::none) fail("Transformer", "norm pre or post", "got none");
  if (o.num_layers < 1) fail("Transformer", "at least one layer", "got " + std::to_string(o.num_layers));
  return o;
}

MultiHeadAttentionOptions block(const TransformerOptions& o) {
  checked(o);
  MultiHeadAttentionOptions a;
  a.model_dim = o.model_dim;
  a.num_heads = o.num_heads;
  a.num_kv_heads = o.num_kv_heads;
  a.bias_terms = o.bias_terms;
  a.dropout = o.attention_dropout;
  a.init = o.init;
  a.score = o.score;
  a.normalizer = o.normalizer;
  a.num_tokens = o.num_tokens;
  a.stability = o.stability;
  a.norm = o.norm;
  a.norm_kind = o.norm_kind;
  a.residual_dropout = o.dropout;
  return a;
}
MultiHeadAttentionOptions self_block(const TransformerOptions& o, const AnyMask& mask) {
  MultiHeadAttentionOptions a = block(o);
  a.position = o.position;
  a.bias = o.bias;
  a.mask = mask;
  return a;
}
FeedForwardOptions feed_forward_of(const TransformerOptions& o) {
  return {.model_dim = o.model_dim,
          .hidden_dim = o.feed_forward_dim > 0 ? o.feed_forward_dim : 4 * o.model_dim,
          .activation = o.activation,
          .dropout = o.dropout,
          .bias = o.bias_terms,
          .init = o.init};
}

/// x + dropout(f(norm(x))), or norm(x + dropout(f(x))).
Tensor with_residual(const Tensor& x, const FeedForward& f, const Norm& norm, const Dropout& dropout, NormPlace place) {
  if (place == NormPlace::pre) return dropout.residual(x, f(norm(x)));
  return norm(dropout.residual(x, f(x)));
}

AttentionCall call_of(const std::vector<int>& valid, const WatchOptions& watch) {
  AttentionCall call;
  call.valid_keys = valid;
  call.weights = watch.weights;
  call.statistics = watch.statistics;
  return call;
}
/// Keeps what was asked for without the result itself.
void keep(AttentionResult& from, AttentionResult* to) {
  if (to == nullptr) return;
  to->weights = from.weights;
  to->statistics = std::move(from.statistics);
}

}  // namespace

// --- encoder ---------------------------------------------------------------------------------------------------------

TransformerEncoderLayer::TransformerEncoderLayer(const TransformerOptions& options)
    : attention(self_block(options, options.mask)),
      feed_forward(feed_forward_of(options)),
      place_(options.norm),
      norm_(options.norm_kind, {.dim = options.model_dim}),
      dropout_(options.dropout) {
  add_module("attention", attention);
  add_module("feed_forward", feed_forward);
  add_module("norm", norm_);
  add_module("dropout", dropout_);
}

Tensor TransformerEncoderLayer::operator()(const Tensor& x, const AttentionCall& call, AttentionResult* seen) const {
  AttentionResult attended = attention.attend_to(x, x, call);
  keep(attended, seen);
  return with_residual(attended.out, feed_forward, norm_, dropout_, place_);
}

TransformerEncoder::TransformerEncoder(const TransformerOptions& options) {
  checked(options);
  for (std::int64_t i = 0; i < options.num_layers; ++i) {
    layers.push_back(std::make_unique<TransformerEncoderLayer>(options));
    add_module("layer" + std::to_string(i), *layers.back());
  }
  if (options.norm == NormPlace::pre) {
    norm_.emplace(options.norm_kind, NormOptions{.dim = options.model_dim});
    add_module("norm", *norm_);
  }
}

Tensor TransformerEncoder::operator()(const Tensor& x, const std::vector<int>& valid, const WatchOptions& watch,
                                      std::vector<LayerAttention>* seen) const {
  if (seen) seen->assign(layers.size(), {});
  const AttentionCall call = call_of(valid, watch);
  Tensor y = x;
  for (std::size_t i = 0; i < layers.size(); ++i) y = (*layers[i])(y, call, seen ? &(*seen)[i].self : nullptr);
  return norm_ ? (*norm_)(y) : y;
}

Tensor TransformerEncoder::step(const Tensor& x, std::vector<KvCache>& caches) const {
  if (caches.empty()) caches.resize(layers.size());
  if (caches.size() != layers.size()) {
    fail("TransformerEncoder::step", std::to_string(layers.size()) + " caches, one a layer, or none yet",
         "got " + std::to_string(caches.size()));
  }
  NoGrad no_grad;
  Tensor y = x;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    AttentionCall call;
    call.cache = &caches[i];
    y = (*layers[i])(y, call);
  }
  return norm_ ? (*norm_)(y) : y;
}

// --- decoder ---------------------------------------------------------------------------------------------------------

TransformerDecoderLayer::TransformerDecoderLayer(const TransformerOptions& options)
    : self_attention(self_block(options, AnyMask(Causal{}) & options.mask)),
      cross_attention(block(options)),
      feed_forward(feed_forward_of(options)),
      place_(options.norm),
      norm_(options.norm_kind, {.dim = options.model_dim}),
      dropout_(options.dropout) {
  add_module("self_attention", self_attention);
  add_module("cross_attention", cross_attention);
  add_module("feed_forward", feed_forward);
  add_module("norm", norm_);
  add_module("dropout", dropout_);
}

Tensor TransformerDecoderLayer::operator()(const Tensor& x, const Tensor& memory, const std::vector<int>& valid_memory,
                                           const WatchOptions& watch, LayerAttention* seen,
                                           DecoderLayerCache* cache) const {
  AttentionCall own = call_of({}, watch), other = call_of(valid_memory, watch);
  if (cache) {
    own.cache = &cache->self;
    other.cache = &cache->cross;
  }
  AttentionResult self = self_attention.attend_to(x, x, own);
  keep(self, seen ? &seen->self : nullptr);
  AttentionResult cross = cross_attention.attend_to(self.out, memory, other);
  keep(cross, seen ? &seen->cross : nullptr);
  return with_residual(cross.out, feed_forward, norm_, dropout_, place_);
}

TransformerDecoder::TransformerDecoder(const TransformerOptions& options) {
  checked(options);
  for (std::int64_t i = 0; i < options.num_layers; ++i) {
    layers.push_back(std::make_unique<TransformerDecoderLayer>(options));
    add_module("layer" + std::to_string(i), *layers.back());
  }
  if (options.norm == NormPlace::pre) {
    norm_.emplace(options.norm_kind, NormOptions{.dim = options.model_dim});
    add_module("norm", *norm_);
  }
}

Tensor TransformerDecoder::operator()(const Tensor& x, const Tensor& memory, const std::vector<int>& valid_memory,
                                      const WatchOptions& watch, std::vector<LayerAttention>* seen) const {
  if (seen) seen->assign(layers.size(), {});
  Tensor y = x;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    y = (*layers[i])(y, memory, valid_memory, watch, seen ? &(*seen)[i] : nullptr);
  }
  return norm_ ? (*norm_)(y) : y;
}

DecoderCache TransformerDecoder::start(const Tensor& memory, const std::vector<int>& valid_memory) const {
  NoGrad no_grad;
  DecoderCache cache;
  cache.valid_memory = valid_memory;
  for (const auto& layer : layers) cache.layers.push_back({{}, layer->cross_attention.project_memory(memory)});
  return cache;
}

Tensor TransformerDecoder::step(const Tensor& x, DecoderCache& cache) const {
  if (cache.layers.size() != layers.size()) {
    fail("TransformerDecoder::step", "a cache from start()",
         "it has " + std::to_string(cache.layers.size()) + " layers, this decoder " + std::to_string(layers.size()));
  }
  NoGrad no_grad;
  Tensor y = x;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    y = (*layers[i])(y, {}, cache.valid_memory, {}, nullptr, &cache.layers[i]);
  }
  return norm_ ? (*norm_)(y) : y;
}

void DecoderCache::select(const Ids& batch_entries) {
  for (DecoderLayerCache& layer : layers) {
    layer.self.select(batch_entries);
    layer.cross.select(batch_entries);
  }
  if (valid_memory.empty()) return;
  std::vector<int> chosen;
  for (std::int64_t i = 0; i < batch_entries.size(); ++i) {
    const std::int32_t entry = batch_entries[i];
    if (entry < 0 || std::size_t(entry) >= valid_memory.size()) {
      fail("DecoderCache::select", "entries in 0 .. " + std::to_string(valid_memory.size() - 1),
           "got " + std::to_string(entry));
    }
    chosen.push_back(valid_memory[std::size_t(entry)]);
  }
  valid_memory = std::move(chosen);
}

}  // namespace attune::nn
