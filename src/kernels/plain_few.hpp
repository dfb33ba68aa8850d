// The forward of the plain path for a handful of queries that all see the same keys: decoding. Called by plain_forward.
#pragma once
#include "kernels/plain_attention.hpp"

namespace attune::kernels {

/// Most queries for which plain_few is faster than the tiles of plain_forward, which would leave most lanes idle.
inline constexpr int kFewQueries = 8;

/// True if plain_few serves this call: few rows, one set of visible keys, no dropout.
template <class T>
bool is_few(const PlainForward<T>& in) {
  return in.queries <= kFewQueries && (!in.causal || in.queries == 1 || in.position >= in.num_keys - 1) &&
         in.dropout.threshold >= 65536;
}

/// Bytes of workspace.
template <class T>
std::size_t plain_few_workspace(int value_dim);

void plain_few(const PlainForward<float>&, std::byte* workspace);
void plain_few(const PlainForward<double>&, std::byte* workspace);

}  // namespace attune::kernels
