// The plain formula over any scalar: float, double, Dual (its directional derivative) and Recorded (its gradient). It
// is written once more beside the oracle, so that neither the engine nor the oracle is its own judge.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "attune/attention/scalar.hpp"
#include "contract/tape.hpp"
#include "kernels/reference.hpp"

namespace attune::contract {

/// query, key, value, then learned arrays, in the order of kernels::ReferenceArrays.
template <class S>
using Arrays = std::vector<std::vector<S>>;

inline double plain_value(double x) { return x; }
inline double plain_value(float x) { return double(x); }
inline double plain_value(Dual<double> x) { return x.v; }
template <class S>
double plain_value(Recorded<S> x) {
  return double(x.v);
}

/// The pointwise bias of the tests: the logit and a soft step of it, weaker with distance, steeper with the head.
template <class S>
S own_bias(S x, int batch, int head, int position, int key) {
  using std::tanh;
  const double far = 1.0 / (1.0 + std::abs(position - key));
  return x + S(0.3 * far) * tanh(S(0.5 + 0.25 * head) * x) - S(0.1 * batch);
}
inline double own_bias_slope(double x, int, int head, int position, int key) {
  const double far = 1.0 / (1.0 + std::abs(position - key)), rate = 0.5 + 0.25 * head, c = std::cosh(rate * x);
  return 1.0 + 0.3 * far * rate / (c * c);
}

template <class S>
struct FormulaResult {
  std::vector<S> out, lse, entropy;  // [B, H, Tq, Dv], [B, H, Tq] twice; as kernels::ReferenceForward
};

/// One token's row after position.
template <class S>
std::vector<S> formula_position(const kernels::ReferenceProblem& p, const Arrays<S>& in, const S* x, int dim, int at) {
  std::vector<S> y(x, x + dim);
  const int turned = p.rotary_dim ? p.rotary_dim : dim;
  switch (p.position) {
    case kernels::ReferencePosition::none:
      break;
    case kernels::ReferencePosition::sinusoidal:
      for (int d = 0; d < dim; ++d) {
        const double angle = at / std::pow(p.position_base, double(d / 2 * 2) / dim);
        y[std::size_t(d)] = y[std::size_t(d)] + S(d % 2 ? std::cos(angle) : std::sin(angle));
      }
      break;
    case kernels::ReferencePosition::learned:
      for (int d = 0; d < dim; ++d) y[std::size_t(d)] = y[std::size_t(d)] + in[3][std::size_t(at * dim + d)];
      break;
    case kernels::ReferencePosition::rotary:
      for (int k = 0; k < turned / 2; ++k) {
        const double angle = at / std::pow(p.position_base, 2.0 * k / turned);
        const std::size_t a = std::size_t(p.interleaved ? 2 * k : k);
        const std::size_t b = std::size_t(p.interleaved ? 2 * k + 1 : k + turned / 2);
        y[a] = x[a] * S(std::cos(angle)) - x[b] * S(std::sin(angle));
        y[b] = x[a] * S(std::sin(angle)) + x[b] * S(std::cos(angle));
      }
      break;
  }
  return y;
}

template <class S>
FormulaResult<S> formula(const kernels::ReferenceProblem& p, const Arrays<S>& in) {
  using std::exp, std::log, std::tanh;
  const kernels::ReferenceShape& s = p.shape;
  const int Tq = s.num_queries, Tk = s.num_keys, D = s.query_dim, E = s.key_dim, Dv = s.value_dim;
  const std::size_t rows = std::size_t(s.batch_size) * s.num_heads * Tq;
  FormulaResult<S> r{std::vector<S>(rows * Dv, S(0.0)),
                     std::vector<S>(rows, S(-std::numeric_limits<double>::infinity())), std::vector<S>(rows, S(0.0))};
  std::vector<std::vector<S>> q(rows), k(std::size_t(s.batch_size) * s.num_kv_heads * Tk);
  for (std::size_t n = 0; n < q.size(); ++n) {
    const int b = int(n) / Tq / s.num_heads, i = int(n) % Tq;
    q[n] = formula_position(p, in, &in[0][n * D], D, i + p.offset_of(b));
  }
  for (std::size_t n = 0; n < k.size(); ++n) k[n] = formula_position(p, in, &in[1][n * E], E, int(n) % Tk);

  const std::size_t score_at = p.position == kernels::ReferencePosition::learned ? 4 : 3;
  const bool additive = p.score == kernels::ReferenceScore::additive;
  const int F = p.hidden_dim;
  for (std::size_t row = 0; row < rows; ++row) {
    const int b = int(row) / Tq / s.num_heads, h = int(row) / Tq % s.num_heads, i = int(row) % Tq;
    const int kv = h * s.num_kv_heads / s.num_heads;
    const std::size_t first_key = (std::size_t(b) * s.num_kv_heads + kv) * Tk;
    std::size_t at = score_at;
    std::vector<int> js;
    std::vector<S> x;
    for (int j = 0; j < Tk; ++j) {
      if (!p.sees(b, h, i, j)) continue;
      const std::vector<S>&qi = q[row], &kj = k[first_key + std::size_t(j)];
      S z(0.0);
      at = score_at;
      if (additive) {
        for (int e = 0; e < F; ++e) {
          S u(0.0);
          for (int d = 0; d < D; ++d) u += in[at][std::size_t((h * F + e) * D + d)] * qi[std::size_t(d)];
          for (int d = 0; d < E; ++d) u += in[at + 1][std::size_t((kv * F + e) * E + d)] * kj[std::size_t(d)];
          z += in[at + 2][std::size_t(h * F + e)] * tanh(u);
        }
        at += 3;
      } else {
        for (int d = 0; d < D; ++d) z += qi[std::size_t(d)] * kj[std::size_t(d)];
        z = z * S(p.scale ? *p.scale : 1.0 / std::sqrt(double(D)));
      }
      const int position = i + p.offset_of(b), apart = std::abs(position - j);
      for (const kernels::ReferenceBias& bias : p.bias) {
        switch (bias.kind) {
          case kernels::ReferenceBias::alibi:
            z = z - S(std::pow(2.0, -8.0 * (h + 1) / s.num_heads) * apart);
            break;
          case kernels::ReferenceBias::learned_alibi:
            z = z - in[at++][std::size_t(h)] * S(double(apart));
            break;
          case kernels::ReferenceBias::soft_cap:
            if (bias.cap > 0) z = S(bias.cap) * tanh(z / S(bias.cap));
            break;
          case kernels::ReferenceBias::dense: {
            const int copies = bias.per_batch && bias.per_head ? b * s.num_heads + h
                               : bias.per_head                 ? h
                               : bias.per_batch                ? b
                                                               : 0;
            z = z + in[at++][bias.per_query ? (std::size_t(copies) * Tq + i) * Tk + j : std::size_t(copies) * Tk + j];
            break;
          }
          case kernels::ReferenceBias::pointwise:
            z = own_bias(z, b, h, position, j);
            break;
        }
      }
      js.push_back(j);
      x.push_back(z);
    }
    if (js.empty()) continue;
    // The head's sink or sigmoid bias stands last.
    std::vector<S> prob(js.size());
    if (p.normalizer == kernels::ReferenceNormalizer::sigmoid) {
      for (std::size_t n = 0; n < js.size(); ++n)
        prob[n] = S(1.0) / (S(1.0) + exp(-(x[n] + in.back()[std::size_t(h)])));
      r.lse[row] = S(0.0);
    } else if (p.normalizer == kernels::ReferenceNormalizer::sparsemax) {
      std::vector<S> sorted = x;
      std::stable_sort(sorted.begin(), sorted.end(),
                       [](S lower, S upper) { return plain_value(upper) < plain_value(lower); });
      S sum(0.0), tau(0.0);
      for (std::size_t n = 0; n < sorted.size(); ++n) {
        sum += sorted[n];
        const S t = (sum - S(1.0)) / S(double(n + 1));
        if (plain_value(sorted[n]) > plain_value(t)) tau = t;
      }
      for (std::size_t n = 0; n < js.size(); ++n) {
        prob[n] = plain_value(x[n]) > plain_value(tau) ? x[n] - tau : S(0.0);
      }
      r.lse[row] = tau;
    } else {
      if (p.normalizer == kernels::ReferenceNormalizer::softmax_with_sink) x.push_back(in.back()[std::size_t(h)]);
      double top = plain_value(x[0]);
      for (const S& z : x) top = std::max(top, plain_value(z));
      S sum(0.0);
      for (const S& z : x) sum += exp(z - S(top));
      r.lse[row] = S(top) + log(sum);
      for (std::size_t n = 0; n < x.size(); ++n) {
        const S u = exp(x[n] - S(top)) / sum;
        if (n < prob.size()) prob[n] = u;
        if (plain_value(u) > 0) r.entropy[row] = r.entropy[row] - u * log(u);
      }
    }
    for (std::size_t n = 0; n < js.size(); ++n) {
      const double keep = p.kept(b, h, i, js[n]);
      if (keep == 0) continue;
      const S weight = prob[n] * S(keep);
      const S* value = &in[2][(first_key + std::size_t(js[n])) * Dv];
      for (int d = 0; d < Dv; ++d) r.out[row * Dv + d] += weight * value[d];
    }
  }
  return r;
}

/// Gradients of <dout, out> + <dlse, lse> + <dentropy, entropy> by the tape. Empty dlse, dentropy: left out.
template <class S>
Arrays<S> formula_gradient(const kernels::ReferenceProblem& p, const Arrays<S>& in, const std::vector<S>& dout,
                           const std::vector<S>& dlse = {}, const std::vector<S>& dentropy = {}) {
  tape<S>().clear();
  Arrays<Recorded<S>> recorded;
  for (const auto& array : in) {
    auto& to = recorded.emplace_back();
    for (const S& x : array) to.push_back(Recorded<S>::input(x));
  }
  const FormulaResult<Recorded<S>> r = formula(p, recorded);
  std::vector<S> gradient(tape<S>().size(), S(0));
  auto seed = [&](const std::vector<Recorded<S>>& result, const std::vector<S>& upstream) {
    for (std::size_t n = 0; n < upstream.size(); ++n) {
      if (result[n].id >= 0) gradient[std::size_t(result[n].id)] += upstream[n];
    }
  };
  seed(r.out, dout);
  seed(r.lse, dlse);
  seed(r.entropy, dentropy);
  rewind(gradient);
  Arrays<S> g;
  for (const auto& array : recorded) {
    auto& to = g.emplace_back();
    for (const auto& x : array) to.push_back(gradient[std::size_t(x.id)]);
  }
  return g;
}

}  // namespace attune::contract
