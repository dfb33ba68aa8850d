// MultiHeadAttention: project to heads, attend, project back.  "Attention is all you need", arXiv:1706.03762
//
//     heads = attend(query Wq^T + bq, key Wk^T + bk, value Wv^T + bv);   out = heads Wo^T + bo
//
// The classical module, with every blank of the sentence open: score, bias, mask, position, normalizer. Queries may
// have more heads than keys (grouped heads). Projections of one input are one product, and heads are attended to where
// the product wrote them: nothing is transposed or copied. With a cache it decodes token by token.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "attune/attention/mask/all.hpp"
#include "attune/autograd/ops/attend.hpp"
#include "attune/nn/dropout.hpp"
#include "attune/nn/init.hpp"
#include "attune/nn/module.hpp"
#include "attune/nn/norm.hpp"

namespace attune::nn {

/// Where the optional residual connection puts its norm.
enum class NormPlace : std::uint8_t {
  none,  // no residual, no norm: the bare module
  pre,   // x + dropout(attention(norm(x)))
  post   // norm(x + dropout(attention(x)))
};
/// "none", "pre", "post".
std::string_view name_of(NormPlace);
NormPlace norm_place_from_name(std::string_view name);

/// How query and key heads are normalised before they meet, and before rotary positions turn them: then no logit grows
/// with the size of a projection.
enum class QkNorm : std::uint8_t {
  none,
  rms,  // sqrt(D) x / |x| times a learned gain for each number of each head. arXiv:2302.05442
  l2    // the same with one learned gain a head: sqrt(D) times the cosine is the logit at first. arXiv:2010.04245
};
/// "none", "rms", "l2".
std::string_view name_of(QkNorm);
/// The reverse; throws Error for any other text.
QkNorm qk_norm_from_name(std::string_view name);

/// Remedies against logits that grow until the softmax is saturated, built into the module. All are off at first; more
/// of them are stages: SoftCap, SoftmaxWithSink, a ScaledDot of another scale.
struct Stability {
  QkNorm qk_norm = QkNorm::none;
  /// Each head's result times sigmoid(its row of weight_gate . query input + bias_gate). arXiv:2505.06708
  bool output_gate = false;
  /// Each of the four matrices is gain / (its spectral norm) times itself; gains begin as these norms, so that nothing
  /// changes at first. arXiv:2303.06296
  bool sigma_reparam = false;
};

struct MultiHeadAttentionOptions {
  std::int64_t model_dim = 0;  // C, width of query and out
  std::int64_t num_heads = 1;
  std::int64_t num_kv_heads = 0;                 // 0: num_heads
  std::int64_t head_dim = 0;                     // D of query and key; 0: model_dim / num_heads
  std::int64_t value_dim = 0;                    // Dv; 0: head_dim
  std::int64_t memory_dim = 0;                   // width of key and value; 0: model_dim
  bool bias_terms = true;                        // of the four projections
  double dropout = 0;                            // of the attention weights, in training
  Initializer init = {Init::xavier_uniform, 1};  // of each projection; bias terms start at 0
  /// The five blanks (attention/attend.hpp). Learned arrays of stages become parameters of this module, which then
  /// works for the extents they were made for (`num_tokens` where a stage's arrays depend on the sequence).
  AnyPosition position;
  AnyScore score = ScaledDot{};
  Biases bias;
  AnyMask mask;
  AnyNormalizer normalizer = Softmax{};
  std::int64_t num_tokens = 0;
  Stability stability;
  /// The residual block around the module; its dropout is `residual_dropout`.
  NormPlace norm = NormPlace::none;
  NormKind norm_kind = NormKind::layer;
  double residual_dropout = 0;
};

/// Keys and values of the tokens seen so far, for decoding. Belongs to one module and one batch.
struct KvCache {
  Tensor rows;              // [B, capacity, Hkv * (D + Dv)]: of a token the keys of all heads, then the values
  std::int64_t length = 0;  // tokens in it
  bool fixed = false;       // holds a memory's projection (cross attention): filled once, then only read
  /// Keeps these batch entries, in this order (beams); entries may repeat.
  void select(const Ids& batch_entries);
  /// Adds columns column .. column + width - 1 of new tokens [B, n, *].
  void append(const Tensor& tokens, std::int64_t column, std::int64_t width);
};

/// What may differ from call to call.
struct AttentionCall {
  /// Keys j >= valid_keys[b] are hidden; empty: all are valid.
  std::vector<int> valid_keys;
  /// Hides more, by conjunction with the module's mask.
  AnyMask mask;
  bool weights = false;      // return the probabilities
  bool statistics = false;   // return statistics per head
  KvCache* cache = nullptr;  // self attention: query holds the new tokens, whose keys and values are appended
};

struct AttentionResult {
  Tensor out;             // [B, Tq, C]
  Tensor weights;         // [B, H, Tq, Tk], without history; if asked for
  Statistics statistics;  // if asked for
};

/// Parameters, [out, in]: weight_in [H * D + Hkv * D + Hkv * Dv, C] and bias_in (query heads, key heads, value heads: D
/// or Dv rows are a head), weight_out [C, H * Dv] and bias_out [C]. If memory_dim is not C, weight_in has the query's
/// rows alone and weight_memory [Hkv * D + Hkv * Dv, memory_dim] the rest. Then those of the stages, `alibi_slope` and
/// so on; norm.weight and norm.bias with a residual block. With QkNorm query_gain [H, D] and key_gain [Hkv, D] (l2:
/// [H, 1] and [Hkv, 1]), ones at first; with an output gate weight_gate [H, C] and bias_gate [H]; with sigma_reparam
/// sigma_gain [4]: of the query, key, value and output matrix.
class MultiHeadAttention : public Module {
 public:
  explicit MultiHeadAttention(const MultiHeadAttentionOptions&);

  /// Self attention: x [B, T, C] -> [B, T, C].
  Tensor operator()(const Tensor& x) const { return attend_to(x, x).out; }
  /// query [B, Tq, C] attends to memory [B, Tk, memory_dim], which gives keys and values. Self attention is recognised
  /// by query.is(memory).
  AttentionResult attend_to(const Tensor& query, const Tensor& memory, const AttentionCall& = {}) const;
  /// Keys and values from different inputs.
  AttentionResult attend_to(const Tensor& query, const Tensor& key, const Tensor& value,
                            const AttentionCall& = {}) const;
  /// Projects a memory once, for many calls with {.cache = &cache}: cross attention in decoding.
  KvCache project_memory(const Tensor& memory) const;
  std::vector<ParameterRows> own_roles() const override;
  std::vector<AttentionSite> own_sites() const override;

  const MultiHeadAttentionOptions& options() const { return options_; }

  Tensor weight_in, weight_memory, bias_in, weight_out, bias_out;
  Tensor query_gain, key_gain, weight_gate, bias_gate, sigma_gain;
  std::vector<Tensor> stage_parameters;

 private:
  enum Part { kQuery, kKey, kValue, kEnd };
  /// The matrices as they multiply: the parameters, or these reparametrised.
  struct Matrices {
    Tensor in, memory, out;
  };
  Matrices matrices() const;
  Tensor project(const Matrices& all, const Tensor& x, Part first, Part end) const;
  Tensor keys_and_values(const Tensor& projected, std::int64_t first_column) const;
  void add_stability_parameters();
  void add_stage_parameters();

  std::array<std::int64_t, 4> rows_{};  // where query, key and value heads begin in the fused projection, and its end
  MultiHeadAttentionOptions options_;
  std::optional<Norm> norm_;
};

}  // namespace attune::nn
