// The positions of the contract tests, each beside its formula.
#include "attune/attention/formulas/positions.hpp"
#include "attune/attention/position/all.hpp"
#include "contract/scenario.hpp"

namespace attune::contract {

/// Whether a position goes with these widths, and with offsets of which one is negative.
bool position_fits(const std::string& name, const AttendShape& s, bool negative) {
  if (name == "none" || name == "sinusoidal") return true;
  if (name == "sinusoidal_2d") return s.query_dim % 4 == 0 && s.key_dim % 4 == 0;
  if (name == "rotary_2d" && s.key_dim % 4 != 0) return false;
  return s.query_dim == s.key_dim && !(negative && name.starts_with("learned"));
}

const Variants& positions() {
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
  // Positions that the hand-written oracle does not know.
  auto plain = [](AnyPosition position, formula::PositionFormula formula) {
    return [=](Scenario& s) {
      s.options.position = position;
      s.plain.position = formula;
      s.has_oracle = false;
    };
  };
  // The grid and the table have room for all positions.
  auto grid = [](Interpolation interpolation, int prefix) {
    return [=](Scenario& s) {
      const int width = 3, height = (s.shape.num_queries + s.shape.num_keys) / width + 2;
      s.options.position = LearnedGrid{2, 4, height, width, prefix, interpolation};
      s.plain.position = formula::learned_grid({2, 4, height, width}, prefix, interpolation == Interpolation::bicubic);
      s.has_oracle = false;
    };
  };
  const Rotary yarn{.base = 20, .scaling = RotaryScaling::yarn, .factor = 4, .original_length = 30, .beta_fast = 3};
  const Rotary dynamic{.base = 50, .scaling = RotaryScaling::dynamic, .factor = 2, .original_length = 9};
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
                               {"rotary", rotary(100, 2, false)},
                               {"rotary", plain(yarn, formula::rotary_yarn(20, 4, 30, 3, 1))},
                               {"rotary", plain(dynamic, formula::rotary_ntk(50, 2, 9))},
                               {"rotary_2d", plain(Rotary2d{20, 3, 1}, formula::rotary_2d(20, 3, 1, false))},
                               {"xpos", plain(XPos{100, 8, 0.4, 3, true}, formula::xpos(100, 8, 0.4, 3, true))},
                               {"sinusoidal_2d", plain(Sinusoidal2d{50, 4, 2}, formula::sinusoidal_2d(50, 4, 2))},
                               {"learned_grid", grid(Interpolation::bicubic, 0)},
                               {"learned_grid", grid(Interpolation::bilinear, 2)}};
  return all;
}

}  // namespace attune::contract
