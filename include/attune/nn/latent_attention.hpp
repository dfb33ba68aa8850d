// LatentAttention: multi-head latent attention. Keys and values of all heads are made from one short row a token, the
// only one that a cache keeps.  "DeepSeek-V2", arXiv:2405.04434
//
//     c = RMSNorm(x Wc^T) [R],   r = x Wr^T [Dr], turned by its position
//     key_h = [r, Uk_h c],   value_h = Uv_h c,   query_h = [turned by its position, the rest]
//     out = concat(softmax(query_h . key_h / sqrt(Dr + D)) value_h) Wo^T
//
// The absorbed form moves Uk and Uv to the other side, query_h . Uk_h c = (Uk_h^T query_h) . c, and then attends to the
// rows [r, c] themselves as one key head: nothing is expanded. Both forms give the same numbers up to rounding.
#pragma once
#include <cstdint>
#include <optional>

#include "attune/attention/position/rotary.hpp"
#include "attune/nn/call_mask.hpp"
#include "attune/nn/linear.hpp"
#include "attune/nn/multi_head_attention.hpp"
#include "attune/nn/norm.hpp"

namespace attune::nn {

struct LatentAttentionOptions {
  std::int64_t model_dim = 0;         // C
  std::int64_t num_heads = 1;         // H
  std::int64_t head_dim = 0;          // D, numbers of a head without position; 0: model_dim / num_heads
  std::int64_t rotary_dim = 0;        // Dr, numbers with position, even; 0: no positions
  std::int64_t value_dim = 0;         // Dv; 0: head_dim
  std::int64_t latent_dim = 0;        // R
  std::int64_t query_latent_dim = 0;  // queries go through a short row as well; 0: they do not
  double epsilon = 1e-6;              // of the norms
  bool bias_terms = false;            // of the projections from and to the model's width
  Initializer init = {Init::xavier_uniform, 1};
  /// Base and pairing; its rotary_dim is set here. A cache keeps rows as they were turned when they came.
  Rotary rotary;
  AnyMask mask;
};

/// Which side the expansion of keys and values is multiplied to.
enum class LatentForm : std::uint8_t {
  expanded,  // keys and values of each head: fewer multiply-adds for many queries, as in training
  absorbed   // one key head of Dr + R: nothing is expanded, as in decoding
};

/// Members [out, in]: query [H (Dr + D), C] (of a head the turned numbers first), or query_down, query_norm and
/// query_up; latent [R + Dr, C], latent_norm [R], expand [H (D + Dv), R] (of a head the key's rows first), out [C, H
/// Dv].
///
/// Cost    expanded: an attention with H heads of Dr + D and Dv, and the expansion of each token once. absorbed: H
/// query
///         heads of Dr + R that share one key head. A cache holds Dr + R numbers a token.
class LatentAttention : public Module {
 public:
  explicit LatentAttention(const LatentAttentionOptions&);
  /// x [B, T, C] -> [B, T, C].
  Tensor operator()(const Tensor& x, const CallMask& call = {}, LatentForm form = LatentForm::expanded) const;
  /// Decoding: the next tokens x [B, n, C], whose rows [r, c] are appended to the cache (none at first); they see what
  /// it holds and, as the module's mask says, each other. Absorbed. Throws Error where gradients would be recorded.
  Tensor step(const Tensor& x, KvCache& cache) const;
  std::vector<ParameterRows> own_roles() const override;
  std::vector<AttentionSite> own_sites() const override;

  const LatentAttentionOptions& options() const { return options_; }

 private:
  Tensor queries(const Tensor& x, std::int64_t first) const;
  Tensor rows(const Tensor& x, std::int64_t first) const;
  Tensor absorbed(const Tensor& query, const Tensor& rows, std::int64_t tokens, const AttendOptions&) const;
  AttendOptions attend_options(AnyMask mask) const;

  LatentAttentionOptions options_;
  std::optional<Linear> query_, query_down_, query_up_, latent_, expand_, out_;
  std::optional<RMSNorm> query_norm_, latent_norm_;
};

}  // namespace attune::nn
