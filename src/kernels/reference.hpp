// The oracle: attention as one would write it on a blackboard, in float64, without tiles, threads or SIMD.
//
//     out = normalize( mask( bias( score( position(query), position(key) ) ) ) ) . value
//
// Everything else in the library is held against it. It describes a call by plain data of its own, because it lies
// below the stages and shares no line with them. Memory is O(Tq Tk); nothing here is fast.
#pragma once
#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

namespace attune::kernels {

/// query [B, H, Tq, query_dim], key [B, Hkv, Tk, key_dim], value [B, Hkv, Tk, value_dim].
struct ReferenceShape {
  int batch_size = 0, num_heads = 0, num_kv_heads = 0, num_queries = 0, num_keys = 0;
  int query_dim = 0, key_dim = 0, value_dim = 0;
  /// Which key head a query head reads.
  int kv_head(int head) const { return head / (num_heads / num_kv_heads); }
};

enum class ReferencePosition { none, sinusoidal, learned, rotary };
enum class ReferenceScore { scaled_dot, additive };
enum class ReferenceNormalizer { softmax, softmax_with_sink, sigmoid, sparsemax };

/// One bias of a chain.
struct ReferenceBias {
  enum Kind { alibi, learned_alibi, soft_cap, dense, pointwise } kind = alibi;
  double cap = 0;                                              // soft_cap, nats; 0: off
  bool per_batch = false, per_head = false, per_query = true;  // dense: which axes of [B, H, Tq, Tk] are not 1
  /// pointwise: f(logit, batch, head, position of the query, key) and df / dlogit.
  std::function<double(double, int, int, int, int)> value, derivative;
};

struct ReferenceProblem {
  ReferenceShape shape;
  std::vector<int> offset;  // [B]: query i stands at position i + offset[b] among the keys; empty: 0

  ReferencePosition position = ReferencePosition::none;
  double position_base = 10000;  // sinusoidal, rotary
  int rotary_dim = 0;            // 0: all of D
  bool interleaved = false;      // rotary
  int num_positions = 0;         // learned: rows of the table

  ReferenceScore score = ReferenceScore::scaled_dot;
  std::optional<double> scale;  // scaled_dot: 1 / sqrt(D) if absent
  int hidden_dim = 0;           // additive

  std::vector<ReferenceBias> bias;                  // in order
  std::function<bool(int, int, int, int)> visible;  // (batch, head, query, key); empty: all
  ReferenceNormalizer normalizer = ReferenceNormalizer::softmax;
  std::function<double(int, int, int, int)> keep_factor;  // dropout: 0 or 1 / keep probability; empty: 1 everywhere

  int offset_of(int batch) const { return offset.empty() ? 0 : offset[std::size_t(batch)]; }
  bool sees(int b, int h, int i, int j) const { return !visible || visible(b, h, i, j); }
  double kept(int b, int h, int i, int j) const { return keep_factor ? keep_factor(b, h, i, j) : 1.0; }
};

/// query, key, value, then the learned arrays in the order position, score, biases, normalizer; row-major:
///   learned position  table [num_positions, D]
///   additive          query_weight [H, hidden, query_dim], key_weight [Hkv, hidden, key_dim], v [H, hidden]
///   learned_alibi     slope [H]
///   dense             bias [B or 1, H or 1, Tq or 1, Tk]
///   softmax_with_sink sink [H];  sigmoid  bias [H]
using ReferenceArrays = std::vector<std::vector<double>>;
/// How many numbers each of these arrays has.
std::vector<std::size_t> reference_sizes(const ReferenceProblem&);
/// Where each stage's arrays begin in that list.
struct ReferencePlaces {
  std::size_t position = 3, score = 3, normalizer = 3, count = 3;
  std::vector<std::size_t> bias;
};
ReferencePlaces reference_places(const ReferenceProblem&);

/// What a forward pass knows. Rows that see no key: out 0, stat -inf, entropy 0, probs 0.
struct ReferenceForward {
  std::vector<double> out;      // [B, H, Tq, Dv]
  std::vector<double> stat;     // [B, H, Tq]: log-sum-exp in nats; sparsemax: the threshold; sigmoid: 0
  std::vector<double> entropy;  // [B, H, Tq] nats, a sink counts as a key; softmax and softmax_with_sink only
  std::vector<double> sink;     // [B, H, Tq] probability of the sink
  std::vector<double> scores;   // [B, H, Tq, Tk] after the score, every pair
  std::vector<double> logits;   // [B, H, Tq, Tk] after the biases, every pair
  std::vector<double> probs;    // [B, H, Tq, Tk] after the normalizer, before dropout; 0 where hidden
  std::vector<int> visible;     // [B, H, Tq] keys that the row sees
};
ReferenceForward reference_forward(const ReferenceProblem&, const ReferenceArrays&);

/// Gradients of <dout, out> + <dlse, lse> + <dentropy, entropy>, shaped like the arrays.
/// dout [B, H, Tq, Dv]; dlse, dentropy [B, H, Tq] or empty (they need a softmax).
ReferenceArrays reference_backward(const ReferenceProblem&, const ReferenceArrays&, const std::vector<double>& dout,
                                   const std::vector<double>& dlse = {}, const std::vector<double>& dentropy = {});

/// [B, H] each; means over rows that see a key, entropies over rows that see at least two.
struct ReferenceStatistics {
  std::vector<double> rows, largest_score, smallest_score, largest_logit, lse, entropy, entropy_normalized, entropy_min,
      variance, largest_prob, sink_mass;
};
ReferenceStatistics reference_statistics(const ReferenceProblem&, const ReferenceForward&);

}  // namespace attune::kernels
