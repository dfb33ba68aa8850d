// What stages check when a call is made, and the parts of them that need no template.
#include <fmt/format.h>

#include <cmath>

#include "attune/attention/attention.hpp"
#include "attune/base/error.hpp"

namespace attune {

namespace {
void same_width(const char* stage, const AttendShape& s) {
  if (s.query_dim != s.key_dim) {
    fail(stage, "query and key of one width", fmt::format("got {} and {}", s.query_dim, s.key_dim));
  }
}
}  // namespace

void ScaledDot::check(const AttendShape& s) const {
  same_width("scaled_dot", s);
  if (scale && !std::isfinite(*scale)) fail("scaled_dot", "a finite scale", fmt::format("got {}", *scale));
}
void Additive::check(const AttendShape&) const {
  if (hidden_dim < 1) fail("additive", "hidden_dim of 1 or more", fmt::format("got {}", hidden_dim));
}
void SoftCap::check(const AttendShape&) const {
  if (!(cap >= 0) || !std::isfinite(cap)) fail("soft_cap", "a cap of 0 (off) or more", fmt::format("got {}", cap));
}
void Dense::check(const AttendShape&) const {
  if (per == Per::kv_head) fail("dense", "a copy per call, batch, head or batch_head", "got per kv_head");
}
void Window::check(const AttendShape&) const {
  if (left < -1 || right < -1) {
    fail("window", "left and right of -1 (unbounded) or more", fmt::format("got {} and {}", left, right));
  }
}
void Padding::check(const AttendShape& s) const {
  if (valid_keys.size() != std::size_t(s.batch_size)) {
    fail("padding", fmt::format("valid_keys for each of {} batch entries", s.batch_size),
         fmt::format("got {}", valid_keys.size()));
  }
  for (int n : valid_keys) {
    if (n < 0 || n > s.num_keys)
      fail("padding", fmt::format("valid_keys of 0 to {}", s.num_keys), fmt::format("got {}", n));
  }
}
void Sinusoidal::check(const AttendShape&) const {
  if (!(base > 0) || !std::isfinite(base)) fail("sinusoidal", "a base above 0", fmt::format("got {}", base));
}
void Learned::check(const AttendShape& s) const {
  same_width("learned", s);
  if (num_positions < s.num_keys) {
    fail("learned", fmt::format("a table for all {} keys", s.num_keys), fmt::format("got {} positions", num_positions));
  }
}
std::ptrdiff_t Learned::position(Side side, const Area& area, int n) const {
  const int first = side == Side::query ? area.query + area.offset : area.key;
  if (first < 0 || first + n > num_positions) {
    fail("learned", fmt::format("positions from 0 to {}", num_positions - 1),
         fmt::format("got {} to {}", first, first + n - 1));
  }
  return first;
}

DenseMask::DenseMask(const std::uint8_t* seen, const Shape& extents) : shape(extents) {
  if (extents.rank() > 4) fail("dense mask", "a rank of at most 4", fmt::format("got {}", extents.text()));
  bytes_ = std::make_shared<const std::vector<std::uint8_t>>(seen, seen + extents.size());
}
DenseMask DenseMask::from_additive(ConstView mask) {
  std::vector<float> values(std::size_t(mask.shape.size()));
  convert(mask.dtype, mask.data, DType::float32, values.data(), mask.shape.size());
  std::vector<std::uint8_t> seen(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) seen[i] = values[i] != -std::numeric_limits<float>::infinity();
  return {seen.data(), mask.shape};
}
void DenseMask::check(const AttendShape& s) const {
  if (!bytes_) fail("dense mask", "bytes", "got none");
  const int extents[3] = {s.num_queries, s.num_heads, s.batch_size};
  const int rank = shape.rank();
  bool fits = rank == 0 || shape.back() <= s.num_keys;
  for (int i = 1; i < rank; ++i) fits = fits && (shape.back(i) == 1 || shape.back(i) == extents[i - 1]);
  if (!fits) {
    fail("dense mask",
         fmt::format("a shape that broadcasts to [{}, {}, {}, {}] from the right, the last extent shorter or equal",
                     s.batch_size, s.num_heads, s.num_queries, s.num_keys),
         fmt::format("got {}", shape.text()));
  }
}
void DenseMask::visible(const Area& a, std::uint64_t* rows) const {
  const int rank = shape.rank();
  const std::ptrdiff_t keys = rank > 0 ? shape.back() : a.shape->num_keys;
  // Elements from one index to the next along each axis; 0 where the mask is broadcast.
  const std::ptrdiff_t query_step = rank > 1 && shape.back(1) > 1 ? keys : 0;
  const std::ptrdiff_t head_step = rank > 2 && shape.back(2) > 1 ? keys * shape.back(1) : 0;
  const std::ptrdiff_t batch_step = rank > 3 && shape.back(3) > 1 ? keys * shape.back(1) * shape.back(2) : 0;
  const bool one_for_all_keys = rank == 0 || (shape.back() == 1 && a.shape->num_keys == 1);
  const std::uint8_t* first = bytes_->data() + a.batch * batch_step + a.head * head_step;
  for (int j = 0; j < a.keys; ++j) {
    std::uint64_t word = 0;
    const int key = a.key + j;
    if (rank == 0 || key < keys) {
      const std::uint8_t* column = first + (one_for_all_keys ? 0 : key);
      for (int i = 0; i < a.queries; ++i) {
        word |= std::uint64_t(column[(a.query + i) * query_step] != 0) << i;
      }
    }
    rows[j] = word;
  }
}

}  // namespace attune
