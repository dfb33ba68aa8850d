// Forward mode and second order of the one sentence: what a small move of the inputs does to the results (attend_jvp)
// and to the gradients (attend_backward_jvp). Nothing is differentiated a second time: the same stages run on dual
// numbers.
//
//     out(x + e v)      = out(x)      + e J v + ...          J v:  attend_jvp
//     gradient(x + e v) = gradient(x) + e H v + ...          H v:  attend_backward_jvp, a Hessian-vector product
#pragma once
#include "attune/attention/attend.hpp"

namespace attune {

/// Numbers and how they move. Any view may be left out; statistics are not given.
struct AttendJvp {
  AttendOutputs value, tangent;
};

/// Moves the inputs along `tangents` and says how out, lse and entropy move.
///
/// Shapes  those of attend_forward; float32 or float64 each, computed in float64. `tangents`: what is left out does not
///         move, parameters singly or all together.
/// Edge    A row that sees no key does not move. A straight-through normalizer moves as its surrogate does. Where a
/// weight
///         of a piecewise normalizer is 0 exactly at its kink, it does not move.
/// Cost    memory linear in the sequence, 16 bytes a number of the inputs and results; without SIMD, some 20 to 40
/// times
///         the time of attend_forward in float64.
/// Throws  Error as attend_forward.
void attend_jvp(const AttendInputs&, const AttendInputs& tangents, const AttendJvp&, const AttendOptions& = {});

/// Gradients and how they move. Any view may be left out; what is given is added to (+=).
struct AttendBackwardJvp {
  AttendGradients value, tangent;
};

/// Moves the inputs along `tangents` and the incoming gradients along `upstream_tangents`, and says how the gradients
/// of inputs and parameters move. With an upstream that does not move: the Hessian of <dout, out> + <dlse, lse> +
/// <dentropy, entropy> times `tangents`.
///
/// Shapes  those of attend_backward. Of both upstreams dout, dlse and dentropy are read, and out, lse and entropy are
/// not:
///         they follow from the inputs. dout may be left out as well.
/// Edge    as attend_jvp; of entmax, ReLU^2 and their like the second derivative jumps where a weight becomes 0.
/// Cost    as attend_jvp, of attend_forward and attend_backward together.
/// Throws  Error as attend_backward.
void attend_backward_jvp(const AttendInputs&, const AttendInputs& tangents, const AttendUpstream& upstream,
                         const AttendUpstream& upstream_tangents, const AttendBackwardJvp&, const AttendOptions& = {});

}  // namespace attune
