// Dropout: forward and backward draw the same numbers again from (seed, index); nothing is stored.
#include "attune/autograd/ops/dropout.hpp"

#include <string>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/base/dropout.hpp"
#include "autograd/impl.hpp"
#include "kernels/activation.hpp"

namespace attune {
namespace {

std::uint32_t checked_threshold(std::string_view name, double p) {
  if (!(p >= 0 && p < 1)) fail(name, "0 <= p < 1", "got " + std::to_string(p));
  return dropout_threshold(p);
}

/// dx = (or +=) the same dropping of dy: y is linear in x.
void dropout_backward(Backward& b, int input, std::uint32_t threshold, std::uint64_t seed) {
  GradientSlot dx = b.slot(input);
  const Tensor dy = b.dout();
  detail::on_compute_type("dropout", dy.dtype(), [&]<class T>(T) {
    T* to = dx.memory.data<T>();
    if (dx.accumulate)
      kernels::add_dropout(dy.size(), to, dy.data<T>(), threshold, seed, 0, to);
    else
      kernels::dropout(dy.size(), dy.data<T>(), threshold, seed, 0, to);
  });
}

}  // namespace

Tensor dropout(const Tensor& x, double p, std::uint64_t seed) {
  detail::check_defined("dropout", x);
  const std::uint32_t threshold = checked_threshold("dropout", p);
  if (threshold == 65536) return x;
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  detail::on_compute_type("dropout", x.dtype(), [&]<class T>(T) {
    kernels::dropout(x.size(), x.data<T>(), threshold, seed, 0, y.data<T>());
  });
  record("dropout", y, {x}, [threshold, seed](Backward& b) { dropout_backward(b, 0, threshold, seed); });
  return y;
}

Tensor dropout(const Tensor& x, double p, Generator& generator) {
  return p == 0 ? x : dropout(x, p, generator.next_u64());
}

Tensor add_dropout(const Tensor& x, const Tensor& h, double p, std::uint64_t seed) {
  detail::check_defined("add_dropout", x);
  detail::check_defined("add_dropout", h);
  detail::check_same_dtype("add_dropout", x, h);
  if (!(x.shape() == h.shape())) {
    fail("add_dropout", "equal shapes", "got " + x.shape().text() + " and " + h.shape().text());
  }
  const std::uint32_t threshold = checked_threshold("add_dropout", p);
  if (threshold == 65536) return add(x, h);
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  detail::on_compute_type("add_dropout", x.dtype(), [&]<class T>(T) {
    kernels::add_dropout(x.size(), x.data<T>(), h.data<T>(), threshold, seed, 0, y.data<T>());
  });
  record("add_dropout", y, {x, h}, [threshold, seed](Backward& b) {
    if (b.wants(1)) dropout_backward(b, 1, threshold, seed);
    if (b.wants(0)) b.give(0, b.dout());
  });
  return y;
}

Tensor add_dropout(const Tensor& x, const Tensor& h, double p, Generator& generator) {
  return p == 0 ? add(x, h) : add_dropout(x, h, p, generator.next_u64());
}

}  // namespace attune
