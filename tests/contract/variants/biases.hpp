// Biases of the contract tests that other tests of this folder take too: each adds stage and formula to a scenario.
#pragma once
#include "attune/attention/bias/all.hpp"
#include "attune/attention/formula.hpp"
#include "contract/variant.hpp"

namespace attune::contract::detail {

void add_alibi(Scenario& s, bool learned);
void add_cap(Scenario& s, double cap);
void add_dense(Scenario& s, Per per, bool broadcast_queries = false);
void add_own(Scenario& s);
void add_learned_own(Scenario& s);
void add_bias(Scenario& s, AnyBias stage, formula::BiasFormula plain);
void add_buckets(Scenario& s, int buckets, int max_distance, bool causal);
void add_kerple(Scenario& s, KerpleKernel kernel);
void add_fire(Scenario& s);
void add_temperature(Scenario& s, double fixed, bool learned);
void add_log_n(Scenario& s, LengthOf length, double fixed, bool learned);
void add_gumbel(Scenario& s, double temperature, int seed);

}  // namespace attune::contract::detail
