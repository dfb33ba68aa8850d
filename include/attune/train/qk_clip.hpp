// QK-clip, the backstop: a head whose largest |score| S exceeds tau is scaled back after the step (arXiv:2507.20534).
//
//   g = tau / S;   query rows *= sqrt(g), key rows *= sqrt(g)    a key head of its own
//                  query rows *= g                              a key head that several query heads share, or that is
//                                                               not its own rows alone
//
// Scores are then at most tau on the same input: they are proportional to both. Bias terms shrink with their rows. With
// normalised queries and keys, or reparametrised matrices, the weights' size says nothing: their gains are scaled
// instead. Rows that all query heads share are scaled once, for the worst of them. The optimizer's moments stay.
#pragma once
#include <vector>

#include "attune/nn/attention_sites.hpp"
#include "attune/train/head_signals.hpp"

namespace attune::train {

/// g of each query head, [H]; 1 where nothing is to be done, and for scores that are not finite (a rollback's matter)
/// or not proportional. tau > 0, nats.
std::vector<double> clip_factors(const nn::AttentionSite& site, const std::vector<HeadSignals>& signals, double tau);
/// Scales the parameters. factors: [H].
void clip_heads(nn::AttentionSite& site, const std::vector<double>& factors);

}  // namespace attune::train
