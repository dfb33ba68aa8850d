// Everything that a program without training data needs: attention, tensors with gradients, modules, optimizers,
// models. The training library has headers of its own, attune/train/.
#pragma once
#include "attune/attention/attention.hpp"
#include "attune/autograd/autograd.hpp"
#include "attune/models/gpt.hpp"
#include "attune/models/search.hpp"
#include "attune/models/seq2seq.hpp"
#include "attune/nn/nn.hpp"
#include "attune/optim/optim.hpp"
