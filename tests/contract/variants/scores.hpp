// The scores of the contract tests, each beside its formula.
#pragma once
#include "attune/attention/formulas/scores.hpp"
#include "attune/attention/score/all.hpp"
#include "contract/variant.hpp"

namespace attune::contract {

inline const Variants& scores() {
  auto additive = [](int wider) {
    return [=](Scenario& s) {
      s.shape.key_dim += wider;
      s.options.score = Additive{.hidden_dim = 5};
      s.plain.score = formula::additive(5);
      s.reference.score = kernels::ReferenceScore::additive;
      s.reference.hidden_dim = 5;
    };
  };
  static const Variants all = {{"scaled_dot", [](Scenario& s) { s.plain.score = formula::scaled_dot(); }},
                               {"scaled_dot",
                                [](Scenario& s) {
                                  s.options.score = ScaledDot{.scale = -0.7};
                                  s.plain.score = formula::scaled_dot(-0.7);
                                  s.reference.scale = -0.7;
                                }},
                               {"additive", additive(0)},
                               {"additive", additive(1)}};  // key_dim is not query_dim
  return all;
}

}  // namespace attune::contract
