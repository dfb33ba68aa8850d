// The plain path on bfloat16 inputs as they lie, where the processor multiplies them in pairs: which calls take it, and
// the way to its kernels. All others compute with float32 copies.
#pragma once
#include <string>

#include "attune/attention/attend.hpp"

namespace attune::engine {

/// Why a call with inputs of this type does not run on pairs; empty if it does.
std::string why_not_pairs(const AttendShape&, DType, const AttendOptions&);
/// Extra bytes of such a call, all threads together.
std::int64_t pairs_forward_bytes(const AttendShape&);
std::int64_t pairs_backward_bytes(const AttendShape&);

/// Writes out and lse of a call that runs on pairs; false, and nothing done, if it does not or has mistakes in its
/// views.
bool pairs_forward(const AttendInputs&, const AttendOutputs&, const AttendOptions&);
/// Adds the gradients of such a call; false, and nothing done, also if dout is not bfloat16 or dentropy is given.
bool pairs_backward(const AttendInputs&, const AttendUpstream&, const AttendGradients&, const AttendOptions&);

}  // namespace attune::engine
