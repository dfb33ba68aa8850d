// How large the tiles of attention are: a function of the instruction set, the caches and the head's widths, and of
// nothing that changes between calls, so that results have equal bits from run to run.
#pragma once
#include <cstdint>

namespace attune::kernels {

struct TilePlan {
  int queries = 0;     // queries of one block, a multiple of the lanes; at most 64
  int keys = 0;        // keys of one tile
  int super_keys = 0;  // backward: keys whose gradients stay in the second-level cache while all queries pass
};

/// The plan of the plain path. T is float or double.
/// Forward: the transposed queries [head_dim][queries], a tile of weights [keys][queries] and the output
/// [value_dim][queries] share L1 and L2; backward adds dout, and dkey and dvalue of the super-block.
template <class T>
TilePlan forward_plan(int head_dim, int value_dim, bool causal);
template <class T>
TilePlan backward_plan(int head_dim, int value_dim, bool causal);

extern template TilePlan forward_plan<float>(int, int, bool);
extern template TilePlan forward_plan<double>(int, int, bool);
extern template TilePlan backward_plan<float>(int, int, bool);
extern template TilePlan backward_plan<double>(int, int, bool);

}  // namespace attune::kernels
