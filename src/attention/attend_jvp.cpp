// The engine on dual numbers: views become arrays of (value, tangent), the tile loops run as they do on floats, and the
// two parts of the results are written where they are wanted.
#include "attune/attention/attend_jvp.hpp"

#include <fmt/format.h>

#include <string>
#include <type_traits>
#include <vector>

#include "attention/call.hpp"
#include "attention/sequences.hpp"
#include "attune/base/error.hpp"

namespace attune {
namespace {

using Number = Dual<double>;
using Part = double Number::*;

/// Calls f(element offset in the view, element number) for every row along the last axis.
template <class F>
void each_row_of(const Shape& shape, const Strides& strides, F f) {
  const std::int64_t width = shape.rank() ? shape.back() : 1, rows = width ? shape.size() / width : 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    std::int64_t offset = 0, rest = row;
    for (int axis = shape.rank() - 2; axis >= 0; --axis) {
      offset += rest % shape[axis] * strides[std::size_t(axis)];
      rest /= shape[axis];
    }
    f(offset, row * width, width);
  }
}
/// Calls f(pointer to float or double).
template <class Memory, class F>
void on_numbers(const BasicView<Memory>& v, F f) {
  if (v.dtype == DType::float64)
    f(static_cast<std::conditional_t<std::is_const_v<Memory>, const double, double>*>(v.data));
  else
    f(static_cast<std::conditional_t<std::is_const_v<Memory>, const float, float>*>(v.data));
}

/// One call on duals: checked, its inputs copied, its stages bound.
class DualCall {
 public:
  DualCall(const char* function, const AttendInputs& in, const AttendInputs& tangents, const AttendOptions& o)
      : function_(function), shape_(engine::shape_of(function, in.query, in.key, in.value)) {
    engine::check_options(function, shape_, o);
    problem_ = engine::make_problem<Number>(shape_, o);
    const AttendShape& s = shape_;
    const auto parameters = attend_parameters(o, s);
    if (in.parameters.size() != parameters.size()) {
      fail(function, fmt::format("{} parameters", parameters.size()), fmt::format("got {}", in.parameters.size()));
    }
    if (!tangents.parameters.empty() && tangents.parameters.size() != parameters.size()) {
      fail(function, fmt::format("tangents for none or all of {} parameters", parameters.size()),
           fmt::format("got {}", tangents.parameters.size()));
    }
    out_ = {s.batch_size, s.num_heads, s.num_queries, s.value_dim};
    row_ = {s.batch_size, s.num_heads, s.num_queries};
    take("query", {s.batch_size, s.num_heads, s.num_queries, s.query_dim}, in.query, tangents.query);
    take("key", {s.batch_size, s.num_kv_heads, s.num_keys, s.key_dim}, in.key, tangents.key);
    take("value", {s.batch_size, s.num_kv_heads, s.num_keys, s.value_dim}, in.value, tangents.value);
    for (std::size_t n = 0; n < parameters.size(); ++n) {
      const ConstView tangent = tangents.parameters.empty() ? ConstView() : tangents.parameters[n];
      take(parameters[n].name, parameters[n].shape, in.parameters[n], tangent);
    }
    problem_.query = rows<const Number>(in_[0], shapes_[0]);
    problem_.key = rows<const Number>(in_[1], shapes_[1]);
    problem_.value = rows<const Number>(in_[2], shapes_[2]);
    std::size_t at = 3;
    each_array([&](auto& array) { array.value = in_[at++].data(); });
  }

  void forward(bool entropy) {
    result_.resize(std::size_t(out_.size()));
    lse_.resize(std::size_t(row_.size()));
    entropy_.resize(entropy ? std::size_t(row_.size()) : 0);
    engine::forward(problem_, engine::ForwardResult<Number>{.out = rows<Number>(result_, out_),
                                                            .lse = lse_.data(),
                                                            .entropy = entropy ? entropy_.data() : nullptr});
  }
  void backward(const AttendUpstream& up, const AttendUpstream& tangents) {
    const auto dout = upstream("dout", out_, up.dout, tangents.dout);
    const auto dlse = upstream("dlse", row_, up.dlse, tangents.dlse);
    const auto dentropy = upstream("dentropy", row_, up.dentropy, tangents.dentropy);
    const bool any = up.dout || tangents.dout;
    const std::vector<Number> none(any ? 0 : std::size_t(out_.size()));
    if (!dlse.empty() || !dentropy.empty()) need_lse("gradients of lse or entropy");
    forward(!dentropy.empty());
    for (const auto& array : in_) gradients_.emplace_back(array.size());
    std::size_t at = 3;
    each_array([&](auto& array) { array.grad = gradients_[at++].data(); });
    const auto row_numbers = [](const std::vector<Number>& v) { return v.empty() ? nullptr : v.data(); };
    engine::backward(problem_,
                     engine::BackwardInputs<Number>{.out = rows<const Number>(result_, out_),
                                                    .dout = rows<const Number>(any ? dout : none, out_),
                                                    .lse = lse_.data(),
                                                    .dlse = row_numbers(dlse),
                                                    .entropy = row_numbers(entropy_),
                                                    .dentropy = row_numbers(dentropy)},
                     engine::BackwardResult<Number>{.query = rows<Number>(gradients_[0], shapes_[0]),
                                                    .key = rows<Number>(gradients_[1], shapes_[1]),
                                                    .value = rows<Number>(gradients_[2], shapes_[2])});
  }
  void write(const AttendOutputs& to, Part part) const {
    store("out", to.out, out_, result_, part, false);
    store("lse", to.lse, row_, lse_, part, false);
    store("entropy", to.entropy, row_, entropy_, part, false);
  }
  void write(const AttendGradients& to, Part part) const {
    if (!to.parameters.empty() && to.parameters.size() + 3 != in_.size()) {
      fail(function_, fmt::format("gradients for none or all of {} parameters", in_.size() - 3),
           fmt::format("got {}", to.parameters.size()));
    }
    store("dquery", to.query, shapes_[0], gradients_[0], part, true);
    store("dkey", to.key, shapes_[1], gradients_[1], part, true);
    store("dvalue", to.value, shapes_[2], gradients_[2], part, true);
    for (std::size_t n = 0; n < to.parameters.size(); ++n) {
      store("gradient of a parameter", to.parameters[n], shapes_[3 + n], gradients_[3 + n], part, true);
    }
  }
  void need_lse(const char* what) const {
    const auto& normalizer = *problem_.normalizer.stage;
    if (normalizer.gives_lse()) return;
    fail(function_, std::string("a normalizer with a log-sum-exp for ") + what,
         fmt::format("got {}", normalizer.name()));
  }

 private:
  template <class V>
  void check(const std::string& name, const V& v, const Shape& shape) const {
    if (!(v.shape == shape))
      fail(function_, fmt::format("{} {}", name, shape.text()), fmt::format("got {}", v.shape.text()));
    if (v.dtype != DType::float32 && v.dtype != DType::float64) {
      fail(function_, fmt::format("{} in float32 or float64", name), fmt::format("got {}", name_of(v.dtype)));
    }
    const int last = shape.rank() - 1;
    if (last >= 0 && shape[last] > 1 && v.strides[std::size_t(last)] != 1) {
      fail(function_, fmt::format("{} with a contiguous last dimension", name),
           fmt::format("got stride {}", v.strides[std::size_t(last)]));
    }
  }
  void load(const std::string& name, const ConstView& v, const Shape& shape, std::vector<Number>& to, Part part) const {
    if (v.empty()) return;
    check(name, v, shape);
    on_numbers(v, [&](const auto* from) {
      each_row_of(shape, v.strides, [&](std::int64_t offset, std::int64_t at, std::int64_t n) {
        for (std::int64_t i = 0; i < n; ++i) to[std::size_t(at + i)].*part = double(from[offset + i]);
      });
    });
  }
  void store(const char* name, const View& v, const Shape& shape, const std::vector<Number>& from, Part part,
             bool add) const {
    if (v.empty()) return;
    check(name, v, shape);
    on_numbers(v, [&](auto* to) {
      using T = std::remove_pointer_t<decltype(to)>;
      each_row_of(shape, v.strides, [&](std::int64_t offset, std::int64_t at, std::int64_t n) {
        for (std::int64_t i = 0; i < n; ++i) {
          const double x = from[std::size_t(at + i)].*part;
          to[offset + i] = T(add ? double(to[offset + i]) + x : x);
        }
      });
    });
  }
  void take(const std::string& name, const Shape& shape, const ConstView& value, const ConstView& tangent) {
    if (value.empty() && shape.size() > 0) fail(function_, fmt::format("memory for {}", name), "got none");
    std::vector<Number>& to = in_.emplace_back(std::size_t(shape.size()));
    shapes_.push_back(shape);
    load(name, value, shape, to, &Number::v);
    load("tangent of " + name, tangent, shape, to, &Number::d);
  }
  /// Empty where neither is given.
  std::vector<Number> upstream(const std::string& name, const Shape& shape, const ConstView& value,
                               const ConstView& tangent) const {
    std::vector<Number> to(value || tangent ? std::size_t(shape.size()) : 0);
    load(name, value, shape, to, &Number::v);
    load("tangent of " + name, tangent, shape, to, &Number::d);
    return to;
  }
  template <class T, class Memory>
  static engine::Strided<T> rows(Memory& memory, const Shape& s) {
    return {memory.data(), s[1] * s[2] * s[3], s[2] * s[3], s[3]};
  }
  template <class F>
  void each_array(F f) {
    const auto all = [&](auto& arrays) {
      for (auto& array : arrays) f(array);
    };
    all(problem_.position.arrays);
    all(problem_.score.arrays);
    for (auto& bias : problem_.bias) all(bias.arrays);
    all(problem_.normalizer.arrays);
  }

  const char* function_;
  AttendShape shape_;
  engine::Problem<Number> problem_;
  Shape out_, row_;
  std::vector<Shape> shapes_;                        // of query, key, value and each parameter
  std::vector<std::vector<Number>> in_, gradients_;  // alike
  std::vector<Number> result_, lse_, entropy_;
};

}  // namespace

void attend_jvp(const AttendInputs& in, const AttendInputs& tangents, const AttendJvp& to, const AttendOptions& o) {
  if (o.sequences) return engine::jvp_sequences(in, tangents, to, o);
  DualCall call("attend_jvp", in, tangents, o);
  if (to.value.statistics || to.tangent.statistics) fail("attend_jvp", "no statistics", "they are asked for");
  const bool entropy = to.value.entropy || to.tangent.entropy;
  if (entropy) call.need_lse("an entropy");
  call.forward(entropy);
  call.write(to.value, &Number::v);
  call.write(to.tangent, &Number::d);
}

void attend_backward_jvp(const AttendInputs& in, const AttendInputs& tangents, const AttendUpstream& upstream,
                         const AttendUpstream& upstream_tangents, const AttendBackwardJvp& to, const AttendOptions& o) {
  if (o.sequences) return engine::backward_jvp_sequences(in, tangents, upstream, upstream_tangents, to, o);
  DualCall call("attend_backward_jvp", in, tangents, o);
  call.backward(upstream, upstream_tangents);
  call.write(to.value, &Number::v);
  call.write(to.tangent, &Number::d);
}

}  // namespace attune
