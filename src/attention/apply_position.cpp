// apply_position.hpp: blocks of rows, converted to the numbers that the stage is called with and back.
#include "attune/attention/apply_position.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "attune/attention/position/rotary.hpp"
#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"

namespace attune {
namespace {

AttendShape shape_of(std::int64_t batch, std::int64_t heads, std::int64_t tokens, std::int64_t dim) {
  return {.batch_size = int(batch),
          .num_heads = int(heads),
          .num_kv_heads = int(heads),
          .num_queries = int(tokens),
          .num_keys = int(tokens),
          .query_dim = int(dim),
          .key_dim = int(dim),
          .value_dim = int(dim)};
}

template <class T>
void apply(const AnyPosition& position, Side side, const ConstView& rows, std::span<const int> first, const View& out,
           const AttendShape& s) {
  const int tokens = s.num_queries, dim = s.key_dim, blocks = (tokens + kLanes - 1) / kLanes;
  parallel_for(std::int64_t(s.batch_size) * s.num_heads * blocks, [&](std::int64_t task) {
    const int block = int(task % blocks), h = int(task / blocks % s.num_heads), b = int(task / blocks / s.num_heads);
    const int begin = block * kLanes, n = std::min(kLanes, tokens - begin);
    Area area{.shape = &s, .batch = b, .head = h, .kv_head = h};
    if (side == Side::query)
      area.query = begin, area.queries = n, area.offset = first[std::size_t(b)];
    else
      area.key = first[std::size_t(b)] + begin, area.keys = n;
    std::vector<T> memory(std::size_t(n) * std::size_t(dim) * 2), scratch;
    const Matrix<T> in{memory.data(), n, dim, dim}, mapped{memory.data() + std::ptrdiff_t(n) * dim, n, dim, dim};
    const auto place = [&](const auto& v, int r) {
      return static_cast<const std::byte*>(v.data) +
             (b * v.strides[0] + h * v.strides[1] + (begin + r) * v.strides[2]) * std::int64_t(size_of(v.dtype));
    };
    for (int r = 0; r < n; ++r) convert(rows.dtype, place(rows, r), dtype_of<T>(), in[r], dim);
    Call<T> call{{}, &scratch};
    position.on<T>()->map(side, in, mapped, area, call);
    for (int r = 0; r < n; ++r) {
      convert(dtype_of<T>(), mapped[r], out.dtype, const_cast<std::byte*>(place(out, r)), dim);
    }
  });
}

/// What speaks against keys that keep their position: what was expected, and what was found.
struct Objection {
  std::string expected, found;
};

std::optional<Objection> objection_to(const AnyPosition& position, int num_kv_heads, int head_dim) {
  const RowMap<float>& stage = *position.on<float>();
  if (const Rotary* r = position.as<Rotary>(); r && r->scaling == RotaryScaling::dynamic)
    return Objection{"a position that stays what it is when tokens come", "got rotary with scaling dynamic"};
  if (!stage.parameters(shape_of(1, num_kv_heads, 1, head_dim)).empty())
    return Objection{"a position without learned arrays", fmt::format("got {}", position.name())};
  if (const int width = stage.width(Side::key, head_dim); width != head_dim) {
    return Objection{fmt::format("a position that leaves {} numbers a key", head_dim),
                     fmt::format("{} leaves {}", position.name(), width)};
  }
  return std::nullopt;
}

}  // namespace

void expect_lasting_position(const char* function, const AnyPosition& position, int num_kv_heads, int head_dim) {
  if (const auto objection = objection_to(position, num_kv_heads, head_dim))
    fail(function, objection->expected, objection->found);
  position.on<float>()->check(shape_of(1, num_kv_heads, 1, head_dim));
}

bool is_lasting_position(const AnyPosition& position, int num_kv_heads, int head_dim) {
  return !objection_to(position, num_kv_heads, head_dim);
}

void apply_position(const AnyPosition& position, Side side, const ConstView& rows, std::span<const int> first,
                    const View& out) {
  constexpr const char* kFunction = "apply_position";
  if (!position) fail(kFunction, "a position", "got none");
  if (rows.shape.rank() != 4 || rows.shape != out.shape || std::int64_t(first.size()) != rows.shape[0]) {
    fail(kFunction, "rows and out [B, H, T, D] and a first position for each of B",
         fmt::format("got {}, {} and {} positions", rows.shape.text(), out.shape.text(), first.size()));
  }
  if (rows.shape.size() == 0) return;
  if (rows.shape[3] > 1 && (rows.strides[3] != 1 || out.strides[3] != 1)) {
    fail(kFunction, "a contiguous last dimension",
         fmt::format("got strides {} and {}", rows.strides[3], out.strides[3]));
  }
  const AttendShape s = shape_of(rows.shape[0], rows.shape[1], rows.shape[2], rows.shape[3]);
  expect_lasting_position(kFunction, position, s.num_kv_heads, s.key_dim);
  if (rows.dtype == DType::float64)
    apply<double>(position, side, rows, first, out, s);
  else
    apply<float>(position, side, rows, first, out, s);
}

}  // namespace attune
