// The two passes of linear attention after the checks, for float and double.
#pragma once
#include "attune/attention/linear/linear_attend.hpp"

namespace attune::engine {

template <class T>
void linear_forward(const LinearAttendShape&, const LinearAttendInputs&, const LinearAttendOutputs&,
                    const LinearAttendOptions&);
template <class T>
void linear_backward(const LinearAttendShape&, const LinearAttendInputs&, const LinearAttendUpstream&,
                     const LinearAttendGradients&, const LinearAttendOptions&);

}  // namespace attune::engine
