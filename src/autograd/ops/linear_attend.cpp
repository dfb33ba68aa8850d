// linear_attend: the two calls of the attention layer and where their arrays lie.
#include "attune/autograd/ops/linear_attend.hpp"

#include <array>
#include <utility>

#include "autograd/impl.hpp"

namespace attune {
namespace {

/// Query, key, value, decay, beta, state.
using LinearTensors = std::array<Tensor, 6>;

/// The axes of tokens and heads exchanged where the caller has tokens first.
template <class AnyView>
AnyView heads_first(const AnyView& v, HeadLayout layout) {
  return layout == HeadLayout::tokens_first && v.shape.rank() > 2 ? v.transposed(1, 2) : v;
}
LinearAttendInputs linear_inputs(const LinearTensors& t, HeadLayout layout) {
  const auto view = [&](std::size_t i) {
    return t[i].defined() ? heads_first(std::as_const(t[i]).view(), layout) : ConstView();
  };
  return {view(0), view(1), view(2), view(3), view(4), t[5].defined() ? t[5].view() : ConstView()};
}

// d of out, state = recurrence(query, key, value, decay, beta, state): the engine adds all of it into zeroed memory.
void recurrence_backward(Backward& b, const LinearTensors& saved, const Tensor& out, const Tensor& normalizer,
                         const LinearAttendOptions& options, HeadLayout layout) {
  LinearAttendUpstream up;
  if (b.has_dout(0)) up.dout = heads_first(ConstView(b.dout(0).view()), layout);
  if (b.has_dout(1)) up.dstate = std::as_const(b).dout(1).view();
  if (options.normalize) {
    up.out = heads_first(out.view(), layout);
    up.normalizer = normalizer.view();
  }
  std::array<View, 6> to;
  LinearTensors memory;  // holds what the views see
  for (std::size_t i = 0; i < saved.size(); ++i) {
    if (!saved[i].defined() || !b.wants(int(i))) continue;
    memory[i] = b.zeroed_slot(int(i));
    to[i] = i == 5 ? memory[i].view() : heads_first(memory[i].view(), layout);
  }
  linear_attend_backward(linear_inputs(saved, layout), up, {to[0], to[1], to[2], to[3], to[4], to[5]}, options);
}

}  // namespace

LinearAttended linear_attend(const Tensor& query, const Tensor& key, const Tensor& value,
                             const LinearAttendOptions& options, const LinearAttendExtras& extras) {
  const LinearTensors tensors = {query, key, value, extras.decay, extras.beta, extras.state};
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (i < 3) detail::check_defined("linear_attend", tensors[i]);
    if (tensors[i].defined()) detail::check_same_dtype("linear_attend", tensors[i], query);
  }
  detail::on_compute_type("linear_attend", query.dtype(), [](auto) {});
  for (std::size_t i = 0; i < 3; ++i) {
    if (tensors[i].rank() != 4)
      fail("linear_attend", "query, key and value of rank 4", "got " + tensors[i].shape().text());
  }
  const LinearAttendInputs in = linear_inputs(tensors, extras.layout);
  const LinearAttendShape s = linear_shape(in, options);
  const bool tokens_first = extras.layout == HeadLayout::tokens_first;
  LinearAttended result;
  result.out = Tensor::empty(tokens_first ? Shape{s.batch_size, s.num_queries, s.num_heads, s.value_dim}
                                          : Shape{s.batch_size, s.num_heads, s.num_queries, s.value_dim},
                             query.dtype());
  result.state = Tensor::empty({s.batch_size, s.num_kv_heads, s.feature_dim, s.state_dim}, query.dtype());
  LinearAttendOutputs to{.out = heads_first(result.out.view(), extras.layout), .state = result.state.view()};
  const bool records = will_record({query, key, value, extras.decay, extras.beta, extras.state});
  Tensor normalizer;
  if (options.normalize && records) {
    normalizer = Tensor::empty({s.batch_size, s.num_heads, s.num_queries}, query.dtype());
    to.normalizer = normalizer.view();
  }
  linear_attend_forward(in, to, options);
  if (records) {
    LinearTensors saved;
    for (std::size_t i = 0; i < saved.size(); ++i) {
      if (tensors[i].defined()) saved[i] = tensors[i].detach();
    }
    record("linear_attend", {result.out, result.state}, tensors,
           [saved = std::move(saved), out = options.normalize ? result.out.detach() : Tensor(), normalizer, options,
            layout = extras.layout](Backward& b) { recurrence_backward(b, saved, out, normalizer, options, layout); });
  }
  return result;
}

}  // namespace attune
