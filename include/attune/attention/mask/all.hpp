// Every mask, a line each; `&` joins them.
#pragma once
#include <tuple>

#include "attune/attention/mask/both.hpp"
#include "attune/attention/mask/causal.hpp"
#include "attune/attention/mask/dense.hpp"
#include "attune/attention/mask/padding.hpp"
#include "attune/attention/mask/window.hpp"

namespace attune {
using AllMasks = std::tuple<Causal, Window, Padding, DenseMask, Both>;
}  // namespace attune
