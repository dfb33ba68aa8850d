// The encoder-decoder Transformer: reads one sequence, writes another. "Attention is all you need", arXiv:1706.03762.
//
//   memory = encoder(embed(source));   logits = decoder(embed(target), memory) E^T
//   embed(ids) = dropout(sqrt(C) * E[ids] + positions)
//
// Pre-norm as in arXiv:2002.04745 unless asked otherwise. One embedding table serves source, target and output unless
// asked otherwise (arXiv:1608.05859). It knows ids, not text: train/translator.hpp adds the words.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "attune/models/search.hpp"
#include "attune/nn/embedding.hpp"
#include "attune/nn/positions.hpp"
#include "attune/nn/transformer.hpp"

namespace attune::models {

struct Seq2SeqOptions {
  std::int64_t source_vocab_size = 0;  // V of the source
  std::int64_t target_vocab_size = 0;  // V of the target; 0: as the source
  std::int64_t num_encoder_layers = 2, num_decoder_layers = 2;
  std::int64_t model_dim = 128;  // C
  std::int64_t num_heads = 4;
  std::int64_t num_kv_heads = 0;      // 0: num_heads
  std::int64_t feed_forward_dim = 0;  // 0: 4 C
  double dropout = 0.1;               // of embeddings, blocks and inside the feed-forward
  double attention_dropout = 0;       // of attention weights
  Activation activation = Activation::relu;
  nn::NormPlace norm = nn::NormPlace::pre;  // pre or post
  nn::NormKind norm_kind = nn::NormKind::layer;
  bool share_embeddings = true;  // one table for source and target; needs equal vocabularies
  bool tie_output = true;        // the target's table is the output projection as well
  double mup_base_width = 0;     // muP (nn/mup.hpp): the model_dim at which all is as without it; 0: off
  nn::TokenPosition token_position = nn::TokenPosition::sinusoidal;
  std::int64_t num_positions = 256;  // the longest sequence with a learned token_position
  std::int32_t padding_id = 0, begin_id = 2, end_id = 3;
  /// Stages of the attention inside the layers (see nn::TransformerOptions).
  AnyPosition position;
  AnyScore score = ScaledDot{};
  Biases bias;
  AnyMask mask;
  AnyNormalizer normalizer = Softmax{};
  nn::Stability stability;
};

/// What the encoder made of a batch of sources.
struct EncodedSource {
  Tensor states;           // [B, S, C]
  std::vector<int> valid;  // [B] tokens of each source that are not padding
};

/// The attention of one pass, layer by layer. Encoder layers fill `self` alone.
struct Seq2SeqAttention {
  std::vector<nn::LayerAttention> encoder, decoder;
};

class Seq2SeqTransformer : public nn::Module {
 public:
  /// Parameters come from the default generator (set_seed). Throws Error for options that do not fit together.
  explicit Seq2SeqTransformer(const Seq2SeqOptions&);

  /// source [B, S], target [B, T] (begins with begin_id) -> logits [B, T, V] of the token after each target token.
  /// Padding stands at the end of a row. `seen` receives what `watch` asks for.
  Tensor operator()(const Ids& source, const Ids& target, const nn::WatchOptions& watch = {},
                    Seq2SeqAttention* seen = nullptr) const;
  EncodedSource encode(const Ids& source, const nn::WatchOptions& watch = {}, Seq2SeqAttention* seen = nullptr) const;
  Tensor decode(const Ids& target, const EncodedSource& source, const nn::WatchOptions& watch = {},
                Seq2SeqAttention* seen = nullptr) const;

  /// Decodes the sources with a cache. In evaluation mode or not, nothing is dropped and nothing recorded.
  /// At most length_ratio * (source tokens) + length_extra tokens are written, the end token included.
  std::vector<std::vector<Hypothesis>> translate(const Ids& source, const SearchOptions& search = {},
                                                 double length_ratio = 1.6, std::int64_t length_extra = 10);

  /// All attention weights, [1 .. B, H, Tq, Tk] for each layer, for given pairs.
  Seq2SeqAttention attention(const Ids& source, const Ids& target);

  const Seq2SeqOptions& options() const { return options_; }

  /// Internal to decoding: a cache for these sources, and the logits [B, V] after one more token [B] at place `at`.
  nn::DecoderCache start(const EncodedSource& source) const;
  Tensor step(const Ids& tokens, nn::DecoderCache& cache) const;

 private:
  Tensor embed(const Ids& ids, bool of_target, std::int64_t first) const;
  Tensor project(const Tensor& states) const;
  const nn::Embedding& target_table() const { return target_embedding_ ? *target_embedding_ : source_embedding_; }

  Seq2SeqOptions options_;
  nn::Embedding source_embedding_;
  std::optional<nn::Embedding> target_embedding_;
  std::optional<nn::SinusoidalPositions> sinusoidal_;
  std::optional<nn::LearnedPositions> source_positions_, target_positions_;
  nn::Dropout dropout_;
  nn::TransformerEncoder encoder_;
  nn::TransformerDecoder decoder_;
  std::optional<nn::Linear> output_;
};

/// The cache of a Seq2SeqTransformer, as search() wants to see it.
class Seq2SeqDecoder : public StepDecoder {
 public:
  Seq2SeqDecoder(const Seq2SeqTransformer& model, const EncodedSource& source);
  Tensor step(std::span<const std::int32_t> tokens) override;
  void reorder(std::span<const std::int64_t> rows) override;

 private:
  const Seq2SeqTransformer& model_;
  nn::DecoderCache cache_;
};

}  // namespace attune::models
