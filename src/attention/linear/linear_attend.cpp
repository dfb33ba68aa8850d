// linear_attend_forward and _backward: what a call must be, then the pass of its type.
#include "attune/attention/linear/linear_attend.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "attention/linear/passes.hpp"
#include "attune/base/error.hpp"

namespace attune {
namespace {

constexpr std::string_view kRules[] = {"linear", "gated", "delta", "gated_delta"};
constexpr int kLongestChunk = 256;

/// Of states and gradients.
DType wide_of(DType dtype) { return dtype == DType::float64 ? DType::float64 : DType::float32; }

/// Memory, shape, dtype and, unless `any_strides`, a contiguous last axis.
void check_array(const char* function, const char* name, const ConstView& v, const Shape& shape, DType dtype,
                 bool any_strides = false) {
  if (!(v.shape == shape)) fail(function, fmt::format("{} {}", name, shape.text()), "got " + v.shape.text());
  if (v.empty() && shape.size() > 0) fail(function, fmt::format("memory for {}", name), "got none");
  if (v.dtype != dtype) {
    fail(function, fmt::format("{} of {}", name, name_of(dtype)), "got " + std::string(name_of(v.dtype)));
  }
  if (!any_strides && shape.back() > 1 && v.strides[std::size_t(shape.rank() - 1)] != 1) {
    fail(function, fmt::format("{} with a contiguous last dimension", name),
         fmt::format("got stride {}", v.strides[std::size_t(shape.rank() - 1)]));
  }
}
/// The same without any gaps.
void check_dense(const char* function, const char* name, const ConstView& v, const Shape& shape, DType dtype) {
  check_array(function, name, v, shape, dtype, true);
  const Strides steps = contiguous_strides(shape);
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] > 1 && v.strides[std::size_t(i)] != steps[std::size_t(i)])
      fail(function, fmt::format("{} without gaps", name), fmt::format("got stride {}", v.strides[std::size_t(i)]));
  }
}

Shape state_shape(const LinearAttendShape& s) { return {s.batch_size, s.num_kv_heads, s.feature_dim, s.state_dim}; }
Shape out_shape(const LinearAttendShape& s) { return {s.batch_size, s.num_heads, s.num_queries, s.value_dim}; }
Shape normalizer_shape(const LinearAttendShape& s) { return {s.batch_size, s.num_heads, s.num_queries}; }

void check_linear_options(const char* f, const LinearAttendOptions& o) {
  if (std::size_t(o.rule) >= std::size(kRules)) fail(f, "a rule of UpdateRule", fmt::format("got {}", int(o.rule)));
  if (!o.causal && o.rule != UpdateRule::linear) {
    fail(f, "causal = true for every rule but linear", "got " + std::string(name_of(o.rule)));
  }
  if (o.normalize && takes_beta(o.rule)) {
    fail(f, "normalize with the rules linear and gated", "got " + std::string(name_of(o.rule)));
  }
  if (!std::isfinite(o.scale)) fail(f, "a finite scale", fmt::format("got {}", o.scale));
  if (o.chunk < 0 || o.chunk > kLongestChunk)
    fail(f, fmt::format("a chunk of 0 to {} tokens", kLongestChunk), fmt::format("got {}", o.chunk));
  if (const auto* relu = std::get_if<features::Relu>(&o.features)) {
    if (!(relu->epsilon >= 0) || !std::isfinite(relu->epsilon))
      fail(f, "an epsilon of at least 0", fmt::format("got {}", relu->epsilon));
  }
  if (std::holds_alternative<features::Favor>(o.features) && !o.normalize) {
    fail(f, "normalize = true with the features favor", "got false");
  }
}

LinearAttendShape checked_shape(const char* f, const LinearAttendInputs& in, const LinearAttendOptions& o) {
  check_linear_options(f, o);
  const Shape &q = in.query.shape, &k = in.key.shape, &v = in.value.shape;
  if (q.rank() != 4 || k.rank() != 4 || v.rank() != 4) {
    fail(f, "query, key and value of rank 4", "got " + q.text() + ", " + k.text() + ", " + v.text());
  }
  for (const Shape* shape : {&q, &k, &v}) {
    for (std::int64_t extent : *shape) {
      if (extent > std::numeric_limits<int>::max()) fail(f, "extents below 2^31", "got " + shape->text());
    }
  }
  LinearAttendShape s;
  s.batch_size = int(q[0]), s.num_heads = int(q[1]), s.num_queries = int(q[2]), s.head_dim = int(q[3]);
  s.num_kv_heads = int(k[1]), s.num_keys = int(k[2]), s.value_dim = int(v[3]);
  if (s.head_dim < 1 || s.value_dim < 1) fail(f, "widths of at least 1", "got " + q.text() + " and " + v.text());
  if (s.num_kv_heads < 1 || s.num_heads < 1 || s.num_heads % s.num_kv_heads != 0) {
    fail(f, "query heads that are a multiple of key heads", fmt::format("got {} and {}", s.num_heads, s.num_kv_heads));
  }
  if (o.causal && s.num_queries != s.num_keys) {
    fail(f, "as many queries as keys where causal", fmt::format("got {} and {}", s.num_queries, s.num_keys));
  }
  if (const auto* favor = std::get_if<features::Favor>(&o.features); favor && favor->head_dim() != s.head_dim) {
    fail(f, fmt::format("query [.., {}] as favor was made for", favor->head_dim()), "got " + q.text());
  }
  s.feature_dim = feature_width(o.features, s.head_dim);
  s.state_dim = s.value_dim + (o.normalize ? 1 : 0);
  const DType dtype = in.query.dtype;
  const std::int64_t b = s.batch_size, g = s.num_kv_heads, t = s.num_keys;
  check_array(f, "query", in.query, q, dtype);
  check_array(f, "key", in.key, {b, g, t, s.head_dim}, dtype);
  check_array(f, "value", in.value, {b, g, t, s.value_dim}, dtype);
  if (takes_decay(o.rule)) {
    if (in.decay.shape.rank() == 3)
      check_array(f, "decay", in.decay, {b, g, t}, dtype, true);
    else
      check_array(f, "decay", in.decay, {b, g, t, s.feature_dim}, dtype);
  } else if (in.decay) {
    fail(f, "no decay for the rule " + std::string(name_of(o.rule)), "got " + in.decay.shape.text());
  }
  if (takes_beta(o.rule)) {
    const bool shared = in.beta.shape.rank() == 3 && in.beta.shape[1] == 1;
    check_array(f, "beta", in.beta, {b, shared ? 1 : g, t}, dtype, true);
  } else if (in.beta) {
    fail(f, "no beta for the rule " + std::string(name_of(o.rule)), "got " + in.beta.shape.text());
  }
  if (in.state) check_dense(f, "state", in.state, state_shape(s), wide_of(dtype));
  if (!o.valid_keys.empty()) {
    if (std::int64_t(o.valid_keys.size()) != b)
      fail(f, fmt::format("{} valid_keys", b), fmt::format("got {}", o.valid_keys.size()));
    for (int n : o.valid_keys) {
      if (n < 0 || n > t) fail(f, fmt::format("valid_keys of 0 to {}", t), fmt::format("got {}", n));
    }
  }
  return s;
}

}  // namespace

std::string_view name_of(UpdateRule rule) { return kRules[std::size_t(rule)]; }

UpdateRule update_rule_from_name(std::string_view name) {
  for (std::size_t i = 0; i < std::size(kRules); ++i) {
    if (kRules[i] == name) return UpdateRule(i);
  }
  fail("update_rule_from_name", "linear, gated, delta or gated_delta", "got " + std::string(name));
}

LinearAttendShape linear_shape(const LinearAttendInputs& in, const LinearAttendOptions& options) {
  return checked_shape("linear_shape", in, options);
}

void linear_attend_forward(const LinearAttendInputs& in, const LinearAttendOutputs& out,
                           const LinearAttendOptions& options) {
  constexpr const char* kFunction = "linear_attend_forward";
  const LinearAttendShape s = checked_shape(kFunction, in, options);
  const DType dtype = in.query.dtype, wide = wide_of(dtype);
  if (out.out) check_array(kFunction, "out", out.out, out_shape(s), dtype);
  if (out.state) check_dense(kFunction, "state", out.state, state_shape(s), wide);
  if (out.normalizer) {
    if (!options.normalize) fail(kFunction, "a normalizer of normalized calls alone", "normalize is false");
    check_dense(kFunction, "normalizer", out.normalizer, normalizer_shape(s), wide);
  }
  if (dtype == DType::float64)
    engine::linear_forward<double>(s, in, out, options);
  else
    engine::linear_forward<float>(s, in, out, options);
}

void linear_attend_backward(const LinearAttendInputs& in, const LinearAttendUpstream& up,
                            const LinearAttendGradients& gradients, const LinearAttendOptions& options) {
  constexpr const char* kFunction = "linear_attend_backward";
  const LinearAttendShape s = checked_shape(kFunction, in, options);
  const DType dtype = in.query.dtype, wide = wide_of(dtype);
  if (up.dout) {
    check_array(kFunction, "dout", up.dout, out_shape(s), dtype);
    if (options.normalize) {
      check_array(kFunction, "out", up.out, out_shape(s), dtype);
      check_dense(kFunction, "normalizer", up.normalizer, normalizer_shape(s), wide);
    }
  }
  if (up.dstate) check_dense(kFunction, "dstate", up.dstate, state_shape(s), wide);
  const auto check = [&](const char* name, const View& v, const Shape& shape, bool any_strides) {
    if (v) check_array(kFunction, name, v, shape, wide, any_strides);
  };
  check("gradient of query", gradients.query, in.query.shape, false);
  check("gradient of key", gradients.key, in.key.shape, false);
  check("gradient of value", gradients.value, in.value.shape, false);
  if (gradients.decay && !in.decay) fail(kFunction, "a gradient of decay for rules that take it", "this one does not");
  if (gradients.beta && !in.beta) fail(kFunction, "a gradient of beta for rules that take it", "this one does not");
  check("gradient of decay", gradients.decay, in.decay.shape, in.decay.shape.rank() == 3);
  check("gradient of beta", gradients.beta, in.beta.shape, true);
  if (gradients.state) check_dense(kFunction, "gradient of state", gradients.state, state_shape(s), wide);
  if (dtype == DType::float64)
    engine::linear_backward<double>(s, in, up, gradients, options);
  else
    engine::linear_backward<float>(s, in, up, gradients, options);
}

}  // namespace attune
