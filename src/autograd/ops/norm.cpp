// Layer norm and RMS norm: shapes checked, statistics kept for the backward, the rows left to the kernels.
//   y = (x - mean) rstd weight + bias,   dx = rstd (g - mean(g) - xhat mean(g xhat)),   g = dy weight
#include "attune/autograd/ops/norm.hpp"

#include <string>

#include "autograd/impl.hpp"
#include "kernels/norm.hpp"

namespace attune {
namespace {

template <class T>
const T* data_or_null(const Tensor& x) {
  return x.defined() ? x.data<T>() : nullptr;
}

void check(std::string_view name, const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  detail::check_defined(name, x);
  if (x.rank() < 1 || x.shape().back() < 1) {
    fail(name, "x [..., C] with C of at least 1", "got " + x.shape().text());
  }
  for (const Tensor* t : {&weight, &bias}) {
    if (!t->defined()) continue;
    detail::check_same_dtype(name, x, *t);
    if (!(t->shape() == Shape{x.shape().back()})) {
      fail(name, "weight and bias [" + std::to_string(x.shape().back()) + "]", "got " + t->shape().text());
    }
  }
  if (!(epsilon >= 0)) fail(name, "epsilon of at least 0", "got " + std::to_string(epsilon));
}

/// Memory that a kernel adds to, or null where no gradient is wanted.
template <class T>
T* adds_to(Backward& b, int input, Tensor& keep) {
  if (!b.wants(input)) return nullptr;
  keep = b.zeroed_slot(input);
  return keep.data<T>();
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  check("layer_norm", x, weight, bias, epsilon);
  const std::int64_t width = x.shape().back(), rows = x.size() / width;
  const bool records = will_record({x, weight, bias});
  Tensor y = Tensor::empty(x.shape(), x.dtype()), mean, rstd;
  if (records) {
    mean = Tensor::empty({rows}, x.dtype());
    rstd = Tensor::empty({rows}, x.dtype());
  }
  detail::on_compute_type("layer_norm", x.dtype(), [&]<class T>(T) {
    kernels::layer_norm<T>(rows, width, x.data<T>(), data_or_null<T>(weight), data_or_null<T>(bias), epsilon,
                           y.data<T>(), records ? mean.data<T>() : nullptr, records ? rstd.data<T>() : nullptr);
  });
  if (!records) return y;
  // y = (x - mean) rstd weight + bias: dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = dy weight.
  record("layer_norm", y, {x, weight, bias},
         [=, x = x.detach(), weight = weight.defined() ? weight.detach() : Tensor()](Backward& b) {
           detail::on_compute_type("layer_norm", x.dtype(), [&]<class T>(T) {
             const Tensor dy = b.dout();
             Tensor dweight, dbias;
             GradientSlot dx{Tensor(), false};
             if (b.wants(0)) dx = b.slot(0);
             T* pw = adds_to<T>(b, 1, dweight);
             T* pb = adds_to<T>(b, 2, dbias);
             kernels::layer_norm_backward<T>(
                 rows, width, x.data<T>(), data_or_null<T>(weight), mean.data<T>(), rstd.data<T>(), dy.data<T>(),
                 dx.memory.defined() ? dx.memory.data<T>() : nullptr, dx.accumulate, pw, pb);
           });
         });
  return y;
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  check("rms_norm", x, weight, {}, epsilon);
  const std::int64_t width = x.shape().back(), rows = x.size() / width;
  const bool records = will_record({x, weight});
  Tensor y = Tensor::empty(x.shape(), x.dtype()), rstd;
  if (records) rstd = Tensor::empty({rows}, x.dtype());
  detail::on_compute_type("rms_norm", x.dtype(), [&]<class T>(T) {
    kernels::rms_norm<T>(rows, width, x.data<T>(), data_or_null<T>(weight), epsilon, y.data<T>(),
                         records ? rstd.data<T>() : nullptr);
  });
  if (!records) return y;
  // y = x rstd weight: dx = rstd (g - xhat mean(g xhat)) with g = dy weight.
  record("rms_norm", y, {x, weight},
         [=, x = x.detach(), weight = weight.defined() ? weight.detach() : Tensor()](Backward& b) {
           detail::on_compute_type("rms_norm", x.dtype(), [&]<class T>(T) {
             const Tensor dy = b.dout();
             Tensor dweight;
             GradientSlot dx{Tensor(), false};
             if (b.wants(0)) dx = b.slot(0);
             T* pw = adds_to<T>(b, 1, dweight);
             kernels::rms_norm_backward<T>(rows, width, x.data<T>(), data_or_null<T>(weight), rstd.data<T>(),
                                           dy.data<T>(), dx.memory.defined() ? dx.memory.data<T>() : nullptr,
                                           dx.accumulate, pw);
           });
         });
  return y;
}

}  // namespace attune
