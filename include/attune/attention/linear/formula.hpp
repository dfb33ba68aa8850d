// The definition of linear attention, token by token, over any scalar: float and double compute, Dual<double> gives
// derivatives along a direction, Recorded<double> gradients. What linear_attend_forward and _backward are held against;
// it shares no line with them. Read this first.
#pragma once
#include <cmath>
#include <cstddef>
#include <vector>

#include "attune/attention/linear/linear_attend.hpp"
#include "attune/attention/scalar.hpp"

namespace attune {

/// Contiguous arrays of a call, shapes as in LinearAttendInputs; empty where left out. decay_dim: 1 or feature_dim.
template <class S>
struct LinearArrays {
  std::vector<S> query, key, value, decay, beta, state;
  int decay_dim = 1;
  bool beta_shared = false;  // beta [B, 1, Tk]
};
template <class S>
struct LinearResults {
  std::vector<S> out;    // [B, H, Tq, Dv]
  std::vector<S> state;  // [B, Hkv, F, state_dim]
};

/// phi(x) of one row [D] -> [F].
template <class S>
std::vector<S> feature_formula(const FeatureMap& map, const S* x, int head_dim) {
  std::vector<S> y;
  if (const auto* favor = std::get_if<features::Favor>(&map)) {
    const int n = favor->num_features();
    S length = S(0);
    for (int d = 0; d < head_dim; ++d) length += x[d] * x[d] * S(favor->scale());
    for (int f = 0; f < n; ++f) {
      S dot = S(0);
      for (int d = 0; d < head_dim; ++d) {
        dot += x[d] * S(favor->rows()[std::size_t(f) * head_dim + d] * std::sqrt(favor->scale()));
      }
      y.push_back(exp(dot - length * S(0.5)) * S(1 / std::sqrt(double(n))));
    }
    return y;
  }
  for (int d = 0; d < head_dim; ++d) {
    if (std::holds_alternative<features::Identity>(map)) {
      y.push_back(x[d]);
    } else if (std::holds_alternative<features::EluPlusOne>(map)) {
      y.push_back(x[d] > S(0) ? x[d] + S(1) : exp(x[d]));
    } else {
      y.push_back((x[d] > S(0) ? x[d] : S(0)) + S(std::get<features::Relu>(map).epsilon));
    }
  }
  return y;
}

/// S changed by token t of key head g: the four rules.
template <class S>
void update_formula(const LinearAttendShape& s, const LinearAttendOptions& o, const LinearArrays<S>& in, int b, int g,
                    int t, S* state) {
  const int rows = s.feature_dim, columns = s.state_dim;
  const std::size_t token = (std::size_t(b) * s.num_kv_heads + g) * s.num_keys + t;
  const std::vector<S> k = feature_formula(o.features, in.key.data() + token * s.head_dim, s.head_dim);
  if (takes_decay(o.rule)) {
    for (int f = 0; f < rows; ++f) {
      const S factor = exp(in.decay[token * in.decay_dim + (in.decay_dim == 1 ? 0 : f)]);
      for (int w = 0; w < columns; ++w) state[f * columns + w] *= factor;
    }
  }
  for (int w = 0; w < columns; ++w) {
    S change = w < s.value_dim ? in.value[token * s.value_dim + w] : S(1);
    if (takes_beta(o.rule)) {
      for (int f = 0; f < rows; ++f) change -= state[f * columns + w] * k[std::size_t(f)];
      change *= in.beta[in.beta_shared ? std::size_t(b) * s.num_keys + t : token];
    }
    for (int f = 0; f < rows; ++f) state[f * columns + w] += k[std::size_t(f)] * change;
  }
}

/// Runs the recurrence as linear_attend.hpp writes it.
template <class S>
LinearResults<S> linear_attend_formula(const LinearAttendShape& s, const LinearAttendOptions& o,
                                       const LinearArrays<S>& in) {
  const int group = s.num_heads / s.num_kv_heads, columns = s.state_dim;
  const std::size_t size = std::size_t(s.feature_dim) * columns;
  const double scale = o.scale == 0 ? 1 / std::sqrt(double(s.head_dim)) : o.scale;
  LinearResults<S> r;
  r.out.resize(std::size_t(s.batch_size) * s.num_heads * s.num_queries * s.value_dim);
  r.state = in.state;
  if (r.state.empty()) r.state.assign(std::size_t(s.batch_size) * s.num_kv_heads * size, S(0));
  for (int b = 0; b < s.batch_size; ++b) {
    const int keys = o.valid_keys.empty() ? s.num_keys : o.valid_keys[std::size_t(b)];
    for (int g = 0; g < s.num_kv_heads; ++g) {
      S* state = r.state.data() + (std::size_t(b) * s.num_kv_heads + g) * size;
      for (int t = 0; !o.causal && t < keys; ++t) update_formula(s, o, in, b, g, t, state);
      for (int t = 0; t < s.num_queries; ++t) {
        if (o.causal && t < keys) update_formula(s, o, in, b, g, t, state);
        for (int h = g * group; h < (g + 1) * group; ++h) {
          const std::size_t row = (std::size_t(b) * s.num_heads + h) * s.num_queries + t;
          const std::vector<S> q = feature_formula(o.features, in.query.data() + row * s.head_dim, s.head_dim);
          std::vector<S> read(std::size_t(columns), S(0));
          for (int w = 0; w < columns; ++w) {
            for (int f = 0; f < s.feature_dim; ++f) read[std::size_t(w)] += state[f * columns + w] * q[std::size_t(f)];
          }
          S* out = r.out.data() + row * s.value_dim;
          for (int w = 0; w < s.value_dim; ++w) {
            if (!o.normalize)
              out[w] = read[std::size_t(w)] * S(scale);
            else
              out[w] = read.back() == S(0) ? S(0) : read[std::size_t(w)] / read.back();
          }
        }
      }
    }
  }
  return r;
}

}  // namespace attune
