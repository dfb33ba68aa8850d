// Gather is by tokens, scatter by columns: a task owns a range of columns and walks through all tokens, so that no two
// tasks write to the same number and every row of the table receives its tokens in order.
#include "kernels/embedding.hpp"

#include "kernels/ranges.hpp"

namespace attune::kernels {

template <class T>
void embedding(std::int64_t tokens, std::int64_t width, const T* table, const std::int32_t* ids, T scale, T* out) {
  over_rows(tokens, width, [=](std::int64_t t, std::int64_t end) {
    for (; t < end; ++t) {
      const T* from = table + ids[t] * width;
      T* to = out + t * width;
      for (std::int64_t c = 0; c < width; ++c) to[c] = scale * from[c];
    }
  });
}

template <class T>
void embedding_backward(std::int64_t tokens, std::int64_t width, const std::int32_t* ids, const T* dout, T scale,
                        T* dtable) {
  // 32 floats are two cache lines: narrower ranges would make threads write to the same lines.
  const std::int64_t columns = tokens * width <= kRangeElements ? width : 32;
  parallel_ranges(width, columns, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      const T* from = dout + t * width;
      T* to = dtable + ids[t] * width;
      for (std::int64_t c = begin; c < end; ++c) to[c] += scale * from[c];
    }
  });
}

template void embedding<float>(std::int64_t, std::int64_t, const float*, const std::int32_t*, float, float*);
template void embedding<double>(std::int64_t, std::int64_t, const double*, const std::int32_t*, double, double*);
template void embedding_backward<float>(std::int64_t, std::int64_t, const std::int32_t*, const float*, float, float*);
template void embedding_backward<double>(std::int64_t, std::int64_t, const std::int32_t*, const double*, double,
                                         double*);

}  // namespace attune::kernels
