// Rows of a table chosen by integers, and the gradient back into them. T is float or double.
#pragma once
#include <cstdint>

namespace attune::kernels {

/// out[t][c] = scale * table[ids[t]][c]; out [tokens][width], table [.][width]. Callers check ids.
template <class T>
void embedding(std::int64_t tokens, std::int64_t width, const T* table, const std::int32_t* ids, T scale, T* out);

/// dtable[ids[t]][c] += scale * dout[t][c], tokens in rising order for every row of the table: equal bits for any
/// thread count.
template <class T>
void embedding_backward(std::int64_t tokens, std::int64_t width, const std::int32_t* ids, const T* dout, T scale,
                        T* dtable);

}  // namespace attune::kernels
