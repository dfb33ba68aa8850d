// What the attention pass of one update said of each head: the largest |score| (before any bias or cap) and how sharply
// it chooses. Micro-batches and batch entries are taken together: maxima, and means over the rows that choose.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "attune/nn/attention_sites.hpp"
#include "attune/train/learner.hpp"

namespace attune::train {

struct HeadSignals {
  double score = 0;                // largest |score| over visible pairs, nats; +infinity if one is not finite
  double entropy = 0;              // mean of the normalised entropy, 0 .. 1; only if choosing_rows > 0
  std::int64_t choosing_rows = 0;  // rows that see at least two keys; 0 for a normalizer without an entropy
};

/// [site][query head], in the order of `sites`. Throws Error if a site has no statistics, or those of another number of
/// heads, and for statistics of a module that is none of the sites.
std::vector<std::vector<HeadSignals>> head_signals(std::span<const nn::AttentionSite> sites,
                                                   std::span<const SiteStatistics> seen);

}  // namespace attune::train
