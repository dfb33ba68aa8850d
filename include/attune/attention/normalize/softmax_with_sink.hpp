// Softmax with a sink: a learned logit per head that takes probability and gives nothing. With a sink of 0 it
// is SoftmaxOffByOne.  "Efficient streaming language models with attention sinks", arXiv:2309.17453
#pragma once
#include <string_view>

#include "attune/attention/normalize/softmax.hpp"

namespace attune {

namespace detail {
/// Softmax's finish with one more logit, `sink`, whose probability belongs to no key: rows.mass.
template <class T>
void finish_with_sink(T sink, Rows<T>& r, Call<T>& call) {
  T top[kLanes] = {}, before[kLanes] = {};
  for (int i = 0; i < r.queries; ++i) top[i] = r.sum[i] > T(0) && sink < r.max[i] ? r.max[i] : sink;
  if (r.statistics) move_moments(r, top);
  raise_maximum(r, top);
  for (int i = 0; i < r.queries; ++i) {
    const T u = sink - top[i], e = exp(u);
    before[i] = r.factor[i];
    r.mass[i] = e;
    r.sum[i] += e;
    if (r.statistics) {
      r.first[i] += e * u;
      r.second[i] += e * u * u;
    }
  }
  Softmax{}.finish(r, call);
  for (int i = 0; i < r.queries; ++i) {
    r.mass[i] *= r.factor[i];
    r.factor[i] *= before[i];
  }
}
}  // namespace detail

/// Parameter: sink [H], nats. lse and entropy count the sink as one more key.
struct SoftmaxWithSink {
  static constexpr std::string_view name = "softmax_with_sink";
  static constexpr std::string_view source = "arXiv:2309.17453", cost = "1 exp a pair";
  static constexpr bool gives_lse = true;

  std::vector<ParameterSpec> parameters(const AttendShape&) const { return {{"sink", {1}, Per::head, Start::at(0)}}; }
  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>& call) const {
    Softmax{}.forward(x, r, call);
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>& call) const {
    detail::finish_with_sink(*call.parameter[0].value, r, call);
  }
  // The sink is a key with value 0, so its dp is 0: dsink = p_sink (0 - delta - dH ((sink - lse) + H)).
  template <class T>
  void begin_backward(Rows<T>& r, Call<T>& call) const {
    const T sink = *call.parameter[0].value;
    T sum = T(0);
    for (int i = 0; i < r.queries; ++i) {
      const T u = sink - r.stat[i], p = exp(u);
      T g = -r.delta[i];
      if (r.dentropy) g -= p > T(0) ? r.dentropy[i] * (u + r.entropy[i]) : T(0);
      // A row that sees no key has delta = 0 and dentropy = 0: nothing is added for it.
      sum += p * g;
    }
    *call.parameter[0].grad += sum;
  }
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>& r, Call<T>& call) const {
    Softmax{}.backward(x, dp, r, call);
  }
};

}  // namespace attune
