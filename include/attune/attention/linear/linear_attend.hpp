// Linear attention: a state of fixed size instead of logits, so that time is linear in the length and a token costs the
// same however many came before it. Per key head, with phi of features.hpp and token t:
//
//     linear       S_t =       S_{t-1} +        phi(k_t) v_t^T
//     gated        S_t = e^g_t S_{t-1} +        phi(k_t) v_t^T
//     delta        S_t =       S_{t-1} + beta_t phi(k_t) (v_t -       S_{t-1}^T phi(k_t))^T
//     gated_delta  S_t = e^g_t S_{t-1} + beta_t phi(k_t) (v_t - e^g_t S_{t-1}^T phi(k_t))^T
//     out_t = scale S_t^T phi(q_t),   or, normalized,   out_t = S_t^T phi(q_t) / (z_t . phi(q_t))
//
// z is S for a value of 1: it is kept as one more column of the state. e^g multiplies rows of S: one number a token
// (per head) or one for each row (per key dimension). Rules, names and shapes are those of ONNX `LinearAttention`
// (opset 27); features, the normalizer, the form without causality and gradients are added.
//
// "Transformers are RNNs", arXiv:2006.16236; "Gated linear attention transformers", arXiv:2312.06635; "Linear
// transformers are secretly fast weight programmers", arXiv:2102.11174; "Gated delta networks", arXiv:2412.06464.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "attune/attention/linear/features.hpp"
#include "attune/base/view.hpp"

namespace attune {

/// How a token changes the state.
enum class UpdateRule : std::uint8_t { linear, gated, delta, gated_delta };
/// "linear", "gated", "delta", "gated_delta".
std::string_view name_of(UpdateRule rule);
/// The reverse of name_of. Throws Error for any other text.
UpdateRule update_rule_from_name(std::string_view name);
/// Whether the rule takes `decay`; whether it takes `beta`.
constexpr bool takes_decay(UpdateRule r) { return r == UpdateRule::gated || r == UpdateRule::gated_delta; }
constexpr bool takes_beta(UpdateRule r) { return r == UpdateRule::delta || r == UpdateRule::gated_delta; }

struct LinearAttendOptions {
  UpdateRule rule = UpdateRule::linear;
  FeatureMap features;  // identity
  bool normalize =
      false;         // divide by z . phi(q); rules linear and gated only. A row whose normalizer is 0 gets out = 0
  double scale = 0;  // of out; 0: 1 / sqrt(D). Normalized, it cancels and is not used
  /// false: every query reads the state after the last token. Rule linear only; queries may then be more or fewer than
  /// keys.
  bool causal = true;
  /// Tokens of each batch entry that change the state, [B]; empty: all. Later ones are not read; queries are answered.
  std::vector<int> valid_keys;
  int chunk =
      0;  // tokens that are worked on at a time, 1 .. 256: changes rounding, not the result. 0: 32, wide features 64
};

/// Extents of a call.
struct LinearAttendShape {
  int batch_size = 0, num_heads = 0, num_kv_heads = 0, num_queries = 0, num_keys = 0, head_dim = 0, value_dim = 0;
  /// Of the state [B, Hkv, feature_dim, state_dim]: rows, and columns (value_dim, one more if normalized).
  int feature_dim = 0, state_dim = 0;
};

/// What goes in, all of one dtype but the state. Any strides whose last is 1; decay [B, Hkv, T] and beta may have any.
struct LinearAttendInputs {
  ConstView query;  // [B, H, Tq, D]; H is a multiple of Hkv and query head h reads the state of h / (H / Hkv)
  ConstView key;    // [B, Hkv, Tk, D]; causal: Tk = Tq. Delta rules want keys of length 1
  ConstView value;  // [B, Hkv, Tk, Dv]
  ConstView decay;  // [B, Hkv, Tk] or [B, Hkv, Tk, F]: g, a natural logarithm, any number up to -infinity ("forget")
  ConstView beta;   // [B, Hkv, Tk] or [B, 1, Tk]
  ConstView state;  // [B, Hkv, F, Dv (+ 1 if normalized)] before the first token; zeros if left out
};

/// What comes out; all may be left out. States and normalizers are contiguous, float64 for float64 inputs and float32
/// for all others.
struct LinearAttendOutputs {
  View out;         // [B, H, Tq, Dv], the inputs' dtype, any strides whose last is 1
  View state;       // shape of the input state, after the last token; may be the memory of the input state
  View normalizer;  // [B, H, Tq]: z . phi(q). A backward pass of a normalized call needs it
};

/// What a backward pass is given beside the inputs.
struct LinearAttendUpstream {
  ConstView dout;             // [B, H, Tq, Dv], the inputs' dtype; left out: 0
  ConstView dstate;           // of the state after the last token, contiguous; left out: 0
  ConstView out, normalizer;  // as linear_attend_forward wrote them; needed if normalized and dout is given
};

/// Where a backward pass adds (+=): float32 or float64, as the state. Shapes of the inputs; gradients that are left out
/// are not stored.
struct LinearAttendGradients {
  View query, key, value, decay, beta, state;
};

/// Checks the inputs against each other and the options. Throws Error.
LinearAttendShape linear_shape(const LinearAttendInputs&, const LinearAttendOptions& = {});

/// Answers every query and carries the state to the end. One token with its state is a step of decoding.
///
/// Shapes  see LinearAttendInputs and LinearAttendOutputs.
/// Edge    NaN and infinity of a token reach no earlier row. A gate may close entirely (-infinity).
/// Cost    4 B H T F Dv operations and half as many again within chunks at width 64; memory O(F Dv + chunk (D + F +
///         Dv)) per thread.
/// Throws  Error if shapes, dtypes, strides or options disagree.
/// Source  Chunks: "Parallelizing linear transformers with the delta rule over sequence length", arXiv:2406.06484.
void linear_attend_forward(const LinearAttendInputs&, const LinearAttendOutputs&, const LinearAttendOptions& = {});

/// Adds the exact gradients of all inputs, recomputing the states from one checkpoint a chunk.
///
/// Edge    A shared key head gets the sum over its group. NaN of a token reaches gradients as the recurrence says: no
///         key or value of a later token gets that of an earlier query.
/// Cost    about 3 times the forward pass; memory for states of F Dv numbers per thread: one a chunk up to 1024 chunks,
///         beyond that twice the root of their number.
void linear_attend_backward(const LinearAttendInputs&, const LinearAttendUpstream&, const LinearAttendGradients&,
                            const LinearAttendOptions& = {});

}  // namespace attune
