// What a scenario should give: by the oracle in float64 where it knows every part, else by the plain formula and its
// recording. Where both exist they are held against each other in oracle_test.cpp.
#pragma once
#include "contract/variant.hpp"

namespace attune::contract {

/// kernels::ReferenceForward with what of it a plain formula has too.
inline kernels::ReferenceForward expected_forward(const Scenario& s, const Arrays<double>& in) {
  if (s.has_oracle) return kernels::reference_forward(s.reference, in);
  formula::Result<double> r = formula::run(s.plain, in);
  kernels::ReferenceForward f;
  f.out = std::move(r.out), f.stat = std::move(r.stat), f.entropy = std::move(r.entropy), f.sink = std::move(r.sink);
  f.scores = std::move(r.scores), f.logits = std::move(r.logits), f.probs = std::move(r.probs);
  const AttendShape& a = s.shape;
  for (int row = 0; row < a.batch_size * a.num_heads * a.num_queries; ++row) {
    const int head = row / a.num_queries;
    f.visible.push_back(0);
    for (int j = 0; j < a.num_keys; ++j) {
      f.visible.back() += s.reference.sees(head / a.num_heads, head % a.num_heads, row % a.num_queries, j);
    }
  }
  return f;
}
inline Arrays<double> expected_gradient(const Scenario& s, const Arrays<double>& in, const std::vector<double>& dout,
                                        const std::vector<double>& dlse = {},
                                        const std::vector<double>& dentropy = {}) {
  return s.has_oracle ? kernels::reference_backward(s.reference, in, dout, dlse, dentropy)
                      : formula::gradient(s.plain, in, dout, dlse, dentropy);
}

}  // namespace attune::contract
