// Every bias, a line each. (A pointwise bias has a type per lambda and stands in no list.)
#pragma once
#include <tuple>

#include "attune/attention/bias/alibi.hpp"
#include "attune/attention/bias/dense.hpp"
#include "attune/attention/bias/soft_cap.hpp"

namespace attune {
using AllBiases = std::tuple<Alibi, SoftCap, Dense>;
}  // namespace attune
