// The parts of check_stage.cpp: toy calls, their figures, their structure. Private.
#pragma once
#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "attention/check_runs.hpp"
#include "attune/attention/check_stage.hpp"
#include "attune/base/rng.hpp"

namespace attune::checking {

/// What stands beside the stages that are checked.
enum class Around { nothing, causal_and_cap, sink_and_dropout };

/// Figures of one combination go into the report; what misses its bar is a line there.
class Judge {
 public:
  Judge(StageReport& report, std::string place) : report_(report), place_(std::move(place)) {}
  void hold(const char* what, double& worst, double value, double bar) {
    worst = std::max(worst, value);
    if (!(value <= bar)) fails(fmt::format("{} {:.1e} > {:.1e}", what, value, bar));
  }
  void fails(const std::string& what) { report_.failed.push_back(fmt::format("{} ({})", what, place_)); }
  StageReport& report() { return report_; }

 private:
  StageReport& report_;
  std::string place_;
};

/// Five toy shapes.
std::vector<AttendShape> toy_shapes();
/// The call with its surroundings, and its numbers.
ToyCall make_toy(const AttendOptions& given, const PlainStages& plain, const StageCheck& check,
                 const AttendShape& shape, Around around, Generator& random);

/// Forward and backward in float64 and float32 against the formula. Returns the run in float64.
ToyResult<double> check_values(Judge& judge, const ToyCall& c);
/// Adjoint, duals, Hessian, Taylor.
void check_derivatives(Judge& judge, const ToyCall& c, bool kinks, const ToyResult<double>& run, Generator& random);

/// 1 and 3 threads give equal bits.
void check_threads(Judge& judge, const ToyCall& c);
/// Rows of keys that no query sees become NaN: nothing changes, and their gradients are 0.
void check_hidden(Judge& judge, const ToyCall& c, const ToyResult<double>& run);
/// keys(), cover() and visible() of every block of some sizes against the formula, pair by pair.
void check_mask(StageReport& report, const AnyMask& mask, const PlainStages& plain, const AttendShape& shape);

}  // namespace attune::checking
