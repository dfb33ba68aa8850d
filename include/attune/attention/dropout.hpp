// Dropout of weights, by its place in the attention layer. The definition needs nothing but the counter-based generator,
// and the kernels below this layer compute it too, so it stands in base.
#pragma once
#include "attune/base/dropout.hpp"
