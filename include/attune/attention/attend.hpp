// START HERE. The one sentence of attune, forward and backward, on plain memory:
//
//     out = normalize( mask( bias( score( position(query), position(key) ) ) ) ) . value
//
// Each blank is a stage (stage.hpp) and a folder (position/, score/, bias/, mask/, normalize/). The engine walks over
// tiles of logits and calls the five; memory is linear in the sequence, forward and backward. Nothing here knows of a
// graph: the differentiable operator over tensors is autograd/ops/attend.hpp.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "attune/attention/any_stage.hpp"
#include "attune/attention/normalize/softmax.hpp"
#include "attune/attention/score/scaled_dot.hpp"
#include "attune/attention/statistics.hpp"
#include "attune/base/view.hpp"

namespace attune {

// The stages that every call starts from are compiled once, in the library.
extern template struct detail::OfScore<ScaledDot, float>;
extern template struct detail::OfScore<ScaledDot, double>;
extern template struct detail::OfScore<ScaledDot, Dual<double>>;
extern template struct detail::OfNormalizer<Softmax, float>;
extern template struct detail::OfNormalizer<Softmax, double>;
extern template struct detail::OfNormalizer<Softmax, Dual<double>>;

/// Where query 0 stands among the keys when nothing else is said.
enum class Alignment : std::uint8_t {
  top_left,     // offset 0: query i at position i
  bottom_right  // offset Tk - Tq: the last query at the last key
};

/// Sequences of different lengths, end to end on the token axis ("cu_seqlens"): sequence i has query rows
/// queries[i] .. queries[i + 1] - 1 and key rows keys[i] .. keys[i + 1] - 1. Both rise from 0 to the number of rows;
/// no keys: as queries.
struct Sequences {
  std::vector<int> queries, keys;
  explicit operator bool() const { return !queries.empty(); }
};

/// The five blanks and what surrounds them. Any stage may be given as a plain value: {.bias = Alibi{}, .mask =
/// Causal{}}.
struct AttendOptions {
  AnyPosition position;          // none
  AnyScore score = ScaledDot{};  // scale 1 / sqrt(D)
  Biases bias;                   // none; a chain is {SoftCap{.cap = 30}, Alibi{}}
  AnyMask mask;                  // none: every query sees every key
  AnyNormalizer normalizer = Softmax{};
  Alignment alignment = Alignment::top_left;
  /// Positions of query 0 among the keys, instead of `alignment`: one number for all, or one per batch entry; may be
  /// negative.
  std::vector<int> offset;
  /// Each weight is kept with probability 1 - dropout_p (rounded to a multiple of 2^-16) and then scaled up; 0 <= p
  /// < 1. Which are kept depends on (seed, batch, head, query, key) alone.
  double dropout_p = 0;
  std::uint64_t seed = 0;
  /// What dropout takes for the number of batch entry 0: a batch in pieces drops what the whole would.
  int first_batch = 0;
  /// None: a batch entry is a sequence. Else the inputs have one batch entry and every sequence is attended to by
  /// itself: what is said of batch entries (offset, dropout, parameters per batch entry) then holds for sequences,
  /// positions count from each one's first row, and statistics are of all together. Masks with lengths of their own
  /// and parameters whose shape follows the lengths are errors.
  Sequences sequences;
};

/// What goes in. All of one dtype; any strides whose last is 1, so [B, T, H, D] memory needs no copy
/// (View::transposed). query [B, H, Tq, D], key [B, Hkv, Tk, D], value [B, Hkv, Tk, Dv]; H is a multiple of Hkv and
/// query head h reads key head h / (H / Hkv). parameters: contiguous, in the order and with the shapes of
/// attend_parameters().
struct AttendInputs {
  ConstView query, key, value;
  std::vector<ConstView> parameters;
};

/// What comes out; only `out` is required. lse and entropy are float64 for float64 inputs and float32 for all others.
struct AttendOutputs {
  View out;  // [B, H, Tq, Dv], the inputs' dtype, any strides whose last is 1
  View lse;  // [B, H, Tq] contiguous, nats; -inf for a row that sees no key. Another normalizer's row number where it
             // has no log-sum-exp (sparsemax: the threshold). A backward pass needs it.
  View entropy;  // [B, H, Tq] contiguous, nats; softmax and softmax_with_sink only; 0 for a row that sees no key
  Statistics* statistics = nullptr;
};

/// What a backward pass is given beside the inputs: results of the forward pass and incoming gradients.
struct AttendUpstream {
  ConstView out, lse;  // as attend_forward wrote them
  ConstView entropy;   // needed with dentropy only
  ConstView dout;      // [B, H, Tq, Dv]
  ConstView dlse;      // [B, H, Tq] contiguous, optional
  ConstView dentropy;  // [B, H, Tq] contiguous, optional
};

/// Where a backward pass adds (+=). Shapes of the inputs; float32 or float64, as lse (never a half type).
/// Gradients that are left out are not stored. parameters: as in AttendInputs, each may be left out.
struct AttendGradients {
  View query, key, value;
  std::vector<View> parameters;
};

/// One learned array that a call with these options takes.
struct AttendParameter {
  std::string stage, name;  // "alibi", "slope"
  Shape shape;              // of the whole array, with the axes of its copies in front
  Start start = {};         // how a module fills it
};

/// The learned arrays of a call, in the order in which AttendInputs::parameters must list them:
/// position, score, biases in order, normalizer.
std::vector<AttendParameter> attend_parameters(const AttendOptions&, const AttendShape&);

/// Computes attention for every query: out = normalize(mask(bias(score(query, key)))) . value.
///
/// Shapes  see AttendInputs and AttendOutputs.
/// Edge    A query that sees no key gets out = 0 and lse = -infinity. NaN or infinity in what nobody sees changes no
///         bit; in what only other queries see it never reaches a result (on the plain path it may move the rounding of
///         rows in the same block, within the bars of exactness).
/// Cost    2 * B * H * (visited pairs) * (D + Dv) flops; memory O(tile) per thread, plus mapped rows O(T F) where a
/// stage
///         maps rows, plus float32 copies of half-type inputs.
/// Throws  Error if shapes, dtypes, strides or options disagree, or D is 0.
/// Source  FlashAttention-2, arXiv:2307.08691 (tile order); online softmax, arXiv:1805.02867.
void attend_forward(const AttendInputs&, const AttendOutputs&, const AttendOptions& = {});

/// Adds the exact gradients of all inputs and parameters, recomputing the logits tile by tile.
///
/// Edge    Rows that see no key, and keys that no query sees, get exactly 0. A shared key head gets the sum over its
/// group,
///         in head order.
/// Cost    2.5 times the forward's flops; memory as the forward plus one gradient slot per (batch, head) and parameter.
/// Throws  Error as attend_forward, and for dlse or dentropy with a normalizer that has no log-sum-exp.
void attend_backward(const AttendInputs&, const AttendUpstream&, const AttendGradients&, const AttendOptions& = {});

/// Which numbers attend_map shows, hidden pairs as written at each.
enum class Exposed : std::uint8_t {
  scores,  // after the score: every pair
  logits,  // after the first `biases` biases: every pair
  masked,  // after all biases and the mask: -inf where hidden
  probs    // after the normalizer, before dropout: 0 where hidden; needs lse
};
struct MapOptions {
  Exposed exposed = Exposed::probs;
  int biases = -1;                     // for Exposed::logits: how many of the chain; -1 all
  int first_head = 0, num_heads = -1;  // -1: all from the first on
  int first_query = 0, num_queries = -1;
};
/// Writes logits or probabilities of the chosen heads and rows to `map` [B, heads, queries, Tk] (contiguous, dtype of
/// lse), without leaving the tiled path. `lse`: as attend_forward wrote it; only probs need it.
void attend_map(const AttendInputs&, ConstView lse, View map, const MapOptions& = {}, const AttendOptions& = {});

/// How a call would run.
struct Explanation {
  std::string path;    // "plain" or "stages"
  std::string target;  // instruction set
  int tile_queries = 0, tile_keys = 0, backward_tile_keys = 0;
  std::int64_t forward_bytes = 0, backward_bytes = 0;  // extra memory with the present number of threads
  std::string why;                                     // why this path and not the other
  std::string text() const;                            // all of it, a line each
};
/// Says which kernel a call with these extents and options takes, how many extra bytes, and why. Never a silent
/// fallback.
Explanation explain(const AttendShape&, DType, const AttendOptions& = {});

}  // namespace attune
