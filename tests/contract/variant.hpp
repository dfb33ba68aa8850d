// One call described for the engine (AttendOptions), as a plain formula (formula::Problem) and, where it has only parts
// that the oracle in float64 knows, for the oracle (kernels::ReferenceProblem). A variant fills one blank of all of
// them; variants/ has a table of variants for every blank.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "attune/attention/attend.hpp"
#include "attune/attention/formula.hpp"
#include "attune/base/rng.hpp"
#include "kernels/reference.hpp"

namespace attune::contract {

/// query, key, value, then learned arrays, in the order of attend_parameters().
template <class S>
using Arrays = std::vector<std::vector<S>>;

/// How a call is put together: an index into each table below.
struct Case {
  enum Factor { shape, position, score, bias, mask, normalizer, dropout, upstream, kFactors };
  int pick[kFactors] = {};
  std::uint64_t seed = 1;
  int operator[](Factor f) const { return pick[f]; }
};

struct Scenario {
  AttendShape shape;
  AttendOptions options;
  formula::Problem plain;  // its shape, offset, visible and kept are those of `reference`
  kernels::ReferenceProblem reference;
  bool has_oracle = true;                // `reference` says all of it; false: a part has a plain formula alone
  std::string names[Case::kFactors];     // of the mechanisms, "none" where there is none
  formula::NormalizerFormula surrogate;  // of a straight-through normalizer: whose derivative it has; else empty
  bool kinks = false;                    // its normalizer has rows where the derivative jumps: where a weight becomes 0
  bool wants_dlse = false, wants_dentropy = false;
  Arrays<double> in;  // query, key, value, learned arrays; numbers that float32 holds exactly
  std::vector<double> dout, dlse, dentropy;
  std::map<std::string, std::pair<double, double>> ranges;  // of learned arrays by name, where it is not -1 .. 1
  Generator random{1};

  bool gives_lse() const { return options.normalizer.on<double>()->gives_lse(); }
  std::size_t rows() const { return std::size_t(shape.batch_size) * shape.num_heads * shape.num_queries; }
  std::string text() const {
    std::string t;
    for (const std::string& name : names) t += (t.empty() ? "" : " ") + name;
    return t;
  }
};

/// One way to fill a blank. `name` is the mechanism's name in mechanisms(); chains are joined by +, conjunctions by &.
struct Variant {
  std::string name;
  std::function<void(Scenario&)> add;
};
using Variants = std::vector<Variant>;

}  // namespace attune::contract
