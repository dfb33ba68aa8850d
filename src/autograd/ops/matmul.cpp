// matmul and linear over the product kernel; every gradient is one product that overwrites or adds in place.
#include "attune/autograd/ops/matmul.hpp"

#include <string>

#include "autograd/impl.hpp"
#include "kernels/activation.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/matmul.hpp"

namespace attune {
namespace {

/// One operand as the kernel takes it: rows as stored.
template <class T>
struct Operand {
  const T* data;
  std::int64_t stride;
  bool transpose;
  std::int64_t step;  // from product to product
};

/// c [batch][m][n] = (or +=) op(a) op(b), K = k.
template <class T>
void products(std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t k, Operand<T> a, Operand<T> b, T* c,
              std::int64_t c_step, bool accumulate, T* a_sums = nullptr) {
  kernels::Matmul<T> p;
  p.rows = m;
  p.columns = n;
  p.inner = k;
  p.a = a.data;
  p.a_stride = a.stride;
  p.transpose_a = a.transpose;
  p.b = b.data;
  p.b_stride = b.stride;
  p.transpose_b = b.transpose;
  p.c = c;
  p.c_stride = n;
  p.accumulate = accumulate;
  p.a_sums = a_sums;
  if (batch == 1) return kernels::matmul(p);
  if (c_step != 0) return kernels::matmul_batched(p, batch, a.step, b.step, c_step);
  for (std::int64_t i = 0; i < batch; ++i) {  // all into one: in order
    p.a = a.data + i * a.step;
    p.b = b.data + i * b.step;
    p.accumulate = accumulate || i > 0;
    kernels::matmul(p);
  }
}

/// The extents of a call of matmul().
struct Extents {
  std::int64_t batch = 1, m = 0, n = 0, k = 0;
  bool shared = false;  // b has no batch axes
  bool ta = false, tb = false;
  Shape out;

  std::int64_t b_step() const { return shared ? 0 : k * n; }
};

Extents extents_of(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  detail::check_defined("matmul", a);
  detail::check_defined("matmul", b);
  detail::check_same_dtype("matmul", a, b);
  const Shape &sa = a.shape(), &sb = b.shape();
  if (sa.rank() < 2 || sb.rank() < 2) fail("matmul", "rank 2 or more", "got " + sa.text() + " and " + sb.text());
  Extents e;
  e.ta = options.transpose_a;
  e.tb = options.transpose_b;
  e.m = sa.back(e.ta ? 0 : 1);
  e.k = sa.back(e.ta ? 1 : 0);
  e.n = sb.back(e.tb ? 1 : 0);
  const std::int64_t kb = sb.back(e.tb ? 0 : 1);
  bool fits = kb == e.k;
  e.shared = sb.rank() == 2 && sa.rank() > 2;
  if (!e.shared) {
    fits = fits && sa.rank() == sb.rank();
    for (int i = 0; fits && i + 2 < sa.rank(); ++i) fits = sa[i] == sb[i];
  }
  if (!fits) {
    fail("matmul", "[..., M, K] and [..., K, N] (after transposing) with equal leading axes, or none in b",
         "got " + sa.text() + " and " + sb.text());
  }
  for (int i = 0; i + 2 < sa.rank(); ++i) e.batch *= sa[i];
  e.out = sa.with(-2, e.m).with(-1, e.n);
  if (e.shared && !e.ta) {  // one tall matrix
    e.m *= e.batch;
    e.batch = 1;
  }
  return e;
}

}  // namespace

// c = A B with A = op(a), B = op(b): dA = dc B^T, dB = A^T dc; an operand that was transposed gets the transpose.
Tensor matmul(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  const Extents e = extents_of(a, b, options);
  Tensor c = Tensor::empty(e.out, a.dtype());
  const auto operand = []<class T>(const T* data, std::int64_t stored_columns, bool transpose, std::int64_t step) {
    return Operand<T>{data, stored_columns, transpose, step};
  };
  detail::on_compute_type("matmul", a.dtype(), [&]<class T>(T) {
    products<T>(e.batch, e.m, e.n, e.k, operand(a.data<T>(), e.ta ? e.m : e.k, e.ta, e.m * e.k),
                operand(b.data<T>(), e.tb ? e.k : e.n, e.tb, e.b_step()), c.data<T>(), e.m * e.n, false);
  });
  if (!will_record({a, b})) return c;
  record("matmul", c, {a, b}, [e, operand, a = a.detach(), b = b.detach()](Backward& back) {
    const Tensor dc = back.dout();
    detail::on_compute_type("matmul", dc.dtype(), [&]<class T>(T) {
      const std::int64_t sa = e.m * e.k, sb = e.b_step(), sc = e.m * e.n;
      const std::int64_t a_columns = e.ta ? e.m : e.k, b_columns = e.tb ? e.k : e.n;
      const T *pa = a.data<T>(), *pb = b.data<T>(), *pc = dc.data<T>();
      if (back.wants(0)) {
        GradientSlot d = back.slot(0);
        T* to = d.memory.data<T>();
        if (e.ta) {
          products<T>(e.batch, e.k, e.m, e.n, operand(pb, b_columns, e.tb, sb), operand(pc, e.n, true, sc), to, sa,
                      d.accumulate);
        } else {
          products<T>(e.batch, e.m, e.k, e.n, operand(pc, e.n, false, sc), operand(pb, b_columns, !e.tb, sb), to, sa,
                      d.accumulate);
        }
      }
      if (back.wants(1)) {
        GradientSlot d = back.slot(1);
        T* to = d.memory.data<T>();
        if (e.tb) {
          products<T>(e.batch, e.n, e.k, e.m, operand(pc, e.n, true, sc), operand(pa, a_columns, e.ta, sa), to, sb,
                      d.accumulate);
        } else {
          products<T>(e.batch, e.k, e.n, e.m, operand(pa, a_columns, !e.ta, sa), operand(pc, e.n, false, sc), to, sb,
                      d.accumulate);
        }
      }
    });
  });
  return c;
}

namespace {

kernels::Epilogue epilogue_of(Activation a) {
  switch (a) {
    case Activation::relu:
      return kernels::Epilogue::relu;
    case Activation::gelu:
      return kernels::Epilogue::gelu;
    case Activation::silu:
      return kernels::Epilogue::silu;
    default:
      return kernels::Epilogue::none;
  }
}
/// Gradients of y = f(u), u = x W^T + b, from dy and what was saved (relu: y, else f'(u)): du = f' dy, dx = du W, dW =
/// du^T x, db = sum of du over the rows.
template <class T>
void linear_backward(Backward& back, const Tensor& x, const Tensor& weight, const Tensor& saved, Activation f) {
  const std::int64_t out = weight.shape()[0], in = weight.shape()[1], rows = in == 0 ? 0 : x.size() / in;
  Tensor du = back.dout();
  if (f == Activation::relu) {
    const Tensor dy = du;
    du = Tensor::empty(dy.shape(), dy.dtype());
    kernels::pointwise_backward(kernels::Pointwise::relu, dy.size(), saved.data<T>(), dy.data<T>(), du.data<T>(),
                                false);
  } else if (f != Activation::none) {  // nobody else sees the slopes, and this runs once: they turn into du
    const Tensor dy = du;
    du = saved;
    kernels::mul(dy.size(), saved.data<T>(), dy.data<T>(), du.data<T>());
  }
  const T* p = std::as_const(du).data<T>();
  if (back.wants(1)) {
    GradientSlot d = back.slot(1);
    Tensor dbias;  // db is a sum of what this product reads of du
    if (back.wants(2)) dbias = back.zeroed_slot(2);
    products<T>(1, out, in, rows, {p, out, true, 0}, {x.data<T>(), in, false, 0}, d.memory.data<T>(), 0, d.accumulate,
                dbias.defined() ? dbias.data<T>() : nullptr);
  } else if (back.wants(2)) {
    GradientSlot d = back.slot(2);
    kernels::sum_rows(rows, out, p, out, d.memory.data<T>(), d.accumulate);
  }
  if (back.wants(0)) {
    GradientSlot d = back.slot(0);
    products<T>(1, rows, in, out, {p, out, false, 0}, {weight.data<T>(), in, false, 0}, d.memory.data<T>(), 0,
                d.accumulate);
  }
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, Activation activation) {
  detail::check_defined("linear", x);
  detail::check_defined("linear", weight);
  detail::check_same_dtype("linear", x, weight);
  if (weight.rank() != 2 || x.rank() < 1 || x.shape().back() != weight.shape()[1]) {
    fail("linear", "x [..., in] and weight [out, in]", "got " + x.shape().text() + " and " + weight.shape().text());
  }
  const std::int64_t out = weight.shape()[0], in = weight.shape()[1], rows = in == 0 ? 0 : x.size() / in;
  if (bias.defined()) {
    detail::check_same_dtype("linear", x, bias);
    if (!(bias.shape() == Shape{out})) {
      fail("linear", "bias [" + std::to_string(out) + "]", "got " + bias.shape().text());
    }
  }
  const bool records = will_record({x, weight, bias});
  Tensor y = Tensor::empty(x.shape().with(-1, out), x.dtype());
  // relu's derivative is written in its result; that of the others is made beside it.
  Tensor slope;
  if (records && (activation == Activation::gelu || activation == Activation::silu)) {
    slope = Tensor::empty(y.shape(), x.dtype());
  }
  detail::on_compute_type("linear", x.dtype(), [&]<class T>(T) {
    kernels::Matmul<T> p;
    p.rows = rows;
    p.columns = out;
    p.inner = in;
    p.a = x.data<T>();
    p.a_stride = in;
    p.b = weight.data<T>();
    p.b_stride = in;
    p.transpose_b = true;
    p.c = y.data<T>();
    p.c_stride = out;
    p.bias = bias.defined() ? bias.data<T>() : nullptr;
    p.epilogue = epilogue_of(activation);
    p.slope = slope.defined() ? slope.data<T>() : nullptr;
    kernels::matmul(p);
  });
  if (!records) return y;
  Tensor saved = slope.defined() ? slope : activation == Activation::relu ? y.detach() : Tensor();
  record("linear", y, {x, weight, bias}, [x = x.detach(), weight = weight.detach(), saved, activation](Backward& back) {
    detail::on_compute_type("linear", x.dtype(),
                            [&]<class T>(T) { linear_backward<T>(back, x, weight, saved, activation); });
  });
  return y;
}

}  // namespace attune
