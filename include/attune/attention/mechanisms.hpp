// The table of mechanisms: what `attune info --mechanisms` prints, recipes name and tests count. It follows from the
// type lists of the folders (score/all.hpp, ...), so a new file with its line there is in it.
#pragma once
#include <string>
#include <vector>

namespace attune {

struct Mechanism {
  std::string kind;                     // "score", "bias", "mask", "normalizer", "position"
  std::string name;                     // as in recipes
  std::vector<std::string> parameters;  // learned arrays, all with gradients
};

/// Every built-in stage, by kind in the order of the equation from the inside out, then in the order of its list.
std::vector<Mechanism> mechanisms();

/// Throws Error naming the kind, the name and what there is, unless the pair stands in mechanisms().
void check_mechanism(const std::string& kind, const std::string& name);

}  // namespace attune
