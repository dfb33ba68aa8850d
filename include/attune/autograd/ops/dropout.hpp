// Dropout: each number is kept with probability 1 - p and then scaled up, or becomes 0.  "Dropout", JMLR 15 (2014).
//
// Which are kept is a function of (seed, index) by Philox, so nothing is stored: the backward draws the same again. p
// is rounded to a multiple of 2^-16 and the factor is the exact inverse of what is then kept on average.
#pragma once
#include "attune/autograd/tensor.hpp"

namespace attune {

/// 0 <= p < 1; p = 0 gives x itself.
Tensor dropout(const Tensor& x, double p, std::uint64_t seed);
/// Takes the seed (two words) from the generator; takes nothing if p = 0.
Tensor dropout(const Tensor& x, double p, Generator&);
/// x + dropout(h, p, seed) in one pass: the residual connection. Shapes are equal.
Tensor add_dropout(const Tensor& x, const Tensor& h, double p, std::uint64_t seed);
Tensor add_dropout(const Tensor& x, const Tensor& h, double p, Generator&);

}  // namespace attune
