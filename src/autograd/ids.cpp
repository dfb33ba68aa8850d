// Ids: integers with a shape, shared and never changed.
#include <string>

#include "attune/autograd/tensor.hpp"
#include "attune/base/error.hpp"

namespace attune {

Ids::Ids(std::vector<std::int32_t> values, const Shape& shape) : shape_(shape) {
  if (std::int64_t(values.size()) != shape.size()) {
    fail("Ids", std::to_string(shape.size()) + " values for shape " + shape.text(),
         "got " + std::to_string(values.size()));
  }
  values_ = std::make_shared<const std::vector<std::int32_t>>(std::move(values));
}
Ids::Ids(std::vector<std::int32_t> values) {
  shape_ = Shape{std::int64_t(values.size())};
  values_ = std::make_shared<const std::vector<std::int32_t>>(std::move(values));
}
Ids Ids::reshape(const Shape& shape) const {
  if (shape.size() != size()) {
    fail("Ids::reshape", "a shape of " + std::to_string(size()) + " elements", "got " + shape.text());
  }
  Ids ids = *this;
  ids.shape_ = shape;
  return ids;
}

}  // namespace attune
