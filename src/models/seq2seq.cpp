// The encoder-decoder Transformer, put together from nn.
#include "attune/models/seq2seq.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "attune/attention/position/learned.hpp"
#include "attune/attention/position/learned_grid.hpp"
#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "attune/nn/mup.hpp"

namespace attune::models {
namespace {

Seq2SeqOptions checked(Seq2SeqOptions options) {
  if (options.target_vocab_size == 0) options.target_vocab_size = options.source_vocab_size;
  if (options.source_vocab_size < 1 || options.target_vocab_size < 1)
    fail("Seq2SeqTransformer", "vocabularies have pieces",
         fmt::format("{} and {}", options.source_vocab_size, options.target_vocab_size));
  if (options.share_embeddings && options.source_vocab_size != options.target_vocab_size)
    fail("Seq2SeqTransformer", "shared embeddings have equal vocabularies",
         fmt::format("{} and {}", options.source_vocab_size, options.target_vocab_size));
  if (options.num_encoder_layers < 1 || options.num_decoder_layers < 1)
    fail("Seq2SeqTransformer", "encoder and decoder have layers",
         fmt::format("{} and {}", options.num_encoder_layers, options.num_decoder_layers));
  if (options.norm == nn::NormPlace::none) fail("Seq2SeqTransformer", "norm is pre or post", "none");
  for (const std::int32_t id : {options.padding_id, options.begin_id, options.end_id})
    if (id < 0 || id >= options.target_vocab_size)
      fail("Seq2SeqTransformer", fmt::format("special ids lie in 0 .. {}", options.target_vocab_size - 1),
           fmt::format("{}", id));
  return options;
}

nn::TransformerOptions stack(const Seq2SeqOptions& o, std::int64_t num_layers) {
  return nn::Mup{o.mup_base_width}.stack({.num_layers = num_layers,
                                          .model_dim = o.model_dim,
                                          .num_heads = o.num_heads,
                                          .num_kv_heads = o.num_kv_heads,
                                          .feed_forward_dim = o.feed_forward_dim,
                                          .dropout = o.dropout,
                                          .attention_dropout = o.attention_dropout,
                                          .activation = o.activation,
                                          .norm = o.norm,
                                          .norm_kind = o.norm_kind,
                                          .position = o.position,
                                          .score = o.score,
                                          .bias = o.bias,
                                          .mask = o.mask,
                                          .normalizer = o.normalizer,
                                          .stability = o.stability});
}

/// A table whose rows reach the layers with a spread of 1; under muP the constants are those of the base width, so that
/// an update moves what the layers see by as much at every width.
nn::EmbeddingOptions table_of(const Seq2SeqOptions& o, std::int64_t num_ids) {
  const double width = o.mup_base_width > 0 ? o.mup_base_width : double(o.model_dim);
  return {.num_ids = num_ids,
          .dim = o.model_dim,
          .scale = std::sqrt(width),
          .init = {nn::Init::normal, 1 / std::sqrt(width)}};
}

/// Where the rows of a learned position end.
std::int64_t longest_target(const Seq2SeqOptions& o) {
  std::int64_t most = std::numeric_limits<std::int64_t>::max();
  if (o.token_position == nn::TokenPosition::learned) most = o.num_positions;
  if (const auto* table = o.position.as<Learned>()) most = std::min<std::int64_t>(most, table->num_positions);
  if (const auto* grid = o.position.as<LearnedGrid>())
    most = std::min(most, grid->prefix_tokens + std::int64_t(grid->grid_height) * grid->grid_width);
  return most;
}

/// Tokens before the padding of each row, ids [B, T].
std::vector<int> valid_tokens(const Ids& ids, std::int32_t padding_id, std::string_view function) {
  if (ids.shape().rank() != 2) fail(function, "ids are [B, T]", ids.shape().text());
  const std::int64_t batch_size = ids.shape()[0], length = ids.shape()[1];
  std::vector<int> valid;
  for (std::int64_t b = 0; b < batch_size; ++b) {
    const std::int32_t* row = ids.data() + b * length;
    const auto end = std::find(row, row + length, padding_id);
    if (std::any_of(end, row + length, [&](std::int32_t id) { return id != padding_id; }))
      fail(function, "padding stands at the end of a row", fmt::format("row {} goes on after it", b));
    valid.push_back(int(end - row));
  }
  return valid;
}

/// Evaluation mode without recording, for a while.
class Evaluating {
 public:
  explicit Evaluating(nn::Module& module) : module_(module), before_(module.training()) { module.eval(); }
  ~Evaluating() { module_.train(before_); }

 private:
  NoGrad no_grad_;
  nn::Module& module_;
  bool before_;
};

}  // namespace

Seq2SeqTransformer::Seq2SeqTransformer(const Seq2SeqOptions& options)
    : options_(checked(options)),
      source_embedding_(table_of(options_, options_.source_vocab_size)),
      dropout_(options_.dropout),
      encoder_(stack(options_, options_.num_encoder_layers)),
      decoder_(stack(options_, options_.num_decoder_layers)) {
  const std::int64_t model_dim = options_.model_dim;
  add_module("source_embedding", source_embedding_);
  if (!options_.share_embeddings) {
    target_embedding_.emplace(table_of(options_, options_.target_vocab_size));
    add_module("target_embedding", *target_embedding_);
  }
  if (options_.token_position == nn::TokenPosition::sinusoidal) {
    sinusoidal_.emplace(nn::SinusoidalPositionsOptions{.model_dim = model_dim});
    add_module("positions", *sinusoidal_);
  } else if (options_.token_position == nn::TokenPosition::learned) {
    const nn::LearnedPositionsOptions learned{.num_positions = options_.num_positions, .model_dim = model_dim};
    source_positions_.emplace(learned);
    target_positions_.emplace(learned);
    add_module("source_positions", *source_positions_);
    add_module("target_positions", *target_positions_);
  }
  add_module("dropout", dropout_);
  add_module("encoder", encoder_);
  add_module("decoder", decoder_);
  if (!options_.tie_output) {
    nn::LinearOptions readout{.in = model_dim, .out = options_.target_vocab_size, .bias = false};
    if (options_.mup_base_width > 0) readout.init = {nn::Init::zeros};
    output_.emplace(readout);
    add_module("output", *output_);
  }
}

/// ids [B, T] -> [B, T, C]; `first` is the position of the first column.
Tensor Seq2SeqTransformer::embed(const Ids& ids, bool of_target, std::int64_t first) const {
  Tensor x = (of_target ? target_table() : source_embedding_)(ids);
  if (sinusoidal_) x = (*sinusoidal_)(x, first);
  if (source_positions_) x = (of_target ? *target_positions_ : *source_positions_)(x, first);
  return dropout_(x);
}

/// states [B, T, C] -> logits [B, T, V]
Tensor Seq2SeqTransformer::project(const Tensor& states) const {
  const double m = nn::Mup{options_.mup_base_width}.ratio(options_.model_dim);
  const Tensor x = m == 1 ? states : states * (1 / m);
  return output_ ? (*output_)(x) : linear(x, target_table().weight);
}

EncodedSource Seq2SeqTransformer::encode(const Ids& source, const nn::WatchOptions& watch,
                                         Seq2SeqAttention* seen) const {
  EncodedSource out;
  out.valid = valid_tokens(source, options_.padding_id, "Seq2SeqTransformer::encode");
  out.states = encoder_(embed(source, false, 0), out.valid, watch, seen ? &seen->encoder : nullptr);
  return out;
}

Tensor Seq2SeqTransformer::decode(const Ids& target, const EncodedSource& source, const nn::WatchOptions& watch,
                                  Seq2SeqAttention* seen) const {
  valid_tokens(target, options_.padding_id, "Seq2SeqTransformer::decode");
  if (target.shape()[0] != std::int64_t(source.valid.size()))
    fail("Seq2SeqTransformer::decode", fmt::format("as many targets as sources ({})", source.valid.size()),
         target.shape().text());
  // Padding at the end of a target needs no mask: the causal mask hides it from every token that counts.
  return project(decoder_(embed(target, true, 0), source.states, source.valid, watch, seen ? &seen->decoder : nullptr));
}

Tensor Seq2SeqTransformer::operator()(const Ids& source, const Ids& target, const nn::WatchOptions& watch,
                                      Seq2SeqAttention* seen) const {
  return decode(target, encode(source, watch, seen), watch, seen);
}

nn::DecoderCache Seq2SeqTransformer::start(const EncodedSource& source) const {
  return decoder_.start(source.states, source.valid);
}

Tensor Seq2SeqTransformer::step(const Ids& tokens, nn::DecoderCache& cache) const {
  const std::int64_t batch_size = tokens.size();
  const Tensor x = embed(tokens.reshape({batch_size, 1}), true, cache.length());
  return reshape(project(decoder_.step(x, cache)), {batch_size, options_.target_vocab_size});
}

std::vector<std::vector<Hypothesis>> Seq2SeqTransformer::translate(const Ids& source, const SearchOptions& options,
                                                                   double length_ratio, std::int64_t length_extra) {
  const Evaluating evaluating(*this);
  const EncodedSource encoded = encode(source);
  const std::int64_t longest = longest_target(options_);
  std::vector<std::int64_t> max_lengths;
  for (const int valid : encoded.valid) {
    std::int64_t most = std::int64_t(length_ratio * valid) + length_extra;
    most = std::min(most, longest);
    max_lengths.push_back(std::max<std::int64_t>(most, 1));
  }
  Seq2SeqDecoder decoder(*this, encoded);
  return search(decoder, max_lengths, options_.begin_id, options_.end_id, options);
}

Seq2SeqAttention Seq2SeqTransformer::attention(const Ids& source, const Ids& target) {
  const Evaluating evaluating(*this);
  Seq2SeqAttention seen;
  (*this)(source, target, {.weights = true}, &seen);
  return seen;
}

Seq2SeqDecoder::Seq2SeqDecoder(const Seq2SeqTransformer& model, const EncodedSource& source)
    : model_(model), cache_(model.start(source)) {}

Tensor Seq2SeqDecoder::step(std::span<const std::int32_t> tokens) {
  return model_.step(Ids(std::vector<std::int32_t>(tokens.begin(), tokens.end())), cache_).to(DType::float32);
}

void Seq2SeqDecoder::reorder(std::span<const std::int64_t> rows) {
  cache_.select(Ids(std::vector<std::int32_t>(rows.begin(), rows.end())));
}

}  // namespace attune::models
