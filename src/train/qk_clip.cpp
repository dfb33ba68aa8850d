// QK-clip: which rows take which part of the factor.
#include "attune/train/qk_clip.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "attune/base/error.hpp"

namespace attune::train {
namespace {

bool same_rows(const nn::TensorRows& a, const nn::TensorRows& b) {
  return a.tensor.is(b.tensor) && a.first == b.first && a.end == b.end;
}

void multiply(nn::TensorRows& rows, double factor) {
  if (!rows.tensor.defined() || factor == 1) return;
  const std::int64_t width = rows.tensor.size() / rows.tensor.shape()[0];
  const auto scale = [&](auto* x) {
    for (std::int64_t i = rows.first * width; i < rows.end * width; ++i) x[i] = decltype(+*x)(x[i] * factor);
  };
  if (rows.tensor.dtype() == DType::float64) {
    scale(rows.tensor.data<double>());
  } else {
    scale(rows.tensor.data<float>());
  }
}

nn::TensorRows& size_of_head(nn::HeadProjection& head) { return head.gain.tensor.defined() ? head.gain : head.weight; }

/// What decides the size of a query or key, bias terms included.
void multiply(nn::HeadProjection& head, double factor) {
  multiply(size_of_head(head), factor);
  if (!head.gain_scales_bias) multiply(head.bias, factor);
}

}  // namespace

std::vector<double> clip_factors(const nn::AttentionSite& site, const std::vector<HeadSignals>& signals, double tau) {
  if (!(tau > 0)) fail("clip_factors", "tau above 0", "got " + std::to_string(tau));
  std::vector<double> factors(signals.size(), 1.0);
  for (std::size_t h = 0; h < signals.size(); ++h) {
    const double score = signals[h].score;
    if (site.proportional && std::isfinite(score) && score > tau) factors[h] = tau / score;
  }
  return factors;
}

void clip_heads(nn::AttentionSite& site, const std::vector<double>& factors) {
  const auto group = std::size_t(site.group());
  const double worst = *std::min_element(factors.begin(), factors.end());
  const bool common = site.num_heads() > 1 && site.queries[0].gain.tensor.defined() &&
                      same_rows(site.queries[0].gain, site.queries[1].gain);
  if (common) {  // one gain for all heads: all shrink together, as far as the worst needs it
    for (auto* side : {&site.queries, &site.keys}) {
      multiply(side->front().gain, std::sqrt(worst));
      for (nn::HeadProjection& head : *side) multiply(head.bias, std::sqrt(worst));
    }
    return;
  }
  if (site.num_heads() > 1 && same_rows(size_of_head(site.queries[0]), size_of_head(site.queries[1]))) {
    multiply(site.queries[0], worst);
    return;
  }
  for (std::size_t h = 0; h < factors.size(); ++h) {
    nn::HeadProjection &query = site.queries[h], &key = site.keys[h / group];
    if (same_rows(query.weight, key.weight)) {  // both sides at once
      multiply(query, std::sqrt(factors[h]));
      continue;
    }
    const bool both = group == 1 && key.weight.tensor.defined() && key.also.empty();
    multiply(query, both ? std::sqrt(factors[h]) : factors[h]);
    if (both) multiply(key, std::sqrt(factors[h]));
  }
}

}  // namespace attune::train
