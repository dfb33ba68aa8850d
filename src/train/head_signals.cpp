// From statistics [B, H] of every micro-batch to one line a head.
#include "attune/train/head_signals.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "attune/base/error.hpp"

namespace attune::train {
namespace {

void add_heads(const Statistics& s, std::vector<HeadSignals>& heads) {
  for (std::size_t i = 0; i < s.rows.size(); ++i) {
    if (s.rows[i] == 0) continue;
    HeadSignals& head = heads[i % heads.size()];
    const double score = std::max(s.largest_score[i], -s.smallest_score[i]);
    const bool finite = std::isfinite(score) && s.non_finite[i] == 0;
    head.score = finite ? std::max(head.score, score) : std::numeric_limits<double>::infinity();
    if (s.entropy_normalized.empty()) continue;
    head.entropy += s.entropy_normalized[i] * double(s.choosing_rows[i]);
    head.choosing_rows += s.choosing_rows[i];
  }
}

}  // namespace

std::vector<std::vector<HeadSignals>> head_signals(std::span<const nn::AttentionSite> sites,
                                                   std::span<const SiteStatistics> seen) {
  std::vector<std::vector<HeadSignals>> signals(sites.size());
  for (const SiteStatistics& one : seen) {
    const auto site = std::find_if(sites.begin(), sites.end(), [&](const auto& s) { return s.name == one.name; });
    if (site == sites.end()) fail("AttentionGuard", "statistics of the model's attention", "got \"" + one.name + "\"");
    if (one.statistics.num_heads != site->num_heads()) {
      fail("AttentionGuard", fmt::format("statistics of {} heads from {}", site->num_heads(), one.name),
           fmt::format("got {}", one.statistics.num_heads));
    }
    auto& heads = signals[std::size_t(site - sites.begin())];
    heads.resize(std::size_t(site->num_heads()));
    add_heads(one.statistics, heads);
  }
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (signals[i].empty()) fail("AttentionGuard", "statistics of " + sites[i].name, "there are none");
    for (HeadSignals& head : signals[i]) {
      if (head.choosing_rows > 0) head.entropy /= double(head.choosing_rows);
    }
  }
  return signals;
}

}  // namespace attune::train
