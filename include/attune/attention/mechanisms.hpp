// The table of mechanisms: what `attune info --mechanisms` prints, recipes name and tests count. It follows from the
// type lists of the folders (score/all.hpp, ...), so a new file with its line there is in it. And the way back: from a
// name and options to a stage.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "attune/attention/any_stage.hpp"
#include "attune/attention/option_values.hpp"

namespace attune {

struct Mechanism {
  struct Option {
    std::string name;
    std::string initial;  // its value when nothing is said
  };
  std::string kind;                     // "score", "bias", "mask", "normalizer", "position"
  std::string name;                     // as in recipes
  std::vector<Option> options;          //
  std::vector<std::string> parameters;  // learned arrays, all with gradients
  std::string gradients;                // what a backward pass serves: "query, key, scale", "logits", "indices only"
  std::string cost;                     // beyond the two products with key and value
  std::string source;                   // the paper
  bool by_name;                         // a name and options are enough; others want data (lengths, bits, a lambda)
};

/// Every built-in stage, by kind in the order of the equation from the inside out, then in the order of its list.
std::vector<Mechanism> mechanisms();

/// Throws Error naming the kind, the name and what there is, unless the pair stands in mechanisms().
void check_mechanism(const std::string& kind, const std::string& name);

/// Every option of a stage with its value when these are said and nothing more; one that has no value is left out.
/// Throws what the functions below throw.
OptionValues complete_options(std::string_view kind, std::string_view name, const OptionValues& = {});

/// The stage of this name with these options; what follows from the extents (additive's hidden_dim) is taken from
/// `shape`. Throws Error for a name that is not in the table or not `by_name`, for an option that the stage does not
/// have (saying which it has) and for a value of another type.
AnyPosition position_named(std::string_view name, const OptionValues& = {}, const AttendShape& shape = {});
AnyScore score_named(std::string_view name, const OptionValues& = {}, const AttendShape& shape = {});
AnyBias bias_named(std::string_view name, const OptionValues& = {}, const AttendShape& shape = {});
AnyMask mask_named(std::string_view name, const OptionValues& = {}, const AttendShape& shape = {});
AnyNormalizer normalizer_named(std::string_view name, const OptionValues& = {}, const AttendShape& shape = {});

}  // namespace attune
