// Sums, means and maxima. Everything is added in blocks of fixed size, the blocks in order.
#include "attune/autograd/ops/reduce.hpp"

#include <string>
#include <vector>

#include "attune/autograd/ops/elementwise.hpp"
#include "autograd/impl.hpp"
#include "autograd/loops.hpp"

namespace attune {
namespace {

/// The shape around an axis: [outer, n, inner].
struct Reduced {
  std::int64_t outer = 1, n = 1, inner = 1;
  Shape reduced;  // without the axis, or with extent 1

  Reduced(const Shape& shape, int axis, bool keep) {
    std::int64_t extents[Shape::kMaxRank] = {};
    int rank = 0;
    for (int i = 0; i < shape.rank(); ++i) {
      (i < axis ? outer : i == axis ? n : inner) *= shape[i];
      if (i != axis)
        extents[rank++] = shape[i];
      else if (keep)
        extents[rank++] = 1;
    }
    reduced = Shape(extents, rank);
  }
};

Tensor scaled_sum(std::string_view name, const Tensor& x, int axis, bool keep, bool divide) {
  detail::check_defined(name, x);
  const Reduced at(x.shape(), detail::checked_axis(name, x.shape(), axis), keep);
  if (divide && at.n == 0) fail(name, "an axis that is not empty", "shape is " + x.shape().text());
  const double factor = divide ? 1.0 / double(at.n) : 1;
  Tensor y = Tensor::empty(at.reduced, x.dtype());
  detail::on_compute_type(name, x.dtype(), [&]<class T>(T) {
    const T* from = x.data<T>();
    T* to = y.data<T>();
    detail::over_rows(at.outer, at.n * at.inner, [=](std::int64_t begin, std::int64_t end) {
      std::vector<double> sum(std::size_t(at.inner), 0.0);
      for (std::int64_t o = begin; o < end; ++o) {
        std::fill(sum.begin(), sum.end(), 0.0);
        for (std::int64_t k = 0; k < at.n; ++k) {
          const T* row = from + (o * at.n + k) * at.inner;
          for (std::int64_t i = 0; i < at.inner; ++i) sum[std::size_t(i)] += double(row[i]);
        }
        for (std::int64_t i = 0; i < at.inner; ++i) to[o * at.inner + i] = T(sum[std::size_t(i)] * factor);
      }
    });
  });
  record(name, y, {x}, [at, factor](Backward& b) {  // dx = factor dy, repeated along the axis
    const GradientSlot dx = b.slot(0);
    const Tensor dy = b.dout();
    detail::on_compute_type("sum", dy.dtype(), [&]<class T>(T) {
      const T* from = dy.data<T>();
      T* to = Tensor(dx.memory).data<T>();
      const T f = T(factor);
      detail::over_rows(at.outer, at.n * at.inner, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t o = begin; o < end; ++o) {
          for (std::int64_t k = 0; k < at.n; ++k) {
            for (std::int64_t i = 0; i < at.inner; ++i) {
              T& d = to[(o * at.n + k) * at.inner + i];
              d = (dx.accumulate ? d : T(0)) + f * from[o * at.inner + i];
            }
          }
        }
      });
    });
  });
  return y;
}

Tensor total(std::string_view name, const Tensor& x, double factor) {
  Tensor y = Tensor::empty(Shape{}, x.dtype());
  detail::on_compute_type(name, x.dtype(), [&]<class T>(T) {
    const T* p = x.data<T>();
    const std::int64_t n = x.size(), blocks = (n + detail::kGrain - 1) / detail::kGrain;
    std::vector<double> part(std::size_t(blocks), 0.0);
    detail::over_elements(n, [&](std::int64_t begin, std::int64_t end) {
      double sum = 0;
      for (std::int64_t i = begin; i < end; ++i) sum += double(p[i]);
      part[std::size_t(begin / detail::kGrain)] = sum;
    });
    double sum = 0;
    for (double s : part) sum += s;
    *y.data<T>() = T(sum * factor);
  });
  record(name, y, {x}, [factor](Backward& b) {  // dx = factor dy everywhere
    GradientSlot dx = b.slot(0);
    detail::on_compute_type("sum", dx.memory.dtype(), [&]<class T>(T) {
      const T d = T(b.dout().item() * factor);
      detail::store(dx.memory.data<T>(), dx.memory.size(), dx.accumulate, [=](std::int64_t) { return d; });
    });
  });
  return y;
}

}  // namespace

Tensor sum(const Tensor& x) {
  detail::check_defined("sum", x);
  return total("sum", x, 1);
}
Tensor mean(const Tensor& x) {
  detail::check_defined("mean", x);
  if (x.size() == 0) fail("mean", "a tensor that is not empty", "shape is " + x.shape().text());
  return total("mean", x, 1.0 / double(x.size()));
}
Tensor sum(const Tensor& x, int axis, bool keep_axis) { return scaled_sum("sum", x, axis, keep_axis, false); }
Tensor mean(const Tensor& x, int axis, bool keep_axis) { return scaled_sum("mean", x, axis, keep_axis, true); }

Tensor max(const Tensor& x, int axis, bool keep_axis) {
  detail::check_defined("max", x);
  const Reduced at(x.shape(), detail::checked_axis("max", x.shape(), axis), keep_axis);
  if (at.n == 0) fail("max", "an axis that is not empty", "shape is " + x.shape().text());
  Tensor y = Tensor::empty(at.reduced, x.dtype());
  std::vector<std::int32_t> where(std::size_t(at.outer * at.inner), 0);
  detail::on_compute_type("max", x.dtype(), [&]<class T>(T) {
    const T* from = x.data<T>();
    T* to = y.data<T>();
    for (std::int64_t o = 0; o < at.outer; ++o) {
      for (std::int64_t i = 0; i < at.inner; ++i) {
        std::int64_t best = 0;
        T top = from[o * at.n * at.inner + i];
        for (std::int64_t k = 1; k < at.n; ++k) {
          const T v = from[(o * at.n + k) * at.inner + i];
          if (v > top || v != v) {  // a NaN is the result, never lost
            top = v;
            best = k;
            if (v != v) break;
          }
        }
        to[o * at.inner + i] = top;
        where[std::size_t(o * at.inner + i)] = std::int32_t(best);
      }
    }
  });
  record("max", y, {x}, [at, where = std::move(where)](Backward& b) {
    Tensor dx = b.zeroed_slot(0);
    const Tensor dy = b.dout();
    detail::on_compute_type("max", dy.dtype(), [&]<class T>(T) {
      for (std::int64_t o = 0; o < at.outer; ++o) {
        for (std::int64_t i = 0; i < at.inner; ++i) {
          const std::int64_t r = o * at.inner + i;
          dx.data<T>()[(o * at.n + where[std::size_t(r)]) * at.inner + i] += dy.data<T>()[r];
        }
      }
    });
  });
  return y;
}

}  // namespace attune
