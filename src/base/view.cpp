#include "attune/base/view.hpp"

namespace attune {

Strides contiguous_strides(const Shape& shape) {
  Strides s{};
  std::int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    s[std::size_t(i)] = step;
    step *= shape[i];
  }
  return s;
}

}  // namespace attune
