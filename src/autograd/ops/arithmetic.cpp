// add, sub, mul, div with broadcasting, scale. The gradient of a broadcast input is the sum over what it was repeated
// along, row after row: one fixed order.
#include <algorithm>
#include <string>

#include "attune/autograd/ops/elementwise.hpp"
#include "autograd/impl.hpp"
#include "autograd/loops.hpp"

namespace attune {
namespace {

using detail::kGrain;
using detail::over_elements;
using detail::over_rows;

/// How two shapes meet: the result, seen as rows of its last axis, and the steps of both inputs through it.
struct Meeting {
  Shape out;
  Strides a{}, b{};  // elements; 0 along a repeated axis
  std::int64_t rows = 1, columns = 1;

  static Meeting of(std::string_view name, const Shape& a, const Shape& b) {
    Meeting m;
    const int rank = std::max(a.rank(), b.rank());
    std::int64_t extents[Shape::kMaxRank] = {};
    std::int64_t step_a = 1, step_b = 1;
    for (int i = 0; i < rank; ++i) {  // from the last axis
      const std::int64_t n = i < a.rank() ? a.back(i) : 1, k = i < b.rank() ? b.back(i) : 1;
      if (n != k && n != 1 && k != 1) {
        fail(name, "shapes that broadcast (extents from the right are equal or 1)",
             "got " + a.text() + " and " + b.text());
      }
      const auto at = std::size_t(rank - 1 - i);
      extents[at] = n == 1 ? k : n;
      m.a[at] = n == 1 ? 0 : step_a;
      m.b[at] = k == 1 ? 0 : step_b;
      step_a *= n;
      step_b *= k;
    }
    m.out = Shape(extents, rank);
    if (rank > 0) m.columns = m.out.back();
    for (int i = 0; i + 1 < rank; ++i) m.rows *= extents[i];
    return m;
  }
  /// Element of an input where a row of the result begins.
  std::int64_t offset(const Strides& strides, std::int64_t row) const {
    std::int64_t at = 0;
    for (int i = out.rank() - 2; i >= 0; --i) {
      at += row % out[i] * strides[std::size_t(i)];
      row /= out[i];
    }
    return at;
  }
  std::int64_t step(const Strides& strides) const { return out.rank() == 0 ? 0 : strides[std::size_t(out.rank() - 1)]; }
};

/// y = f(a, b); y has the shape of the result.
template <class T, class F>
void apply(const Meeting& m, const T* a, const T* b, T* y, F f) {
  const std::int64_t sa = m.step(m.a), sb = m.step(m.b);
  over_rows(m.rows, m.columns, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const T *pa = a + m.offset(m.a, r), *pb = b + m.offset(m.b, r);
      T* py = y + r * m.columns;
      if (sa == 1 && sb == 1) {
        for (std::int64_t c = 0; c < m.columns; ++c) py[c] = f(pa[c], pb[c]);
      } else if (sb == 0 && sa == 1) {
        const T v = *pb;
        for (std::int64_t c = 0; c < m.columns; ++c) py[c] = f(pa[c], v);
      } else {
        for (std::int64_t c = 0; c < m.columns; ++c) py[c] = f(pa[c * sa], pb[c * sb]);
      }
    }
  });
}

/// dx += g summed over repeated axes; g has the shape of the result.
template <class T>
void add_reduced(const Meeting& m, const Strides& strides, const T* g, T* dx) {
  const std::int64_t s = m.step(strides);
  for (std::int64_t r = 0; r < m.rows; ++r) {
    T* to = dx + m.offset(strides, r);
    const T* from = g + r * m.columns;
    if (s == 1) {
      for (std::int64_t c = 0; c < m.columns; ++c) to[c] += from[c];
    } else {
      T sum = 0;
      for (std::int64_t c = 0; c < m.columns; ++c) sum += from[c];
      *to += sum;
    }
  }
}

/// Passes g (shape of the result) on to one input.
void give_reduced(Backward& back, int input, const Meeting& m, const Strides& strides, const Shape& shape,
                  const Tensor& g) {
  if (shape == m.out) return back.give(input, g);
  Tensor dx = back.zeroed_slot(input);
  detail::on_compute_type("broadcast", g.dtype(),
                          [&]<class T>(T) { add_reduced(m, strides, g.data<T>(), dx.data<T>()); });
}

template <class F>
Tensor binary(std::string_view name, const Tensor& a, const Tensor& b, F f) {
  detail::check_defined(name, a);
  detail::check_defined(name, b);
  detail::check_same_dtype(name, a, b);
  const Meeting m = Meeting::of(name, a.shape(), b.shape());
  Tensor y = Tensor::empty(m.out, a.dtype());
  detail::on_compute_type(name, a.dtype(), [&]<class T>(T) {
    const T *pa = a.data<T>(), *pb = b.data<T>();
    T* py = y.data<T>();
    if (a.shape() == b.shape()) {
      over_elements(y.size(), [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) py[i] = f(pa[i], pb[i]);
      });
    } else {
      apply(m, pa, pb, py, f);
    }
  });
  return y;
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b) {
  Tensor y = binary("add", a, b, [](auto u, auto v) { return u + v; });
  record("add", y, {a, b}, [sa = a.shape(), sb = b.shape()](Backward& back) {
    const Meeting m = Meeting::of("add", sa, sb);
    if (back.wants(0)) give_reduced(back, 0, m, m.a, sa, back.dout());
    if (back.wants(1)) give_reduced(back, 1, m, m.b, sb, back.dout());
  });
  return y;
}

Tensor sub(const Tensor& a, const Tensor& b) {
  Tensor y = binary("sub", a, b, [](auto u, auto v) { return u - v; });
  record("sub", y, {a, b}, [sa = a.shape(), sb = b.shape()](Backward& back) {
    const Meeting m = Meeting::of("sub", sa, sb);
    if (back.wants(0)) give_reduced(back, 0, m, m.a, sa, back.dout());
    if (back.wants(1)) give_reduced(back, 1, m, m.b, sb, scale(back.dout(), -1));
  });
  return y;
}

// y = a b: da = dy b, db = dy a.
Tensor mul(const Tensor& a, const Tensor& b) {
  Tensor y = binary("mul", a, b, [](auto u, auto v) { return u * v; });
  if (!will_record({a, b})) return y;
  record("mul", y, {a, b}, [a = a.detach(), b = b.detach()](Backward& back) {
    const Meeting m = Meeting::of("mul", a.shape(), b.shape());
    if (back.wants(0)) give_reduced(back, 0, m, m.a, a.shape(), mul(back.dout(), b));
    if (back.wants(1)) give_reduced(back, 1, m, m.b, b.shape(), mul(back.dout(), a));
  });
  return y;
}

// y = a / b: da = dy / b, db = -dy y / b.
Tensor div(const Tensor& a, const Tensor& b) {
  Tensor y = binary("div", a, b, [](auto u, auto v) { return u / v; });
  if (!will_record({a, b})) return y;
  record("div", y, {a, b}, [sa = a.shape(), b = b.detach(), y = y.detach()](Backward& back) {
    const Meeting m = Meeting::of("div", sa, b.shape());
    const Tensor da = div(back.dout(), b);
    if (back.wants(0)) give_reduced(back, 0, m, m.a, sa, da);
    if (back.wants(1)) give_reduced(back, 1, m, m.b, b.shape(), scale(mul(da, y), -1));
  });
  return y;
}

Tensor scale(const Tensor& x, double factor, double offset) {
  detail::check_defined("scale", x);
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  detail::on_compute_type("scale", x.dtype(), [&]<class T>(T) {
    const T* p = x.data<T>();
    const T f = T(factor), o = T(offset);
    detail::store(y.data<T>(), x.size(), false, [=](std::int64_t i) { return p[i] * f + o; });
  });
  record("scale", y, {x}, [factor](Backward& back) { back.give(0, scale(back.dout(), factor)); });
  return y;
}

void detail::accumulate(Tensor& a, const Tensor& b) {
  on_compute_type("accumulate", a.dtype(), [&]<class T>(T) {
    const T* from = b.data<T>();
    store(a.data<T>(), a.size(), true, [=](std::int64_t i) { return from[i]; });
  });
}

}  // namespace attune
