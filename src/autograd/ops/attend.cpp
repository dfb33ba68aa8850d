// attend and attend_packed: where the heads lie, the engine's two calls, and the map of probabilities.
#include "attune/autograd/ops/attend.hpp"

#include <array>
#include <string>
#include <utility>

#include "autograd/impl.hpp"

namespace attune {
namespace {

/// How an operand [B, H, T, D] lies in the tensor that holds it.
struct Place {
  int input = 0;            // which of the call's distinct tensors
  std::int64_t offset = 0;  // elements
  Shape shape;
  Strides strides{};

  View in(const Tensor& tensor) const {
    return View(static_cast<char*>(tensor.raw()) + offset * std::int64_t(size_of(tensor.dtype())), tensor.dtype(),
                shape, strides);
  }
};

/// One call: its distinct tensors and where query, key, value and out lie.
struct Call3 {
  std::vector<Tensor> inputs;  // 1 to 3 tensors, then the parameters
  std::size_t num_tensors = 0;
  std::array<Place, 3> places;  // query, key, value
  Shape out_shape;              // as it is returned
  Place out;                    // as [B, H, Tq, Dv]
  AttendOptions options;

  /// Adds an operand's tensor, or finds it.
  int input_of(const Tensor& t) {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i].is(t)) return int(i);
    }
    inputs.push_back(t);
    return int(inputs.size() - 1);
  }
  AttendInputs views(const std::vector<Tensor>& tensors) const {
    AttendInputs in;
    in.query = places[0].in(tensors[std::size_t(places[0].input)]);
    in.key = places[1].in(tensors[std::size_t(places[1].input)]);
    in.value = places[2].in(tensors[std::size_t(places[2].input)]);
    for (std::size_t i = num_tensors; i < tensors.size(); ++i) in.parameters.push_back(tensors[i].view());
    return in;
  }
};

// d of out = normalize(mask(bias(score(position(query), position(key))))) . value, lse and entropy: the engine adds all
// of them into zeroed memory.
void backward(Backward& b, const Call3& call, const std::vector<Tensor>& inputs, const Tensor& out, const Tensor& lse,
              const Tensor& entropy) {
  AttendUpstream up;
  up.out = call.out.in(out);
  up.lse = lse.view();
  const Tensor dout = b.has_dout(0) ? b.dout(0) : Tensor::zeros(call.out_shape, out.dtype());
  up.dout = call.out.in(dout);
  if (b.has_dout(1)) up.dlse = std::as_const(b).dout(1).view();
  Tensor dentropy;
  if (b.has_dout(2)) {
    dentropy = b.dout(2);
    up.dentropy = dentropy.view();
    up.entropy = entropy.view();
  }
  AttendGradients gradients;
  std::vector<Tensor> memory(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (b.wants(int(i))) memory[i] = b.zeroed_slot(int(i));
  }
  const auto view = [&](const Place& p) {
    const Tensor& m = memory[std::size_t(p.input)];
    return m.defined() ? p.in(m) : View();
  };
  gradients.query = view(call.places[0]);
  gradients.key = view(call.places[1]);
  gradients.value = view(call.places[2]);
  for (std::size_t i = call.num_tensors; i < inputs.size(); ++i) {
    gradients.parameters.push_back(memory[i].defined() ? memory[i].view() : View());
  }
  attend_backward(call.views(inputs), up, gradients, call.options);
}

Attended run(Call3 call, const AttendExtras& extras) {
  call.num_tensors = call.inputs.size();
  call.inputs.insert(call.inputs.end(), extras.parameters.begin(), extras.parameters.end());
  for (const Tensor& t : call.inputs) {
    detail::check_defined("attend", t);
    detail::check_same_dtype("attend", t, call.inputs[0]);
  }
  const DType dtype = call.inputs[0].dtype();
  detail::on_compute_type("attend", dtype, [](auto) {});
  bool records = grad_enabled();
  if (records) {
    bool any = false;
    for (const Tensor& t : call.inputs) any = any || t.needs_grad();
    records = any;
  }
  const Shape rows{call.out.shape[0], call.out.shape[1], call.out.shape[2]};
  Attended result;
  result.out = Tensor::empty(call.out_shape, dtype);
  Tensor lse, entropy;
  AttendOutputs outputs;
  outputs.out = call.out.in(result.out);
  if (records || extras.lse || extras.weights) {
    lse = Tensor::empty(rows, dtype);
    outputs.lse = lse.view();
  }
  if (extras.entropy) {
    entropy = Tensor::empty(rows, dtype);
    outputs.entropy = entropy.view();
  }
  if (extras.statistics) outputs.statistics = &result.statistics;
  const AttendInputs in = call.views(call.inputs);
  attend_forward(in, outputs, call.options);
  if (extras.weights) {
    result.weights = Tensor::empty({rows[0], rows[1], rows[2], call.places[1].shape[2]}, dtype);
    attend_map(in, std::as_const(lse).view(), result.weights.view(), {}, call.options);
  }
  if (extras.lse) result.lse = lse;
  if (extras.entropy) result.entropy = entropy;
  if (records) {
    std::vector<Tensor> saved;
    for (const Tensor& t : call.inputs) saved.push_back(t.detach());
    const std::vector<Tensor> inputs = std::exchange(call.inputs, {});
    record("attend", {result.out, result.lse, result.entropy}, inputs,
           [call = std::move(call), saved = std::move(saved), out = result.out.detach(), lse = lse.detach(),
            entropy = entropy.defined() ? entropy.detach() : Tensor()](Backward& b) {
             backward(b, call, saved, out, lse, entropy);
           });
  }
  return result;
}

}  // namespace

namespace {
/// Places of three tensors of rank 4.
Call3 placed(const Tensor& query, const Tensor& key, const Tensor& value, const AttendOptions& options,
             HeadLayout layout) {
  Call3 call;
  call.options = options;
  const bool tokens_first = layout == HeadLayout::tokens_first;
  const std::array<const Tensor*, 3> operands = {&query, &key, &value};
  for (std::size_t i = 0; i < 3; ++i) {
    detail::check_defined("attend", *operands[i]);
    if (operands[i]->rank() != 4) {
      fail("attend", "query, key and value of rank 4", "got " + operands[i]->shape().text());
    }
    const ConstView v(nullptr, operands[i]->dtype(), operands[i]->shape());
    const ConstView headed = tokens_first ? v.transposed(1, 2) : v;
    call.places[i] = {call.input_of(*operands[i]), 0, headed.shape, headed.strides};
  }
  const Shape& q = call.places[0].shape;
  const Shape out{q[0], q[1], q[2], call.places[2].shape[3]};
  call.out_shape = tokens_first ? Shape{out[0], out[2], out[1], out[3]} : out;
  const ConstView v(nullptr, query.dtype(), call.out_shape);
  call.out = {0, 0, out, (tokens_first ? v.transposed(1, 2) : v).strides};
  return call;
}
}  // namespace

Attended attend(const Tensor& query, const Tensor& key, const Tensor& value, const AttendOptions& options,
                const AttendExtras& extras) {
  return run(placed(query, key, value, options, extras.layout), extras);
}

Explanation explain(const Tensor& query, const Tensor& key, const Tensor& value, const AttendOptions& options,
                    HeadLayout layout) {
  const Call3 call = placed(query, key, value, options, layout);
  const Shape &q = call.places[0].shape, &k = call.places[1].shape, &v = call.places[2].shape;
  AttendShape shape;
  shape.batch_size = int(q[0]);
  shape.num_heads = int(q[1]);
  shape.num_kv_heads = int(k[1]);
  shape.num_queries = int(q[2]);
  shape.num_keys = int(k[2]);
  shape.query_dim = int(q[3]);
  shape.key_dim = int(k[3]);
  shape.value_dim = int(v[3]);
  return explain(shape, query.dtype(), options);
}

Attended attend_packed(const PackedHeads& query, const PackedHeads& key, const PackedHeads& value,
                       const AttendOptions& options, const AttendExtras& extras) {
  Call3 call;
  call.options = options;
  const std::array<const PackedHeads*, 3> operands = {&query, &key, &value};
  for (std::size_t i = 0; i < 3; ++i) {
    const PackedHeads& p = *operands[i];
    detail::check_defined("attend_packed", p.tensor);
    const Shape& s = p.tensor.shape();
    const std::int64_t tokens = p.tokens < 0 && s.rank() == 3 ? s[1] : p.tokens;
    if (s.rank() != 3 || p.column < 0 || p.heads < 1 || p.dim < 1 || p.column + p.heads * p.dim > s[2] ||
        tokens > s[1]) {
      fail("attend_packed",
           "[B, T, width] that holds " + std::to_string(p.heads) + " heads of " + std::to_string(p.dim) +
               " from column " + std::to_string(p.column),
           "got " + s.text());
    }
    call.places[i] = {call.input_of(p.tensor), p.column, Shape{s[0], p.heads, tokens, p.dim},
                      Strides{s[1] * s[2], p.dim, s[2], 1}};
  }
  const Shape& q = call.places[0].shape;
  const std::int64_t dv = value.dim, width = q[1] * dv;
  call.out_shape = Shape{q[0], q[2], width};
  call.out = {0, 0, Shape{q[0], q[1], q[2], dv}, Strides{q[2] * width, dv, width, 1}};
  return run(std::move(call), extras);
}

}  // namespace attune
