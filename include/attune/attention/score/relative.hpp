// Scores with a learned row for every distance, clipped: what Shaw's and DeBERTa's terms are made of.
//
// Sixteen queries and the m keys of a tile meet at most m + 15 distances, neighbouring rows of the table. Their
// products are made at once, by the library's kernel, in scratch; every pair then finds its own by an offset. The
// backward collects the pairs' gradients per distance in the same way. No array has a number for every pair of the
// sequence.
#pragma once
#include <algorithm>

#include "attune/attention/stage.hpp"

namespace attune::detail {

/// Which row of a table belongs to a pair: clamp(sign * (key - position of query) + zero, 0, rows - 1).
struct Clipped {
  int sign, zero, rows;
  int at(int distance) const { return std::clamp(sign * distance + zero, 0, rows - 1); }
};

// For float, double and Dual<double>, on the instruction set of this machine: src/attention/relative.cpp.
/// x += query . table row; table [rows][D].
template <class T>
void add_query_relative(const Features<T>& f, const Clipped& clipped, const T* table, const Tile<T>& x, Call<T>& call);
template <class T>
void add_query_relative_backward(const Features<T>& f, const Clipped& clipped, const Parameter<T>& table,
                                 const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call);
/// x += scale * key . table row; table [rows][D].
template <class T>
void add_key_relative(const Features<T>& f, const Clipped& clipped, const T* table, T scale, const Tile<T>& x,
                      Call<T>& call);
template <class T>
void add_key_relative_backward(const Features<T>& f, const Clipped& clipped, const Parameter<T>& table, T scale,
                               const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call);

}  // namespace attune::detail
