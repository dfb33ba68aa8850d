// Operators that move numbers or only rename their places; their backwards move the gradient back.
#include "attune/autograd/ops/shape.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "attune/autograd/ops/elementwise.hpp"
#include "autograd/impl.hpp"
#include "autograd/loops.hpp"

namespace attune {
namespace {

/// Copies blocks of `length` elements: block i from `from + i * from_step` to `to + i * to_step`.
void copy_blocks(const Tensor& from, std::int64_t from_offset, std::int64_t from_step, Tensor& to,
                 std::int64_t to_offset, std::int64_t to_step, std::int64_t blocks, std::int64_t length) {
  const auto element = std::int64_t(size_of(from.dtype()));
  const char* source = static_cast<const char*>(from.raw()) + from_offset * element;
  char* target = static_cast<char*>(to.raw()) + to_offset * element;
  detail::over_rows(blocks, length, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      std::memcpy(target + i * to_step * element, source + i * from_step * element, std::size_t(length * element));
    }
  });
}
/// The same with +=.
void add_blocks(const Tensor& from, std::int64_t from_offset, std::int64_t from_step, Tensor& to,
                std::int64_t to_offset, std::int64_t to_step, std::int64_t blocks, std::int64_t length) {
  detail::on_compute_type("add_blocks", from.dtype(), [&]<class T>(T) {
    const T* source = from.data<T>() + from_offset;
    T* target = to.data<T>() + to_offset;
    detail::over_rows(blocks, length, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        for (std::int64_t k = 0; k < length; ++k) target[i * to_step + k] += source[i * from_step + k];
      }
    });
  });
}

struct Around {  // the shape around an axis: [outer, n, inner]
  std::int64_t outer = 1, inner = 1;
  Around(const Shape& shape, int axis) {
    for (int i = 0; i < axis; ++i) outer *= shape[i];
    for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  }
};

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
  detail::check_defined("reshape", x);
  if (shape.size() != x.size()) {
    fail("reshape", "a shape of " + std::to_string(x.size()) + " elements", "got " + shape.text());
  }
  Tensor y = detail::alias(x, shape);
  record("reshape", y, {x}, [](Backward& b) { b.give(0, b.dout()); });
  return y;
}

Tensor reshape(const Tensor& x, std::initializer_list<std::int64_t> extents) {
  detail::check_defined("reshape", x);
  std::int64_t known = 1;
  int open = -1, i = 0;
  std::int64_t filled[Shape::kMaxRank] = {};
  if (extents.size() > std::size_t(Shape::kMaxRank)) {
    fail("reshape", "at most 8 extents", "got " + std::to_string(extents.size()));
  }
  for (std::int64_t e : extents) {
    if (e == -1 && open < 0)
      open = i;
    else
      known *= e;
    filled[i++] = e;
  }
  if (open >= 0) {
    if (known <= 0 || x.size() % known != 0) {
      fail("reshape", "known extents that divide " + std::to_string(x.size()),
           "their product is " + std::to_string(known));
    }
    filled[open] = x.size() / known;
  }
  return reshape(x, Shape(filled, i));
}

Tensor slice(const Tensor& x, int axis, std::int64_t begin, std::int64_t end) {
  detail::check_defined("slice", x);
  const int a = detail::checked_axis("slice", x.shape(), axis);
  const std::int64_t n = x.shape()[a];
  if (begin < 0 || end < begin || end > n) {
    fail("slice", "0 <= begin <= end <= " + std::to_string(n),
         "got " + std::to_string(begin) + " and " + std::to_string(end));
  }
  const Around at(x.shape(), a);
  const Shape shape = x.shape().with(a, end - begin);
  const std::int64_t length = (end - begin) * at.inner;
  Tensor y;
  if (at.outer == 1) {
    y = detail::alias(x, shape, begin * at.inner);
  } else {
    y = Tensor::empty(shape, x.dtype());
    copy_blocks(x, begin * at.inner, n * at.inner, y, 0, length, at.outer, length);
  }
  record("slice", y, {x}, [=](Backward& b) {
    Tensor dx = b.zeroed_slot(0);
    add_blocks(b.dout(), 0, length, dx, begin * at.inner, n * at.inner, at.outer, length);
  });
  return y;
}

Tensor concat(const std::vector<Tensor>& parts, int axis) {
  if (parts.empty()) fail("concat", "at least one tensor", "got none");
  detail::check_defined("concat", parts[0]);
  const int a = detail::checked_axis("concat", parts[0].shape(), axis);
  std::int64_t n = 0;
  std::vector<std::int64_t> starts;
  for (const Tensor& p : parts) {
    detail::check_defined("concat", p);
    detail::check_same_dtype("concat", p, parts[0]);
    if (p.rank() != parts[0].rank() || !(p.shape().with(a, 1) == parts[0].shape().with(a, 1))) {
      fail("concat", "shapes that differ in axis " + std::to_string(a) + " alone",
           "got " + parts[0].shape().text() + " and " + p.shape().text());
    }
    starts.push_back(n);
    n += p.shape()[a];
  }
  const Around at(parts[0].shape(), a);
  Tensor y = Tensor::empty(parts[0].shape().with(a, n), parts[0].dtype());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::int64_t length = parts[i].shape()[a] * at.inner;
    copy_blocks(parts[i], 0, length, y, starts[i] * at.inner, n * at.inner, at.outer, length);
  }
  record("concat", {y}, parts, [=](Backward& b) {
    for (std::size_t i = 0; i < starts.size(); ++i) {
      if (!b.wants(int(i))) continue;
      const std::int64_t length = ((i + 1 < starts.size() ? starts[i + 1] : n) - starts[i]) * at.inner;
      GradientSlot d = b.slot(int(i));
      (d.accumulate ? add_blocks : copy_blocks)(b.dout(), starts[i] * at.inner, n * at.inner, d.memory, 0, length,
                                                at.outer, length);
    }
  });
  return y;
}

Tensor transpose(const Tensor& x, int a, int b) {
  detail::check_defined("transpose", x);
  const int i = detail::checked_axis("transpose", x.shape(), a), k = detail::checked_axis("transpose", x.shape(), b);
  const Tensor from = x.detach();
  Tensor y = Tensor::from(from.view().transposed(i, k));
  record("transpose", y, {x}, [i, k](Backward& back) { back.give(0, transpose(back.dout(), i, k)); });
  return y;
}

Tensor split_heads(const Tensor& x, std::int64_t num_heads) {
  detail::check_defined("split_heads", x);
  if (x.rank() != 3 || num_heads < 1 || x.shape()[2] % num_heads != 0) {
    fail("split_heads", "[B, T, C] with C a multiple of " + std::to_string(num_heads) + " heads",
         "got " + x.shape().text());
  }
  return transpose(reshape(x, {x.shape()[0], x.shape()[1], num_heads, x.shape()[2] / num_heads}), 1, 2);
}

Tensor merge_heads(const Tensor& x) {
  detail::check_defined("merge_heads", x);
  if (x.rank() != 4) fail("merge_heads", "[B, H, T, D]", "got " + x.shape().text());
  return reshape(transpose(x, 1, 2), {x.shape()[0], x.shape()[2], x.shape()[1] * x.shape()[3]});
}

Tensor take_rows(const Tensor& x, const Ids& rows) {
  detail::check_defined("take_rows", x);
  if (x.rank() < 1 || rows.shape().rank() != 1) {
    fail("take_rows", "a tensor of rank 1 or more and ids of rank 1",
         "got " + x.shape().text() + " and " + rows.shape().text());
  }
  const Around at(x.shape(), 0);
  Tensor y = Tensor::empty(x.shape().with(0, rows.size()), x.dtype());
  const auto bytes = std::size_t(at.inner) * size_of(x.dtype());
  for (std::int64_t i = 0; i < rows.size(); ++i) {
    if (rows[i] < 0 || rows[i] >= x.shape()[0]) {
      fail("take_rows", "rows in 0 .. " + std::to_string(x.shape()[0] - 1), "got " + std::to_string(rows[i]));
    }
    std::memcpy(static_cast<char*>(y.raw()) + std::size_t(i) * bytes,
                static_cast<const char*>(x.raw()) + std::size_t(rows[i]) * bytes, bytes);
  }
  record("take_rows", y, {x}, [rows, at](Backward& b) {
    Tensor dx = b.zeroed_slot(0);
    for (std::int64_t i = 0; i < rows.size(); ++i) {
      add_blocks(b.dout(), i * at.inner, 0, dx, rows[i] * at.inner, 0, 1, at.inner);
    }
  });
  return y;
}

}  // namespace attune
