// Rows of a table, chosen by integers.
#pragma once
#include "attune/autograd/tensor.hpp"

namespace attune {

/// out [..., C] = scale * table[ids]; ids [...], table [V, C]. Throws Error if an id is not in 0 .. V-1.
Tensor embedding(const Ids& ids, const Tensor& table, double scale = 1);

}  // namespace attune
