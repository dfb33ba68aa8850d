// Every differentiable operator.
#pragma once
#include "attune/autograd/ops/attend.hpp"
#include "attune/autograd/ops/attend_gradients.hpp"
#include "attune/autograd/ops/dropout.hpp"
#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/embedding.hpp"
#include "attune/autograd/ops/linear_attend.hpp"
#include "attune/autograd/ops/loss.hpp"
#include "attune/autograd/ops/matmul.hpp"
#include "attune/autograd/ops/norm.hpp"
#include "attune/autograd/ops/reduce.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/autograd/ops/spectral.hpp"
