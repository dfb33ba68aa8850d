// attend_gradients: the engine's backward as an operator, and its own backward on dual numbers.
#include "attune/autograd/ops/attend_gradients.hpp"

#include <string>
#include <utility>

#include "attune/attention/attend_jvp.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "autograd/impl.hpp"

namespace attune {
namespace {

/// The tensors of one call, in the order in which they are recorded.
struct GradientCall {
  enum Place : std::size_t { query, key, value, dout, dlse, dentropy, parameters };
  std::vector<Tensor> tensors;
  AttendOptions options;

  ConstView view(std::size_t place) const {
    const Tensor& t = tensors[place];
    return t.defined() ? t.view() : ConstView();
  }
  AttendInputs inputs() const {
    AttendInputs in{view(query), view(key), view(value), {}};
    for (std::size_t n = parameters; n < tensors.size(); ++n) in.parameters.push_back(view(n));
    return in;
  }
  /// Numbers of all parameters together.
  std::int64_t parameter_size() const {
    std::int64_t size = 0;
    for (std::size_t n = parameters; n < tensors.size(); ++n) size += tensors[n].size();
    return size;
  }
  /// Where each parameter's gradient lies in one array of all.
  std::vector<View> parts(Tensor& flat) const {
    std::vector<View> views;
    std::int64_t at = 0;
    for (std::size_t n = parameters; n < tensors.size(); ++n) {
      const Tensor& t = tensors[n];
      views.emplace_back(static_cast<char*>(flat.raw()) + at * std::int64_t(size_of(t.dtype())), t.dtype(), t.shape());
      at += t.size();
    }
    return views;
  }
};

// u: incoming gradients of the gradients. d<u, J^T dout> = <H u, dinputs> + <J u, ddout>.
void backward_of_gradients(Backward& b, const GradientCall& call) {
  AttendInputs u;
  std::vector<Tensor> incoming;
  const auto take = [&](int output) {
    incoming.push_back(b.has_dout(output) ? b.dout(output) : Tensor());
    return incoming.back().defined() ? ConstView(incoming.back().view()) : ConstView();
  };
  u.query = take(0);
  u.key = take(1);
  u.value = take(2);
  if (b.has_dout(3)) {
    Tensor flat = b.dout(3);
    incoming.push_back(flat);
    for (const View& v : call.parts(flat)) u.parameters.push_back(v);
  }
  std::vector<Tensor> gradients(call.tensors.size());
  const auto room = [&](std::size_t place) {
    if (!b.wants(int(place))) return View();
    gradients[place] = Tensor::zeros(call.tensors[place].shape(), call.tensors[place].dtype());
    return gradients[place].view();
  };
  AttendBackwardJvp second;
  second.tangent.query = room(GradientCall::query);
  second.tangent.key = room(GradientCall::key);
  second.tangent.value = room(GradientCall::value);
  for (std::size_t n = GradientCall::parameters; n < call.tensors.size(); ++n) {
    second.tangent.parameters.push_back(room(n));
  }
  const AttendUpstream up{.dout = call.view(GradientCall::dout),
                          .dlse = call.view(GradientCall::dlse),
                          .dentropy = call.view(GradientCall::dentropy)};
  attend_backward_jvp(call.inputs(), u, up, {}, second, call.options);
  AttendJvp first;
  first.tangent.out = room(GradientCall::dout);
  first.tangent.lse = room(GradientCall::dlse);
  first.tangent.entropy = room(GradientCall::dentropy);
  if (first.tangent.out || first.tangent.lse || first.tangent.entropy) {
    attend_jvp(call.inputs(), u, first, call.options);
  }
  for (std::size_t n = 0; n < gradients.size(); ++n) {
    if (gradients[n].defined()) b.give(int(n), gradients[n]);
  }
}

}  // namespace

GradientsOfAttend attend_gradients(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& dout,
                                   const AttendOptions& options, const AttendGradientsExtras& extras) {
  constexpr const char* kFunction = "attend_gradients";
  const std::vector<Tensor> own = {query, key, value, dout};
  std::vector<Tensor> inputs = own;
  inputs.insert(inputs.end(), {extras.dlse, extras.dentropy});
  inputs.insert(inputs.end(), extras.parameters.begin(), extras.parameters.end());
  for (std::size_t n = 0; n < inputs.size(); ++n) {
    if ((n == GradientCall::dlse || n == GradientCall::dentropy) && !inputs[n].defined()) continue;
    detail::check_defined(kFunction, inputs[n]);
    detail::check_same_dtype(kFunction, inputs[n], query);
  }
  detail::on_compute_type(kFunction, query.dtype(), [](auto) {});
  for (const Tensor& t : own) {
    if (t.rank() != 4) fail(kFunction, "query, key, value and dout of rank 4", "got " + t.shape().text());
  }
  GradientCall call{{}, options};
  for (const Tensor& t : inputs) call.tensors.push_back(t.defined() ? t.detach() : Tensor());

  const Shape &q = query.shape(), rows{q[0], q[1], q[2]};
  Tensor out = Tensor::empty({q[0], q[1], q[2], value.shape()[3]}, query.dtype()),
         lse = Tensor::empty(rows, query.dtype()), entropy, flat;
  AttendOutputs results{.out = out.view(), .lse = lse.view()};
  if (extras.dentropy.defined()) {
    entropy = Tensor::empty(rows, query.dtype());
    results.entropy = entropy.view();
  }
  attend_forward(call.inputs(), results, options);
  GradientsOfAttend g{Tensor::zeros(query.shape(), query.dtype()),
                      Tensor::zeros(key.shape(), query.dtype()),
                      Tensor::zeros(value.shape(), query.dtype()),
                      {}};
  AttendGradients to{g.query.view(), g.key.view(), g.value.view(), {}};
  if (!extras.parameters.empty()) {
    flat = Tensor::zeros({call.parameter_size()}, query.dtype());
    to.parameters = call.parts(flat);
  }
  AttendUpstream up{.out = results.out,
                    .lse = results.lse,
                    .entropy = results.entropy,
                    .dout = call.view(GradientCall::dout),
                    .dlse = call.view(GradientCall::dlse),
                    .dentropy = call.view(GradientCall::dentropy)};
  attend_backward(call.inputs(), up, to, options);
  record(kFunction, {g.query, g.key, g.value, flat}, inputs,
         [call = std::move(call)](Backward& b) { backward_of_gradients(b, call); });
  std::int64_t at = 0;
  for (const Tensor& p : extras.parameters) {
    g.parameters.push_back(reshape(slice(flat, 0, at, at + p.size()), p.shape()));
    at += p.size();
  }
  return g;
}

}  // namespace attune
