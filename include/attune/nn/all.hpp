// Every module.
#pragma once
#include "attune/nn/additive_attention.hpp"
#include "attune/nn/dropout.hpp"
#include "attune/nn/embedding.hpp"
#include "attune/nn/feed_forward.hpp"
#include "attune/nn/init.hpp"
#include "attune/nn/linear.hpp"
#include "attune/nn/module.hpp"
#include "attune/nn/multi_head_attention.hpp"
#include "attune/nn/norm.hpp"
#include "attune/nn/positions.hpp"
#include "attune/nn/state.hpp"
#include "attune/nn/transformer.hpp"
