// The contract test for a stage of your own: is it exact, forward and backward, in combination with other stages?
//
// Beside the stage stands its plain formula (formula.hpp), one line that says what it computes. From it follow, without
// a derivative written by hand, the results in float64, the gradients (by recording) and the directional derivatives
// (by dual numbers) that the fused engine has to meet:
//
//     StageReport r = check_stage({.score = Mine{}}, {.score = [](const formula::Pair&, auto q, auto k, auto arrays) {
//       ...
//     }});
//     r.expect_exact();                       // throws Error that says what failed; r.text() are the figures
//
// What is checked, on toy problems of several shapes, as given, under a causal mask with a soft cap behind, and with a
// sink and dropout, in one tile and in tiles of 4 x 3:
//
//     forward   float64: |out - formula| <= 1e-13 (1 + largest logit) of the largest number; float32: 2e-6 (1 + l / 8),
//               or twice the error of the formula in float32
//     backward  of query, key, value and every learned array against the recording: 1e-12 of the largest gradient;
//               float32: 5 times the bar of forward
//     adjoint   |<u, J v> - <J^T u, v>| <= 1e-13 (|u| |J v| + |J^T u| |v|)
//     duals     the engine on dual numbers against the formula on them: 1e-12
//     Hessian   of the backward pass on dual numbers, symmetric: 1e-12
//     Taylor    |f(x + h v) - f(x) - h <gradient, v>| falls as h^2: slope 1.95 .. 2.05
//     mask      keys() and cover() promise nothing that visible() breaks; NaN in keys that no query sees changes no bit
//     threads   1 and 3 give equal bits
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "attune/attention/attend.hpp"
#include "attune/attention/formula.hpp"

namespace attune {

/// The plain formulas of the blanks that the options fill. The score scaled_dot and the normalizer softmax need none;
/// `bias` has one for each of the chain.
struct PlainStages {
  formula::PositionFormula position;
  formula::ScoreFormula score;
  std::vector<formula::BiasFormula> bias;
  std::function<bool(const formula::Pair&)> mask;  // true: visible
  formula::NormalizerFormula normalizer;
};

struct StageCheck {
  /// Where learned arrays are drawn from, by name; others from -1 .. 1. Queries and keys come from -1.5 .. 1.5.
  std::map<std::string, std::pair<double, double>> ranges;
  /// The stage has points where its derivative jumps (a maximum, a threshold): Taylor steps that cross one are avoided
  /// by looking at which weights are 0, and after twelve directions without a verdict the test is passed over.
  bool kinks = false;
  /// Empty: five toy shapes. Give your own where the stage wants certain extents.
  std::vector<AttendShape> shapes;
  std::uint64_t seed = 1;
};

/// Worst figures over all combinations, relative as above.
struct StageReport {
  int combinations = 0;
  double forward = 0, backward = 0, forward_float32 = 0, backward_float32 = 0;
  double adjoint = 0, duals = 0, hessian = 0;
  double taylor = 0;                // largest distance of a slope from 2
  std::vector<std::string> failed;  // what missed its bar, and where; empty: exact

  bool exact() const { return failed.empty(); }
  /// The figures in one line, then a line for each failure.
  std::string text() const;
  /// Throws Error with the first failure if there is one.
  void expect_exact() const;
};

/// Checks the stages that `options` fills against `plain`, in a second or less. Blanks that are left open take part
/// with what fits beside them. Leave offset, alignment, dropout and sequences of `options` alone.
///
/// Throws Error if a filled blank has no formula, and what the stage itself throws for the shapes.
StageReport check_stage(const AttendOptions& options, const PlainStages& plain, const StageCheck& = {});

}  // namespace attune
