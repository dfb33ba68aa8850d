// The plain path on half types: bfloat16 as it lies, where the processor multiplies it in pairs, and everything else by
// the kernels of float32, which read rows that each task converts for itself: no copy of a whole input is made.
#pragma once
#include <string>

#include "attune/attention/attend.hpp"

namespace attune::engine {

/// Why a call with inputs of this type does not run on pairs; empty if it does.
std::string why_not_pairs(const AttendShape&, DType, const AttendOptions&);
/// Why a call with inputs of a half type does not convert rows task by task; empty if it does.
std::string why_not_half(const AttendShape&, const AttendOptions&);
/// Extra bytes of a call on pairs or with rows converted task by task, all threads together.
std::int64_t half_forward_bytes(const AttendShape&, bool pairs);
std::int64_t half_backward_bytes(const AttendShape&, bool pairs);

/// Writes out and lse of a call with half types on the plain path; false, and nothing done, if it is another or has
/// mistakes in its views.
bool half_forward(const AttendInputs&, const AttendOutputs&, const AttendOptions&);
/// Adds the gradients of such a call; false, and nothing done, also if dentropy is given.
bool half_backward(const AttendInputs&, const AttendUpstream&, const AttendGradients&, const AttendOptions&);

}  // namespace attune::engine
