// The whole layer: tensors, the tape, operators, gradient checks.
#pragma once
#include "attune/autograd/gradcheck.hpp"
#include "attune/autograd/memory.hpp"
#include "attune/autograd/ops/all.hpp"
#include "attune/autograd/roles.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/autograd/tensor.hpp"
