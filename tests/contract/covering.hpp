// Which combinations are tried: all pairs of variants of any two factors at least once (greedy, seeded, hence the same
// in every run), then random ones; with ATTUNE_FULL=1 the full product of the five blanks and dropout.
#pragma once
#include <cstdlib>
#include <set>
#include <utility>
#include <vector>

#include "contract/scenario.hpp"

namespace attune::contract {

inline bool full_run() {
  const char* text = std::getenv("ATTUNE_FULL");
  return text && *text && *text != '0';
}

inline int variant_count(int factor) { return int(variants(factor).size()); }

inline Case random_case(Generator& g) {
  Case c;
  do {
    for (int f = 0; f < Case::kFactors; ++f) c.pick[f] = int(g.below(std::uint64_t(variant_count(f))));
  } while (!fits(c));
  c.seed = g.next_u64();
  return c;
}

/// Cases in which every pair of variants that can go together does.
inline std::vector<Case> pairwise_cases(Generator& g) {
  using Pair = std::pair<std::pair<int, int>, std::pair<int, int>>;  // (factor, variant) twice
  std::set<Pair> open;
  for (int f = 0; f < Case::kFactors; ++f) {
    for (int e = f + 1; e < Case::kFactors; ++e) {
      for (int a = 0; a < variant_count(f); ++a) {
        for (int b = 0; b < variant_count(e); ++b) open.insert({{f, a}, {e, b}});
      }
    }
  }
  auto pairs_of = [&](const Case& c) {
    std::vector<Pair> in;
    for (int f = 0; f < Case::kFactors; ++f) {
      for (int e = f + 1; e < Case::kFactors; ++e) {
        const Pair pair{{f, c.pick[f]}, {e, c.pick[e]}};
        if (open.count(pair)) in.push_back(pair);
      }
    }
    return in;
  };
  std::vector<Case> cases;
  while (!open.empty()) {
    const Pair wanted = *open.begin();
    Case best;
    std::size_t most = 0;
    for (int attempt = 0; attempt < 60; ++attempt) {
      Case c = random_case(g);
      c.pick[wanted.first.first] = wanted.first.second;
      c.pick[wanted.second.first] = wanted.second.second;
      if (!fits(c)) continue;
      const std::size_t covered = pairs_of(c).size();
      if (covered > most) most = covered, best = c;
    }
    if (most == 0) {  // these two never go together
      open.erase(wanted);
      continue;
    }
    for (const Pair& pair : pairs_of(best)) open.erase(pair);
    cases.push_back(best);
  }
  return cases;
}

/// What the contract tests run.
inline std::vector<Case> contract_cases() {
  Generator g(3);
  std::vector<Case> cases = pairwise_cases(g);
  for (int n = 0; n < 40; ++n) cases.push_back(random_case(g));
  if (!full_run()) return cases;
  Case c;
  auto next = [&] {  // counts through all factors but the shape and the incoming gradients, which rotate
    for (const int f : {Case::position, Case::score, Case::bias, Case::mask, Case::normalizer, Case::dropout}) {
      if (++c.pick[f] < variant_count(f)) return true;
      c.pick[f] = 0;
    }
    return false;
  };
  do {
    c.pick[Case::shape] = int(g.below(std::uint64_t(variant_count(Case::shape))));
    c.pick[Case::upstream] = int(g.below(std::uint64_t(variant_count(Case::upstream))));
    c.seed = g.next_u64();
    if (fits(c)) cases.push_back(c);
  } while (next());
  return cases;
}

}  // namespace attune::contract
