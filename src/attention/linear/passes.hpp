// The two passes of linear attention after the checks, for float and double.
#pragma once
#include "attune/attention/linear/linear_attend.hpp"

namespace attune::engine {

template <class T>
void linear_forward(const LinearShape&, const LinearInputs&, const LinearOutputs&, const LinearOptions&);
template <class T>
void linear_backward(const LinearShape&, const LinearInputs&, const LinearUpstream&, const LinearGradients&,
                     const LinearOptions&);

}  // namespace attune::engine
