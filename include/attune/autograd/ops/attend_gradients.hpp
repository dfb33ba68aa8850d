// The gradients of attend() as tensors that may be differentiated again: gradient penalties, influence functions, meta
// learning. A backward() frees its graph and is not recorded; an operator that is a backward pass is.
//
//     const Tensor out = attend(query, key, value).out;
//     const GradientsOfAttend g = attend_gradients(query, key, value, dout);    // of <dout, out>
//     sum(mul(g.query, g.query)).backward();                                    // of the penalty
#pragma once
#include <vector>

#include "attune/attention/attend.hpp"
#include "attune/autograd/tensor.hpp"

namespace attune {

/// Each of the shape of what it is the gradient of.
struct GradientsOfAttend {
  Tensor query, key, value;
  std::vector<Tensor> parameters;
};

/// What else such a call takes. dlse and dentropy [B, H, Tq] may be left undefined.
struct AttendGradientsExtras {
  std::vector<Tensor> parameters;  // learned arrays of the stages, as attend_parameters() lists them
  Tensor dlse, dentropy;
};

/// Gradients of <dout, out> + <dlse, lse> + <dentropy, entropy> with out, lse and entropy of attend(query, key, value,
/// options): query [B, H, Tq, D], key [B, Hkv, Tk, D], value [B, Hkv, Tk, Dv], dout [B, H, Tq, Dv].
///
/// Differentiable by all of its inputs, dout, dlse and dentropy included, once: by attend_backward_jvp, since
/// d<u, gradient> / dinputs = H u and d<u, gradient> / ddout = J u. Memory linear in the sequence.
GradientsOfAttend attend_gradients(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& dout,
                                   const AttendOptions& = {}, const AttendGradientsExtras& = {});

}  // namespace attune
