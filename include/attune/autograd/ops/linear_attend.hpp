// linear_attend(): linear attention (attention/linear/linear_attend.hpp) as a differentiable operator.
//
// All gradients: query, key, value, decay, beta and the state before the first token, from those of out and of the
// state after the last: a text cut in parts is trained through its cuts.
#pragma once
#include "attune/attention/linear/linear_attend.hpp"
#include "attune/autograd/ops/attend.hpp"
#include "attune/autograd/tensor.hpp"

namespace attune {

/// What a call takes beside query, key and value; undefined where the rule has none.
struct LinearAttendExtras {
  /// [B, Hkv, Tk] or [B, Hkv, Tk, F]; tokens_first: [B, Tk, Hkv] or [B, Tk, Hkv, F].
  Tensor decay;
  Tensor beta;   // [B, Hkv, Tk] or [B, 1, Tk]; tokens_first: [B, Tk, Hkv] or [B, Tk, 1]
  Tensor state;  // [B, Hkv, F, Dv], one column more if normalized; undefined: zeros
  HeadLayout layout = HeadLayout::heads_first;
};

struct LinearAttended {
  Tensor out;    // [B, H, Tq, Dv] or [B, Tq, H, Dv]
  Tensor state;  // after the last token: the extras' state of what follows
};

/// Shapes, edges and errors are those of linear_attend_forward. All tensors share a dtype, float32 or float64.
LinearAttended linear_attend(const Tensor& query, const Tensor& key, const Tensor& value,
                             const LinearAttendOptions& = {}, const LinearAttendExtras& = {});

}  // namespace attune
