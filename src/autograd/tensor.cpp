// Tensor: making, looking at and converting; handles on blocks of the cache. The walk back is in tape.cpp.
#include "attune/autograd/tensor.hpp"

#include <algorithm>
#include <cstring>

#include "autograd/impl.hpp"
#include "kernels/elementwise.hpp"

namespace attune {
namespace {

using detail::Storage;
using detail::TensorImpl;

detail::TensorImpl& checked(const std::shared_ptr<TensorImpl>& impl, std::string_view function) {
  if (!impl) fail(function, "a tensor", "this one is undefined");
  return *impl;
}
std::int64_t bytes_of(const Shape& shape, DType dtype) { return shape.size() * std::int64_t(size_of(dtype)); }

void fill_any(Tensor& x, double value) {
  switch (x.dtype()) {
    case DType::float32:
      kernels::fill(x.size(), float(value), x.data<float>());
      return;
    case DType::float64:
      kernels::fill(x.size(), value, x.data<double>());
      return;
    case DType::bfloat16:
      std::fill_n(x.data<BFloat16>(), x.size(), BFloat16(float(value)));
      return;
    case DType::float16:
      std::fill_n(x.data<Float16>(), x.size(), Float16(float(value)));
      return;
  }
}

/// Numbers made in double, one after the other, stored in any dtype.
template <class F>
Tensor generated(const Shape& shape, DType dtype, F next) {
  Tensor x = Tensor::empty(shape, DType::float64);
  double* p = x.data<double>();
  for (std::int64_t i = 0; i < x.size(); ++i) p[i] = next();
  if (dtype == DType::float64) return x;
  Tensor y = Tensor::empty(shape, dtype);
  convert(DType::float64, p, dtype, y.raw(), x.size());
  return y;
}

/// Copies a strided view row by row into contiguous memory.
void pack(const ConstView& v, char* to) {
  const std::size_t element = size_of(v.dtype);
  const int rank = v.shape.rank();
  const std::int64_t columns = rank == 0 ? 1 : v.shape.back(), step = rank == 0 ? 1 : v.strides[std::size_t(rank - 1)];
  const std::int64_t rows = columns == 0 ? 0 : v.shape.size() / columns;
  for (std::int64_t r = 0; r < rows; ++r) {
    std::int64_t rest = r, offset = 0;
    for (int a = rank - 2; a >= 0; --a) {
      offset += rest % v.shape[a] * v.strides[std::size_t(a)];
      rest /= v.shape[a];
    }
    const char* from = static_cast<const char*>(v.data) + offset * std::int64_t(element);
    if (step == 1) {
      std::memcpy(to, from, std::size_t(columns) * element);
    } else {
      for (std::int64_t c = 0; c < columns; ++c) {
        std::memcpy(to + c * std::int64_t(element), from + c * step * std::int64_t(element), element);
      }
    }
    to += columns * std::int64_t(element);
  }
}

}  // namespace

// --- making one ------------------------------------------------------------------------------------------------------

Tensor Tensor::empty(const Shape& shape, DType dtype) {
  auto impl = std::make_shared<TensorImpl>();
  impl->storage = std::make_shared<Storage>(bytes_of(shape, dtype));
  impl->shape = shape;
  impl->dtype = dtype;
  return Tensor(std::move(impl));
}
Tensor Tensor::zeros(const Shape& shape, DType dtype) {
  Tensor x = empty(shape, dtype);
  std::memset(x.raw(), 0, std::size_t(bytes_of(shape, dtype)));  // all bits 0 is 0 in every dtype
  return x;
}
Tensor Tensor::ones(const Shape& shape, DType dtype) { return full(shape, 1, dtype); }
Tensor Tensor::full(const Shape& shape, double value, DType dtype) {
  Tensor x = empty(shape, dtype);
  fill_any(x, value);
  return x;
}
Tensor Tensor::from(std::initializer_list<double> values, const Shape& shape, DType dtype) {
  Tensor x = copy_of(ConstView(values.begin(), Shape{std::int64_t(values.size())}), shape);
  return x.to(dtype);
}
Tensor Tensor::from(const ConstView& view) {
  Tensor x = empty(view.shape, view.dtype);
  pack(view, static_cast<char*>(x.raw()));
  return x;
}
Tensor Tensor::copy_of(const ConstView& values, const Shape& shape) {
  if (values.shape.size() != shape.size()) {
    fail("Tensor::from", std::to_string(shape.size()) + " values for shape " + shape.text(),
         "got " + std::to_string(values.shape.size()));
  }
  Tensor x = empty(shape, values.dtype);
  if (shape.size() > 0) std::memcpy(x.raw(), values.data, std::size_t(bytes_of(shape, values.dtype)));
  return x;
}
Tensor Tensor::randn(const Shape& shape, Generator& generator, DType dtype) {
  return generated(shape, dtype, [&] { return generator.normal(); });
}
Tensor Tensor::uniform(const Shape& shape, double low, double high, Generator& generator, DType dtype) {
  return generated(shape, dtype, [&] { return generator.uniform(low, high); });
}

// --- looking at it ---------------------------------------------------------------------------------------------------

const Shape& Tensor::shape() const { return checked(impl_, "Tensor::shape").shape; }
DType Tensor::dtype() const { return checked(impl_, "Tensor::dtype").dtype; }
void* Tensor::raw() const { return checked(impl_, "Tensor::raw").data(); }
void* Tensor::checked_data(DType expected) const {
  TensorImpl& impl = checked(impl_, "Tensor::data");
  if (impl.dtype != expected) {
    fail("Tensor::data", "a tensor of " + std::string(name_of(expected)),
         "this one is " + std::string(name_of(impl.dtype)));
  }
  return impl.data();
}
View Tensor::view() { return View(raw(), dtype(), shape()); }
ConstView Tensor::view() const { return ConstView(raw(), dtype(), shape()); }
double Tensor::item() const {
  if (size() != 1) fail("Tensor::item", "a tensor of one element", "shape is " + shape().text());
  double x;
  attune::convert(dtype(), raw(), DType::float64, &x, 1);
  return x;
}
std::vector<double> Tensor::to_vector() const {
  std::vector<double> v(std::size_t(size()), 0.0);
  attune::convert(dtype(), raw(), DType::float64, v.data(), size());
  return v;
}

// --- the same numbers otherwise --------------------------------------------------------------------------------------

Tensor Tensor::to(DType dtype) const {
  if (dtype == this->dtype()) return *this;
  Tensor y = empty(shape(), dtype);
  attune::convert(this->dtype(), raw(), dtype, y.raw(), size());
  if (will_record({*this})) {
    if (dtype != DType::float32 && dtype != DType::float64) {
      fail("Tensor::to", "float32 or float64 for a tensor that needs a gradient", "got " + std::string(name_of(dtype)));
    }
    record("to", y, {*this}, [back = this->dtype()](Backward& b) { b.give(0, b.dout().to(back)); });
  }
  return y;
}
Tensor Tensor::detach() const { return detail::alias(*this, shape()); }
Tensor Tensor::clone() const {
  Tensor y = empty(shape(), dtype());
  std::memcpy(y.raw(), raw(), std::size_t(bytes_of(shape(), dtype())));
  return y;
}
void Tensor::copy_from(const Tensor& source) {
  if (!(source.shape() == shape())) {
    fail("Tensor::copy_from", "shape " + shape().text(), "the source has " + source.shape().text());
  }
  if (source.raw() == raw()) return;
  attune::convert(source.dtype(), source.raw(), dtype(), raw(), size());
}
void Tensor::fill(double value) {
  checked(impl_, "Tensor::fill");
  fill_any(*this, value);
}
void Tensor::convert(DType dtype) {
  TensorImpl& impl = checked(impl_, "Tensor::convert");
  if (impl.node) fail("Tensor::convert", "a leaf", "this is the result of " + std::string(impl.node->name));
  impl.grad = Tensor();
  if (dtype == impl.dtype) return;
  auto storage = std::make_shared<Storage>(bytes_of(impl.shape, dtype));
  attune::convert(impl.dtype, impl.data(), dtype, storage->memory, impl.shape.size());
  impl.storage = std::move(storage);
  impl.offset = 0;
  impl.dtype = dtype;
}

// --- gradients -------------------------------------------------------------------------------------------------------

Tensor& Tensor::requires_grad(bool on) {
  TensorImpl& impl = checked(impl_, "Tensor::requires_grad");
  if (impl.node) {
    fail("Tensor::requires_grad", "a leaf (detach() makes one)",
         "this is the result of " + std::string(impl.node->name));
  }
  if (on) detail::on_compute_type("Tensor::requires_grad", impl.dtype, [](auto) {});
  impl.requires_grad = on;
  return *this;
}
bool Tensor::needs_grad() const { return impl_ && (impl_->requires_grad || impl_->node); }
bool Tensor::is_leaf() const { return impl_ && impl_->requires_grad; }
bool Tensor::has_grad() const { return impl_ && impl_->grad.defined(); }
Tensor Tensor::grad() const {
  const TensorImpl& impl = checked(impl_, "Tensor::grad");
  if (!impl.grad) {
    fail("Tensor::grad", "a tensor that has a gradient",
         impl.requires_grad ? "no backward() has reached this one"
         : impl.node        ? "this is the result of " + std::string(impl.node->name) + "; leaves keep gradients"
                            : "this one does not want any; see requires_grad()");
  }
  return impl.grad;
}
void Tensor::set_grad(const Tensor& gradient) {
  TensorImpl& impl = checked(impl_, "Tensor::set_grad");
  if (!(gradient.shape() == impl.shape) || gradient.dtype() != impl.dtype) {
    fail("Tensor::set_grad", std::string(name_of(impl.dtype)) + " of shape " + impl.shape.text(),
         "got " + std::string(name_of(gradient.dtype())) + " of shape " + gradient.shape().text());
  }
  impl.grad = gradient;
}
void Tensor::zero_grad() {
  if (has_grad()) impl_->grad.fill(0);
}

// --- helpers ---------------------------------------------------------------------------------------------------------

Tensor detail::alias(const Tensor& x, const Shape& shape, std::int64_t offset) {
  const TensorImpl& from = checked(x.impl(), "alias");
  auto impl = std::make_shared<TensorImpl>();
  impl->storage = from.storage;
  impl->offset = from.offset + offset;
  impl->shape = shape;
  impl->dtype = from.dtype;
  return Tensor(std::move(impl));
}
bool detail::is_unique(const Tensor& x) { return x.impl().use_count() == 1 && x.impl()->storage.use_count() == 1; }

void detail::check_same_dtype(std::string_view function, const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype()) {
    fail(function, "tensors of one dtype",
         "got " + std::string(name_of(a.dtype())) + " and " + std::string(name_of(b.dtype())));
  }
}
void detail::check_defined(std::string_view function, const Tensor& x) {
  if (!x.defined()) fail(function, "a tensor", "got an undefined one");
}
int detail::checked_axis(std::string_view function, const Shape& shape, int axis) {
  const int a = axis < 0 ? axis + shape.rank() : axis;
  if (a < 0 || a >= shape.rank()) {
    fail(function, "an axis of shape " + shape.text(), "got " + std::to_string(axis));
  }
  return a;
}

Generator& default_generator() {
  thread_local Generator generator(0);
  return generator;
}
void set_seed(std::uint64_t seed) { default_generator() = Generator(seed); }
Tensor randn(const Shape& shape, DType dtype) { return Tensor::randn(shape, default_generator(), dtype); }

}  // namespace attune
