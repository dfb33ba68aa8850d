// CallMask: what a call hides beyond the module's own mask.
#pragma once
#include <vector>

#include "attune/attention/mask/all.hpp"

namespace attune::nn {

/// Of one call of a module. Result rows of tokens that are padding hold numbers of no meaning; those of tokens that
/// see nothing are what the module makes of an attention of 0.
struct CallMask {
  /// Keys j >= valid_keys[b] are hidden; empty: all are valid.
  std::vector<int> valid_keys;
  /// Hides more, by conjunction.
  AnyMask mask;

  /// This and the module's own mask.
  AnyMask with(const AnyMask& own) const;
};

}  // namespace attune::nn
