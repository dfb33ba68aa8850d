// The positions of the contract tests, each beside its formula.
#pragma once
#include "attune/attention/formulas/positions.hpp"
#include "attune/attention/position/all.hpp"
#include "contract/variant.hpp"

namespace attune::contract {

inline const Variants& positions() {
  using Kind = kernels::ReferencePosition;
  auto rotary = [](double base, int dim, bool interleaved) {
    return [=](Scenario& s) {
      s.plain.position = formula::rotary(base, dim, interleaved);
      s.options.position = Rotary{.base = base, .rotary_dim = dim, .interleaved = interleaved};
      s.reference.position = Kind::rotary;
      s.reference.position_base = base;
      s.reference.rotary_dim = dim;
      s.reference.interleaved = interleaved;
    };
  };
  static const Variants all = {{"none", [](Scenario&) {}},
                               {"sinusoidal",
                                [](Scenario& s) {
                                  s.options.position = Sinusoidal{.base = 500};
                                  s.plain.position = formula::sinusoidal(500);
                                  s.reference.position = Kind::sinusoidal;
                                  s.reference.position_base = 500;
                                }},
                               {"learned",
                                [](Scenario& s) {
                                  s.reference.num_positions = s.shape.num_queries + s.shape.num_keys + 2;
                                  s.options.position = Learned{.num_positions = s.reference.num_positions};
                                  s.plain.position = formula::learned();
                                  s.reference.position = Kind::learned;
                                }},
                               {"rotary", rotary(10000, 0, false)},
                               {"rotary", rotary(100, 0, true)},
                               {"rotary", rotary(100, 2, false)}};
  return all;
}

}  // namespace attune::contract
