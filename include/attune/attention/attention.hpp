// Everything of the attention layer.
#pragma once
#include "attune/attention/apply_position.hpp"
#include "attune/attention/attend.hpp"
#include "attune/attention/bias/all.hpp"
#include "attune/attention/kv_cache.hpp"
#include "attune/attention/linear/linear_attend.hpp"
#include "attune/attention/mask/all.hpp"
#include "attune/attention/normalize/all.hpp"
#include "attune/attention/pointwise.hpp"
#include "attune/attention/pointwise_probs.hpp"
#include "attune/attention/position/all.hpp"
#include "attune/attention/score/all.hpp"
