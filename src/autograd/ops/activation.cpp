// Functions of one element, and softmax over rows. What a derivative is written in (the input or the output) is what is
// saved.
#include <array>
#include <string>

#include "attune/autograd/ops/elementwise.hpp"
#include "autograd/impl.hpp"
#include "kernels/activation.hpp"
#include "kernels/loss.hpp"

namespace attune {
namespace {

using kernels::Pointwise;

/// y = f(x); dx = f'(saved) dy.
Tensor unary(std::string_view name, Pointwise f, const Tensor& x) {
  detail::check_defined(name, x);
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  detail::on_compute_type(name, x.dtype(),
                          [&]<class T>(T) { kernels::pointwise(f, x.size(), x.data<T>(), y.data<T>()); });
  if (!will_record({x})) return y;
  // relu takes either; its result is kept by the next operator anyway.
  const bool result = kernels::saves_result(f) || f == Pointwise::relu;
  record(name, y, {x}, [f, saved = (result ? y : x).detach()](Backward& b) {
    GradientSlot dx = b.slot(0);
    const Tensor dy = b.dout();
    detail::on_compute_type("unary", dy.dtype(), [&]<class T>(T) {
      kernels::pointwise_backward(f, dy.size(), saved.data<T>(), dy.data<T>(), dx.memory.data<T>(), dx.accumulate);
    });
  });
  return y;
}

struct LastAxis {
  std::int64_t rows, width;
  explicit LastAxis(const Shape& s) : rows(s.back() == 0 ? 0 : s.size() / s.back()), width(s.back()) {}
};
void check_rows(std::string_view name, const Tensor& x) {
  detail::check_defined(name, x);
  if (x.rank() < 1) fail(name, "a tensor of rank 1 or more", "shape is " + x.shape().text());
}

}  // namespace

Tensor exp(const Tensor& x) { return unary("exp", Pointwise::exp, x); }
Tensor log(const Tensor& x) { return unary("log", Pointwise::log, x); }
Tensor sqrt(const Tensor& x) { return unary("sqrt", Pointwise::sqrt, x); }
Tensor tanh(const Tensor& x) { return unary("tanh", Pointwise::tanh, x); }
Tensor sigmoid(const Tensor& x) { return unary("sigmoid", Pointwise::sigmoid, x); }
Tensor relu(const Tensor& x) { return unary("relu", Pointwise::relu, x); }
Tensor silu(const Tensor& x) { return unary("silu", Pointwise::silu, x); }
Tensor gelu(const Tensor& x) { return unary("gelu", Pointwise::gelu, x); }

Tensor activate(const Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return relu(x);
    case Activation::gelu:
      return gelu(x);
    case Activation::silu:
      return silu(x);
  }
  fail("activate", "an activation", "got number " + std::to_string(int(activation)));
}

namespace {
constexpr std::array<std::string_view, 4> kActivations = {"none", "relu", "gelu", "silu"};
}
std::string_view name_of(Activation a) { return kActivations[std::size_t(a)]; }
Activation activation_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kActivations.size(); ++i) {
    if (kActivations[i] == name) return Activation(i);
  }
  std::string finding = "got \"";
  finding.append(name).append("\"");
  fail("activation_from_name", "none, relu, gelu or silu", finding);
}

// y = exp(x) / sum exp(x): dx = y (dy - sum(y dy)).
Tensor softmax(const Tensor& x) {
  check_rows("softmax", x);
  const LastAxis r(x.shape());
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  detail::on_compute_type("softmax", x.dtype(),
                          [&]<class T>(T) { kernels::softmax(r.rows, r.width, x.data<T>(), y.data<T>()); });
  if (!will_record({x})) return y;
  record("softmax", y, {x}, [r, y = y.detach()](Backward& b) {
    GradientSlot dx = b.slot(0);
    const Tensor dy = b.dout();
    detail::on_compute_type("softmax", dy.dtype(), [&]<class T>(T) {
      kernels::softmax_backward(r.rows, r.width, y.data<T>(), dy.data<T>(), dx.memory.data<T>(), dx.accumulate);
    });
  });
  return y;
}

// y = x - lse(x): dx = dy - exp(y) sum(dy).
Tensor log_softmax(const Tensor& x) {
  check_rows("log_softmax", x);
  const LastAxis r(x.shape());
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  detail::on_compute_type("log_softmax", x.dtype(),
                          [&]<class T>(T) { kernels::log_softmax(r.rows, r.width, x.data<T>(), y.data<T>()); });
  if (!will_record({x})) return y;
  record("log_softmax", y, {x}, [r, y = y.detach()](Backward& b) {
    GradientSlot dx = b.slot(0);
    const Tensor dy = b.dout();
    detail::on_compute_type("log_softmax", dy.dtype(), [&]<class T>(T) {
      kernels::log_softmax_backward(r.rows, r.width, y.data<T>(), dy.data<T>(), dx.memory.data<T>(), dx.accumulate);
    });
  });
  return y;
}

}  // namespace attune
