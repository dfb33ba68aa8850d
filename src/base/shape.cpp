#include "attune/base/shape.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "attune/base/error.hpp"

namespace attune {

Shape::Shape(std::initializer_list<std::int64_t> extents) : Shape(extents.begin(), int(extents.size())) {}

Shape::Shape(const std::int64_t* extents, int rank) : rank_(rank) {
  if (rank < 0 || rank > kMaxRank) fail("Shape", fmt::format("rank 0 to {}", kMaxRank), fmt::format("got {}", rank));
  for (int i = 0; i < rank; ++i) {
    if (extents[i] < 0) fail("Shape", "extents of at least 0", fmt::format("got {} at index {}", extents[i], i));
    extents_[std::size_t(i)] = extents[i];
  }
}

std::int64_t Shape::size() const {
  std::int64_t n = 1;
  for (std::int64_t e : *this) n *= e;
  return n;
}

Shape Shape::with(int index, std::int64_t extent) const {
  if (index < 0) index += rank_;
  if (index < 0 || index >= rank_)
    fail("Shape::with", fmt::format("an index into {}", text()), fmt::format("got {}", index));
  if (extent < 0) fail("Shape::with", "an extent of at least 0", fmt::format("got {}", extent));
  Shape s = *this;
  s.extents_[std::size_t(index)] = extent;
  return s;
}

std::string Shape::text() const { return fmt::format("[{}]", fmt::join(begin(), end(), ", ")); }

}  // namespace attune
