// The plain formulas of the scores (formula.hpp).
#pragma once
#include <algorithm>
#include <optional>
#include <span>

#include "attune/attention/formula.hpp"
#include "attune/attention/score/mlp.hpp"
#include "attune/attention/score/qk_norm.hpp"

namespace attune::formula {

namespace detail {
/// sum of a[n] b[n] over the numbers of a.
template <class A, class B>
auto dot(const A& a, const B& b) {
  std::remove_cvref_t<decltype(a[0])> z(0.0);
  for (std::size_t n = 0; n < a.size(); ++n) z += a[n] * b[n];
  return z;
}
/// Copy number `copy` of an array whose copies have `size` numbers, from number `first` on.
template <class S>
Vector<S> copy_of(const std::vector<S>& array, std::size_t copy, std::size_t size, std::size_t first = 0) {
  return Vector<S>(array).subspan(copy * size + first);
}
/// matrix x, a vector of `rows` numbers; the matrix's rows lie `stride` apart.
template <class S>
std::vector<S> times(Vector<S> matrix, Vector<S> x, std::size_t rows, std::size_t stride) {
  std::vector<S> y;
  for (std::size_t r = 0; r < rows; ++r) y.push_back(dot(x, matrix.subspan(r * stride)));
  return y;
}
}  // namespace detail

/// query . key.
inline ScoreFormula dot() {
  return [](const Pair&, auto q, auto k, auto) { return detail::dot(q, k); };
}

/// scale query . key; scale 1 / sqrt(D) if none is given.
inline ScoreFormula scaled_dot(std::optional<double> scale = {}) {
  return [=](const Pair& at, auto q, auto k, auto) {
    using S = ScalarOf<decltype(q)>;
    S z(0.0);
    for (std::size_t d = 0; d < q.size(); ++d) z += q[d] * k[d];
    return z * S(scale ? *scale : 1.0 / std::sqrt(double(at.shape->key_dim)));
  };
}

/// query^T W key, array W [H, D, E].
inline ScoreFormula bilinear() {
  return [](const Pair& at, auto q, auto k, auto arrays) {
    const auto w = detail::copy_of(arrays[0], std::size_t(at.head), q.size() * k.size());
    const auto wk = detail::times(w, k, q.size(), k.size());
    return detail::dot(q, wk);
  };
}

/// v^T tanh(W_q q + W_k k), arrays W_q [H, F, D], W_k [Hkv, F, E], v [H, F].
inline ScoreFormula additive(int hidden_dim) {
  return [=](const Pair& at, auto q, auto k, auto arrays) {
    using S = ScalarOf<decltype(q)>;
    S z(0.0);
    for (int e = 0; e < hidden_dim; ++e) {
      const std::size_t row = std::size_t(at.head * hidden_dim + e), kv_row = std::size_t(at.kv_head * hidden_dim + e);
      S u(0.0);
      for (std::size_t d = 0; d < q.size(); ++d) u += arrays[0][row * q.size() + d] * q[d];
      for (std::size_t d = 0; d < k.size(); ++d) u += arrays[1][kv_row * k.size() + d] * k[d];
      z += arrays[2][row] * tanh(u);
    }
    return z;
  };
}

/// v^T tanh(W [q; k]), arrays W [Hkv, F, D + E], v [H, F].
inline ScoreFormula concat(int hidden_dim) {
  return [=](const Pair& at, auto q, auto k, auto arrays) {
    using S = ScalarOf<decltype(q)>;
    std::vector<S> both(q.begin(), q.end());
    both.insert(both.end(), k.begin(), k.end());
    const std::size_t rows = std::size_t(hidden_dim);
    auto u = detail::times(detail::copy_of(arrays[0], std::size_t(at.kv_head), rows * both.size()), Vector<S>(both),
                           rows, both.size());
    for (S& x : u) x = tanh(x);
    return detail::dot(u, detail::copy_of(arrays[1], std::size_t(at.head), rows));
  };
}

/// v^T a(W_L .. a(W_q q + W_k k + b_1) .. + b_L), arrays W_q [H, F_1, D], W_k [Hkv, F_1, E], b_1 [H, F_1], then W_l
/// [H, F_l, F_(l-1)] and b_l [H, F_l] of every further layer, v [H, F_L].
inline ScoreFormula mlp(std::vector<int> hidden, ScoreActivation activation) {
  return [=](const Pair& at, auto q, auto k, auto arrays) {
    using S = ScalarOf<decltype(q)>;
    const auto activate = [&](S u) {
      if (activation == ScoreActivation::tanh) return tanh(u);
      if (activation == ScoreActivation::relu) return value_of(u) > 0 ? u : S(0.0);
      return S(0.5) * u * (S(1.0) + tanh(S(std::sqrt(2 / 3.14159265358979323846)) * (u + S(0.044715) * u * u * u)));
    };
    const std::size_t head = std::size_t(at.head), first = std::size_t(hidden[0]);
    auto u = detail::times(detail::copy_of(arrays[0], head, first * q.size()), q, first, q.size());
    const auto of_key =
        detail::times(detail::copy_of(arrays[1], std::size_t(at.kv_head), first * k.size()), k, first, k.size());
    for (std::size_t e = 0; e < first; ++e) u[e] += of_key[e];
    for (std::size_t layer = 0; layer < hidden.size(); ++layer) {
      const std::size_t rows = std::size_t(hidden[layer]);
      if (layer > 0) {
        u = detail::times(detail::copy_of(arrays[2 * layer + 1], head, rows * u.size()), Vector<S>(u), rows, u.size());
      }
      const auto bias = detail::copy_of(arrays[2 * layer + 2], head, rows);
      for (std::size_t e = 0; e < rows; ++e) u[e] = activate(u[e] + bias[e]);
    }
    return detail::dot(u, detail::copy_of(arrays[2 * hidden.size() + 1], head, u.size()));
  };
}

/// query . key / (|query| |key| t), array t [H]; 0 where a length is 0.
inline ScoreFormula cosine() {
  return [](const Pair& at, auto q, auto k, auto arrays) {
    using S = ScalarOf<decltype(q)>;
    const S squares = detail::dot(q, q) * detail::dot(k, k);
    if (value_of(squares) == 0) return S(0.0);
    return detail::dot(q, k) / (sqrt(squares) * arrays[0][std::size_t(at.head)]);
  };
}

/// scale (g_q n(query)) . (g_k n(key)), arrays g_q [H, D], g_k [Hkv, D].
inline ScoreFormula qk_norm(RowNorm norm, double epsilon, double scale) {
  return [=](const Pair& at, auto q, auto k, auto arrays) {
    using S = ScalarOf<decltype(q)>;
    const std::size_t dim = q.size();
    const auto length = [&](auto x) {
      return sqrt(detail::dot(x, x) / S(norm == RowNorm::rms ? double(dim) : 1.0) + S(epsilon));
    };
    const auto query_gain = detail::copy_of(arrays[0], std::size_t(at.head), dim);
    const auto key_gain = detail::copy_of(arrays[1], std::size_t(at.kv_head), dim);
    S z(0.0);
    for (std::size_t d = 0; d < dim; ++d) z += query_gain[d] * q[d] * key_gain[d] * k[d];
    return S(scale) * z / (length(q) * length(k));
  };
}

/// -scale |query - key|^2.
inline ScoreFormula squared_distance(double scale) {
  return [=](const Pair&, auto q, auto k, auto) {
    using S = ScalarOf<decltype(q)>;
    S z(0.0);
    for (std::size_t d = 0; d < q.size(); ++d) z += (q[d] - k[d]) * (q[d] - k[d]);
    return S(-scale) * z;
  };
}

/// -|query - key|^2 / (2 w^2), array w [H].
inline ScoreFormula gaussian() {
  return [](const Pair& at, auto q, auto k, auto arrays) {
    using S = ScalarOf<decltype(q)>;
    const S w = arrays[0][std::size_t(at.head)];
    S z(0.0);
    for (std::size_t d = 0; d < q.size(); ++d) z += ((q[d] - k[d]) / w) * ((q[d] - k[d]) / w);
    return S(-0.5) * z;
  };
}

/// Row j of W times the query, array W [H, num_positions, D].
inline ScoreFormula location(int num_positions) {
  return [=](const Pair& at, auto q, auto, auto arrays) {
    return detail::dot(
        q,
        detail::copy_of(arrays[0], std::size_t(at.head) * std::size_t(num_positions) + std::size_t(at.key), q.size()));
  };
}

/// scale query . key - (j - p)^2 / (2 (half_width / 2)^2), p = Tk sigmoid(v^T tanh(W query)), arrays W [H, F, D],
/// v [H, F].
inline ScoreFormula local_p(int hidden_dim, double half_width, double scale) {
  return [=](const Pair& at, auto q, auto k, auto arrays) {
    using S = ScalarOf<decltype(q)>;
    const std::size_t head = std::size_t(at.head), rows = std::size_t(hidden_dim);
    auto u = detail::times(detail::copy_of(arrays[0], head, rows * q.size()), q, rows, q.size());
    for (S& x : u) x = tanh(x);
    const S z = detail::dot(u, detail::copy_of(arrays[1], head, rows));
    const S far = S(double(at.key)) - S(double(at.shape->num_keys)) / (S(1.0) + exp(-z));
    return S(scale) * detail::dot(q, k) - S(2 / (half_width * half_width)) * far * far;
  };
}

/// Where the copy of a head lies.
inline std::size_t copy_number(const Pair& at, Per per) {
  const int copies[] = {0, at.batch, at.head, at.kv_head, at.batch * at.shape->num_heads + at.head};
  return std::size_t(copies[std::size_t(per)]);
}

/// scale query . (key + table row), array table [.., 2 max_distance + 1, D].
inline ScoreFormula shaw(int max_distance, Per per, double scale) {
  return [=](const Pair& at, auto q, auto k, auto arrays) {
    using S = ScalarOf<decltype(q)>;
    const int row = max_distance + std::min(max_distance, std::max(-max_distance, at.key - at.position()));
    const auto r = detail::copy_of(arrays[0], copy_number(at, per), std::size_t(2 * max_distance + 1) * q.size(),
                                   std::size_t(row) * q.size());
    S z(0.0);
    for (std::size_t d = 0; d < q.size(); ++d) z += q[d] * (k[d] + r[d]);
    return S(scale) * z;
  };
}

/// ((query + u) . key + (query + v)^T W r(i - j)) / sqrt(D), arrays u [H, D], v [H, D], W [H, D, S].
inline ScoreFormula transformer_xl(int sinusoid_dim, double base) {
  return [=](const Pair& at, auto q, auto k, auto arrays) {
    using S = ScalarOf<decltype(q)>;
    const std::size_t dim = q.size(), wide = std::size_t(sinusoid_dim), head = std::size_t(at.head);
    std::vector<S> r;
    for (int n = 0; n < sinusoid_dim; ++n) {
      const int k_of = n % (sinusoid_dim / 2);
      const double angle = (at.position() - at.key) * std::pow(base, -2.0 * k_of / sinusoid_dim);
      r.push_back(S(n < sinusoid_dim / 2 ? std::sin(angle) : std::cos(angle)));
    }
    const auto u = detail::copy_of(arrays[0], head, dim), v = detail::copy_of(arrays[1], head, dim);
    const auto wr = detail::times(detail::copy_of(arrays[2], head, dim * wide), Vector<S>(r), dim, wide);
    S z(0.0);
    for (std::size_t d = 0; d < dim; ++d) z += (q[d] + u[d]) * k[d] + (q[d] + v[d]) * wr[d];
    return z / S(std::sqrt(double(dim)));
  };
}

/// (query . key + query . key_table row of i - j + key . query_table row of j - i) / sqrt(3 D), arrays
/// [H, 2 max_distance, D]; as_released: query_table's row of i - j too.
inline ScoreFormula deberta(int max_distance, bool as_released = false) {
  return [=](const Pair& at, auto q, auto k, auto arrays) {
    using S = ScalarOf<decltype(q)>;
    const int distance = at.position() - at.key;
    const auto row = [&](std::size_t array, int d) {
      const int n = d <= -max_distance ? 0 : d >= max_distance ? 2 * max_distance - 1 : d + max_distance;
      return detail::copy_of(arrays[array], std::size_t(at.head), std::size_t(2 * max_distance) * q.size(),
                             std::size_t(n) * q.size());
    };
    const S z = detail::dot(q, k) + detail::dot(q, row(0, distance)) +
                detail::dot(k, row(1, as_released ? distance : -distance));
    return z / S(std::sqrt(3.0 * double(q.size())));
  };
}

}  // namespace attune::formula
