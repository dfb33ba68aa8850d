// Widths that share a learning rate: muP, the maximal update parametrisation, for Adam and its kin.
//   "Tensor Programs V: tuning large neural networks via zero-shot hyperparameter transfer", arXiv:2203.03466
//
//   m = width / base_width
//   hidden matrices    start with a variance of 1/m of the base's (1 / fan_in), learn at rate / m
//   logits             readout(x) / m; a readout of its own starts with zeros, a tied one with the table
//   scores             q . k sqrt(D_base) / D instead of q . k / sqrt(D)
//   tables, vectors    as they are
//
// At the base width a model with tied output is the one that it is without muP, bit for bit. Models apply all of it but
// the rates, which belong to the optimizer (optim::GroupOptions::base_width). `mup_base_width` of a recipe sets both.
#pragma once
#include <cstdint>

#include "attune/nn/transformer.hpp"

namespace attune::nn {

struct Mup {
  double base_width = 0;  // 0: off, everything stays as it is

  /// m of a model of this width; 1 while off. Throws Error for a base_width that is negative or not finite.
  double ratio(std::int64_t width) const;
  /// The initialiser of a hidden matrix. Kinds that follow the extents (xavier, kaiming) have the right spread already.
  Initializer hidden(Initializer, std::int64_t width) const;
  /// Spread of the matrices and scale of the scores. Heads are taken to be as many as at the base, and to grow with the
  /// width; a ScaledDot with a scale of its own, and every other score, keeps what it says.
  TransformerOptions stack(TransformerOptions) const;
};

}  // namespace attune::nn
