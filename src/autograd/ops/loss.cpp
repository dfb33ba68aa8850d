// Cross-entropy: the forward pass makes the gradient of the logits as well, where it can in their own memory, so that
// neither probabilities nor logits are kept.  dlogits = factor ((1 + 2 z lse) softmax(logits) - target)
#include "attune/autograd/ops/loss.hpp"

#include <cmath>
#include <string>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/reduce.hpp"
#include "autograd/impl.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/loss.hpp"

namespace attune {

Tensor cross_entropy(Tensor logits, const Ids& targets, const CrossEntropyOptions& options) {
  detail::check_defined("cross_entropy", logits);
  const Shape& shape = logits.shape();
  if (shape.rank() < 1 || shape.back() < 1 || targets.size() != shape.size() / shape.back()) {
    fail("cross_entropy", "logits [..., V] and one target a row",
         "got " + shape.text() + " and " + std::to_string(targets.size()) + " targets");
  }
  if (!(options.label_smoothing >= 0 && options.label_smoothing <= 1)) {
    fail("cross_entropy", "0 <= label_smoothing <= 1", "got " + std::to_string(options.label_smoothing));
  }
  if (!(options.z_loss >= 0 && std::isfinite(options.z_loss))) {
    fail("cross_entropy", "a finite z_loss of 0 or more", "got " + std::to_string(options.z_loss));
  }
  const std::int64_t classes = shape.back(), rows = targets.size();
  std::int64_t counted = 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    if (targets[i] == options.ignore_index) continue;
    if (targets[i] < 0 || targets[i] >= classes) {
      fail("cross_entropy",
           "targets in 0 .. " + std::to_string(classes - 1) + " or the ignored " + std::to_string(options.ignore_index),
           "row " + std::to_string(i) + " has " + std::to_string(targets[i]));
    }
    ++counted;
  }
  const double factor = options.reduction == Reduction::sum || counted == 0 ? 1 : 1 / double(counted);
  const bool records = will_record({logits});
  const DType dtype = logits.dtype();
  Tensor dlogits;
  if (records) {
    // Memory that nobody else sees turns into the gradient where it lies.
    const bool given_away = detail::is_unique(logits);
    dlogits = given_away ? logits.detach() : Tensor::empty(shape, dtype);
  }
  Tensor loss = Tensor::empty(Shape{}, dtype);
  detail::on_compute_type("cross_entropy", dtype, [&]<class T>(T) {
    Tensor each = Tensor::empty({rows}, dtype);
    kernels::CrossEntropy<T> c;
    c.rows = rows;
    c.classes = classes;
    c.logits = logits.data<T>();
    c.labels = targets.data();
    c.label_smoothing = options.label_smoothing;
    c.z_loss = options.z_loss;
    c.ignore_index = options.ignore_index;
    c.loss = each.data<T>();
    c.dlogits = records ? dlogits.data<T>() : nullptr;
    c.grad_scale = T(factor);
    kernels::cross_entropy(c);
    *loss.data<T>() = T(kernels::sum(rows, std::as_const(each).data<T>()) * factor);
  });
  // dlogits = factor (softmax(logits) - target) was made in the forward pass; here it meets d(loss).
  record("cross_entropy", loss, {logits}, [dlogits](Backward& b) {
    const double dloss = b.dout().item();
    b.give(0, dloss == 1 ? dlogits : scale(dlogits, dloss));
  });
  return loss;
}

Tensor mean_squared_error(const Tensor& a, const Tensor& b) {
  detail::check_defined("mean_squared_error", a);
  detail::check_defined("mean_squared_error", b);
  if (!(a.shape() == b.shape())) {
    fail("mean_squared_error", "equal shapes", "got " + a.shape().text() + " and " + b.shape().text());
  }
  const Tensor difference = sub(a, b);
  return mean(mul(difference, difference));
}

}  // namespace attune
