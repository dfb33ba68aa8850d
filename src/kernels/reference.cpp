// The mathematics of attention, in pairs: a function of one row or one pair, and right below it its derivative, which
// quotes the line that it differentiates. At the end the two walks that put the pairs together, and the statistics.
//
// dx always means: the gradient of the loss with respect to x. Every backward function adds (+=) to what it is given.
#include "kernels/reference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "attune/base/error.hpp"

namespace attune::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
using Problem = ReferenceProblem;

// ------------------------------------------------------------------------------------------------------- 1. position
// y [D] = position(x [D]) for a token that stands at `at`.

struct Turn {
  int first, second;  // the pair of numbers that turns
  double c, s;        // cosine and sine of its angle
};
/// Rotary pair k at a position; RoFormer, arXiv:2104.09864.
Turn turn_of(const Problem& p, int k, int at, int dim) {
  const double angle = at * std::pow(p.position_base, -2.0 * k / dim);
  const int first = p.interleaved ? 2 * k : k, second = p.interleaved ? 2 * k + 1 : k + dim / 2;
  return {first, second, std::cos(angle), std::sin(angle)};
}
int turned_dim(const Problem& p, int dim) { return p.rotary_dim ? p.rotary_dim : dim; }

void position(const Problem& p, const double* table, int at, const double* x, int dim, double* y) {
  for (int d = 0; d < dim; ++d) y[d] = x[d];
  if (p.position == ReferencePosition::sinusoidal) {  // arXiv:1706.03762
    for (int d = 0; d < dim; ++d) {
      const double angle = at * std::pow(p.position_base, -double(d - d % 2) / dim);
      y[d] += d % 2 ? std::cos(angle) : std::sin(angle);
    }
  }
  if (p.position == ReferencePosition::learned) {
    for (int d = 0; d < dim; ++d) y[d] += table[at * dim + d];
  }
  if (p.position == ReferencePosition::rotary) {
    for (int k = 0; k < turned_dim(p, dim) / 2; ++k) {
      const Turn t = turn_of(p, k, at, turned_dim(p, dim));
      y[t.first] = x[t.first] * t.c - x[t.second] * t.s;
      y[t.second] = x[t.first] * t.s + x[t.second] * t.c;
    }
  }
}

void position_backward(const Problem& p, int at, const double* dy, int dim, double* dx, double* dtable) {
  std::vector<double> g(dy, dy + dim);
  if (p.position == ReferencePosition::learned) {  // y = x + table[at]
    for (int d = 0; d < dim; ++d) dtable[at * dim + d] += dy[d];
  }
  if (p.position == ReferencePosition::rotary) {  // y = (x1 c - x2 s, x1 s + x2 c): the transpose turns back
    for (int k = 0; k < turned_dim(p, dim) / 2; ++k) {
      const Turn t = turn_of(p, k, at, turned_dim(p, dim));
      g[std::size_t(t.first)] = dy[t.first] * t.c + dy[t.second] * t.s;
      g[std::size_t(t.second)] = dy[t.second] * t.c - dy[t.first] * t.s;
    }
  }
  for (int d = 0; d < dim; ++d) dx[d] += g[std::size_t(d)];
}

// ---------------------------------------------------------------------------------------------------------- 2. score
// One logit from one query row and one key row, after position.

double scale_of(const Problem& p) { return p.scale ? *p.scale : 1.0 / std::sqrt(double(p.shape.key_dim)); }

/// W_q [hidden, query_dim], W_k [hidden, key_dim], v [hidden] of one head; null for the scaled dot.
template <class Number>
struct ScoreWeights {
  Number *query = nullptr, *key = nullptr, *v = nullptr;
};

/// tanh(W_q q + W_k k) at hidden unit e; arXiv:1409.0473.
double hidden_unit(const Problem& p, const ScoreWeights<const double>& w, int e, const double* q, const double* k) {
  double u = 0;
  for (int d = 0; d < p.shape.query_dim; ++d) u += w.query[e * p.shape.query_dim + d] * q[d];
  for (int d = 0; d < p.shape.key_dim; ++d) u += w.key[e * p.shape.key_dim + d] * k[d];
  return std::tanh(u);
}

double score(const Problem& p, const ScoreWeights<const double>& w, const double* q, const double* k) {
  double x = 0;
  if (p.score == ReferenceScore::scaled_dot) {
    for (int d = 0; d < p.shape.key_dim; ++d) x += q[d] * k[d];
    return scale_of(p) * x;
  }
  for (int e = 0; e < p.hidden_dim; ++e) x += w.v[e] * hidden_unit(p, w, e, q, k);
  return x;
}

void score_backward(const Problem& p, const ScoreWeights<const double>& w, double dx, const double* q, const double* k,
                    double* dq, double* dk, const ScoreWeights<double>& dw) {
  if (p.score == ReferenceScore::scaled_dot) {  // x = scale q . k
    for (int d = 0; d < p.shape.key_dim; ++d) {
      dq[d] += dx * scale_of(p) * k[d];
      dk[d] += dx * scale_of(p) * q[d];
    }
    return;
  }
  for (int e = 0; e < p.hidden_dim; ++e) {  // x = sum_e v_e tanh(u_e), u = W_q q + W_k k
    const double t = hidden_unit(p, w, e, q, k), du = dx * w.v[e] * (1 - t * t);
    dw.v[e] += dx * t;
    for (int d = 0; d < p.shape.query_dim; ++d) {
      dw.query[e * p.shape.query_dim + d] += du * q[d];
      dq[d] += du * w.query[e * p.shape.query_dim + d];
    }
    for (int d = 0; d < p.shape.key_dim; ++d) {
      dw.key[e * p.shape.key_dim + d] += du * k[d];
      dk[d] += du * w.key[e * p.shape.key_dim + d];
    }
  }
}

// ----------------------------------------------------------------------------------------------------------- 3. bias
// y = bias(x) for one logit of a pair.

struct Pair {
  int b, h, i, j;  // batch, head, query, key
};
/// Where the number that belongs to this pair stands in the bias's array.
std::size_t place(const Problem& p, const ReferenceBias& bias, const Pair& at) {
  if (bias.kind == ReferenceBias::learned_alibi) return std::size_t(at.h);
  const ReferenceShape& s = p.shape;
  std::size_t n = bias.per_batch ? std::size_t(at.b) : 0;
  if (bias.per_head) n = n * std::size_t(s.num_heads) + std::size_t(at.h);
  if (bias.per_query) n = n * std::size_t(s.num_queries) + std::size_t(at.i);
  return n * std::size_t(s.num_keys) + std::size_t(at.j);
}
double distance(const Problem& p, const Pair& at) { return std::abs(at.i + p.offset_of(at.b) - at.j); }

double bias(const Problem& p, const ReferenceBias& bias, const double* array, const Pair& at, double x) {
  switch (bias.kind) {
    case ReferenceBias::alibi:  // arXiv:2108.12409
      return x - std::exp2(-8.0 * (at.h + 1) / p.shape.num_heads) * distance(p, at);
    case ReferenceBias::learned_alibi:
      return x - array[place(p, bias, at)] * distance(p, at);
    case ReferenceBias::soft_cap:  // arXiv:2408.00118
      return bias.cap == 0 ? x : bias.cap * std::tanh(x / bias.cap);
    case ReferenceBias::dense:
      return x + array[place(p, bias, at)];
    case ReferenceBias::pointwise:
      return bias.value(x, at.b, at.h, at.i + p.offset_of(at.b), at.j);
  }
  return x;
}

double bias_backward(const Problem& p, const ReferenceBias& bias, const Pair& at, double x, double dy, double* darray) {
  switch (bias.kind) {
    case ReferenceBias::alibi:  // y = x - slope distance
      return dy;
    case ReferenceBias::learned_alibi:
      darray[place(p, bias, at)] -= dy * distance(p, at);
      return dy;
    case ReferenceBias::soft_cap: {  // y = c tanh(x / c); 1 - tanh^2 = 1 / cosh^2
      if (bias.cap == 0) return dy;
      const double cosh = std::cosh(x / bias.cap);
      return dy / (cosh * cosh);
    }
    case ReferenceBias::dense:  // y = x + bias
      darray[place(p, bias, at)] += dy;
      return dy;
    case ReferenceBias::pointwise:
      return dy * bias.derivative(x, at.b, at.h, at.i + p.offset_of(at.b), at.j);
  }
  return dy;
}

// ----------------------------------------------------------------------------------------------------- 4. normalizer
// Logits x of one row's visible keys -> probabilities p. `number` is the head's sink or sigmoid bias.

struct Row {
  std::vector<double> x, p;
  double stat = -kInfinity, entropy = 0, sink = 0;
};

bool has_sink(const Problem& p) { return p.normalizer == ReferenceNormalizer::softmax_with_sink; }

void normalize(const Problem& problem, double number, Row& r) {
  const std::size_t n = r.x.size();
  r.p.assign(n, 0.0);
  if (n == 0) return;
  const double top = *std::max_element(r.x.begin(), r.x.end());
  switch (problem.normalizer) {
    case ReferenceNormalizer::softmax:
    case ReferenceNormalizer::softmax_with_sink: {  // the sink is one more logit, whose value row is 0
      const double most = has_sink(problem) ? std::max(top, number) : top;
      if (most == -kInfinity) return;  // every logit is -inf: no weight, and -inf - (-inf) would be NaN
      double sum = has_sink(problem) ? std::exp(number - most) : 0;
      for (double x : r.x) sum += std::exp(x - most);
      r.stat = most + std::log(sum);
      r.sink = has_sink(problem) ? std::exp(number - most) / sum : 0;
      for (std::size_t k = 0; k < n; ++k) r.p[k] = std::exp(r.x[k] - most) / sum;
      // H = -sum p log p = -sum p (x - lse)
      for (std::size_t k = 0; k < n; ++k) r.entropy -= r.p[k] > 0 ? r.p[k] * (r.x[k] - r.stat) : 0;
      r.entropy -= r.sink > 0 ? r.sink * (number - r.stat) : 0;
      return;
    }
    case ReferenceNormalizer::sigmoid:  // arXiv:2409.04431
      r.stat = 0;
      for (std::size_t k = 0; k < n; ++k) r.p[k] = 1 / (1 + std::exp(-(r.x[k] + number)));
      return;
    case ReferenceNormalizer::sparsemax: {  // p = max(x - tau, 0); tau from the sorted logits, arXiv:1602.02068
      std::vector<double> sorted = r.x;
      std::sort(sorted.rbegin(), sorted.rend());
      double sum = 0;
      for (std::size_t m = 1; m <= n; ++m) {
        sum += sorted[m - 1];
        if (1 + double(m) * sorted[m - 1] > sum) r.stat = (sum - 1) / double(m);
      }
      for (std::size_t k = 0; k < n; ++k) r.p[k] = std::max(r.x[k] - r.stat, 0.0);
      return;
    }
  }
}

/// dp -> dx, with the gradients of the row's lse and entropy; the number's gradient is added to dnumber.
std::vector<double> normalize_backward(const Problem& problem, double number, const Row& r,
                                       const std::vector<double>& dp, double dlse, double dentropy, double* dnumber) {
  const std::size_t n = r.x.size();
  std::vector<double> dx(n, 0.0);
  switch (problem.normalizer) {
    case ReferenceNormalizer::softmax:
    case ReferenceNormalizer::softmax_with_sink: {
      // p = exp(x - lse):            dx_k = p_k (dp_k - sum_l p_l dp_l)
      // lse = log sum exp(x):        dx_k = p_k dlse
      // H = -sum p log p:            dx_k = -p_k (log p_k + H) dH
      if (r.stat == -kInfinity) return dx;
      double delta = 0;
      for (std::size_t k = 0; k < n; ++k) delta += r.p[k] * dp[k];
      auto slope = [&](double p, double x, double dprob) {
        return p > 0 ? p * (dprob - delta + dlse - (x - r.stat + r.entropy) * dentropy) : 0.0;
      };
      for (std::size_t k = 0; k < n; ++k) dx[k] = slope(r.p[k], r.x[k], dp[k]);
      if (has_sink(problem)) *dnumber += slope(r.sink, number, 0.0);  // its value row is 0, so its dp is 0
      return dx;
    }
    case ReferenceNormalizer::sigmoid:  // p = 1 / (1 + exp(-(x + number))): dp/dx = p (1 - p)
      for (std::size_t k = 0; k < n; ++k) {
        const double e = std::exp(-std::abs(r.x[k] + number));
        dx[k] = dp[k] * e / ((1 + e) * (1 + e));
        *dnumber += dx[k];
      }
      return dx;
    case ReferenceNormalizer::sparsemax: {  // p = x - tau on the support, tau = (sum of the support's x - 1) / size
      double sum = 0, size = 0;
      for (std::size_t k = 0; k < n; ++k) {
        if (r.p[k] > 0) sum += dp[k], size += 1;
      }
      for (std::size_t k = 0; k < n; ++k) dx[k] = r.p[k] > 0 ? dp[k] - sum / size : 0;
      return dx;
    }
  }
  return dx;
}

// ------------------------------------------------------------------------------------------------------ 5. the walks

struct Indices {
  ReferenceShape s;
  std::size_t row(int b, int h, int i) const { return (std::size_t(b) * s.num_heads + h) * s.num_queries + i; }
  std::size_t key_row(int b, int h, int j) const {
    return (std::size_t(b) * s.num_kv_heads + s.kv_head(h)) * s.num_keys + j;
  }
};

/// Queries [B, H, Tq, query_dim] and keys [B, Hkv, Tk, key_dim] after position.
struct Positioned {
  std::vector<double> query, key;
};
Positioned place_tokens(const Problem& p, const ReferenceArrays& in, const ReferencePlaces& at) {
  const ReferenceShape& s = p.shape;
  const double* table = p.position == ReferencePosition::learned ? in[at.position].data() : nullptr;
  Positioned y{std::vector<double>(in[0].size()), std::vector<double>(in[1].size())};
  const std::size_t queries = std::size_t(s.num_queries), keys = std::size_t(s.num_keys);
  for (std::size_t r = 0; r < std::size_t(s.batch_size) * s.num_heads * queries; ++r) {
    const int b = int(r / queries) / s.num_heads, i = int(r % queries), d = s.query_dim;
    position(p, table, i + p.offset_of(b), &in[0][r * d], d, &y.query[r * d]);
  }
  for (std::size_t r = 0; r < std::size_t(s.batch_size) * s.num_kv_heads * keys; ++r) {
    const int d = s.key_dim;
    position(p, table, int(r % keys), &in[1][r * d], d, &y.key[r * d]);
  }
  return y;
}

template <class Number, class Arrays>
ScoreWeights<Number> weights_of(const Problem& p, Arrays& in, const ReferencePlaces& at, int h) {
  if (p.score != ReferenceScore::additive) return {};
  const ReferenceShape& s = p.shape;
  return {in[at.score].data() + std::size_t(h) * p.hidden_dim * s.query_dim,
          in[at.score + 1].data() + std::size_t(s.kv_head(h)) * p.hidden_dim * s.key_dim,
          in[at.score + 2].data() + std::size_t(h) * p.hidden_dim};
}
/// The head's sink or sigmoid bias; 0 where the normalizer has none.
double number_of(const ReferenceArrays& in, const ReferencePlaces& at, int h) {
  return at.normalizer < at.count ? in[at.normalizer][std::size_t(h)] : 0.0;
}

/// All logits of one pair: [0] the score, [m + 1] after bias m.
std::vector<double> logits_of(const Problem& p, const ReferenceArrays& in, const ReferencePlaces& at,
                              const Positioned& y, const Pair& pair) {
  const Indices index{p.shape};
  std::vector<double> x{score(p, weights_of<const double>(p, in, at, pair.h),
                              &y.query[index.row(pair.b, pair.h, pair.i) * p.shape.query_dim],
                              &y.key[index.key_row(pair.b, pair.h, pair.j) * p.shape.key_dim])};
  for (std::size_t m = 0; m < p.bias.size(); ++m) {
    const double* array = at.bias[m] < at.count ? in[at.bias[m]].data() : nullptr;
    x.push_back(bias(p, p.bias[m], array, pair, x.back()));
  }
  return x;
}

void check(const Problem& p, const ReferenceArrays& in) {
  const std::vector<std::size_t> sizes = reference_sizes(p);
  expect(in.size() == sizes.size(), "reference", std::to_string(sizes.size()) + " arrays",
         "got " + std::to_string(in.size()));
  for (std::size_t a = 0; a < sizes.size(); ++a) {
    expect(in[a].size() == sizes[a], "reference",
           "array " + std::to_string(a) + " of " + std::to_string(sizes[a]) + " numbers",
           "got " + std::to_string(in[a].size()));
  }
}

}  // namespace

ReferenceForward reference_forward(const Problem& p, const ReferenceArrays& in) {
  check(p, in);
  const ReferenceShape& s = p.shape;
  const Indices index{s};
  const ReferencePlaces at = reference_places(p);
  const Positioned y = place_tokens(p, in, at);
  const std::size_t rows = std::size_t(s.batch_size) * s.num_heads * s.num_queries, pairs = rows * s.num_keys;
  ReferenceForward f;
  f.out.assign(rows * s.value_dim, 0.0);
  f.stat.assign(rows, -kInfinity);
  f.visible.assign(rows, 0);
  f.entropy = f.sink = std::vector<double>(rows, 0.0);
  f.scores = f.logits = f.probs = std::vector<double>(pairs, 0.0);
  for (int b = 0; b < s.batch_size; ++b) {
    for (int h = 0; h < s.num_heads; ++h) {
      for (int i = 0; i < s.num_queries; ++i) {
        const std::size_t row = index.row(b, h, i);
        Row r;
        std::vector<int> keys;  // that this row sees
        for (int j = 0; j < s.num_keys; ++j) {
          const std::vector<double> x = logits_of(p, in, at, y, {b, h, i, j});
          f.scores[row * s.num_keys + j] = x.front();
          f.logits[row * s.num_keys + j] = x.back();
          if (!p.sees(b, h, i, j)) continue;
          keys.push_back(j);
          r.x.push_back(x.back());
        }
        f.visible[row] = int(keys.size());
        if (keys.empty()) continue;  // out 0, stat -inf
        normalize(p, number_of(in, at, h), r);
        f.stat[row] = r.stat;
        f.entropy[row] = r.entropy;
        f.sink[row] = r.sink;
        for (std::size_t k = 0; k < keys.size(); ++k) {
          const int j = keys[k];
          f.probs[row * s.num_keys + j] = r.p[k];
          const double weight = r.p[k] * p.kept(b, h, i, j);
          const double* value = &in[2][index.key_row(b, h, j) * s.value_dim];
          for (int d = 0; d < s.value_dim; ++d) f.out[row * s.value_dim + d] += weight * value[d];
        }
      }
    }
  }
  return f;
}

ReferenceArrays reference_backward(const Problem& p, const ReferenceArrays& in, const std::vector<double>& dout,
                                   const std::vector<double>& dlse, const std::vector<double>& dentropy) {
  check(p, in);
  const ReferenceShape& s = p.shape;
  const Indices index{s};
  const ReferencePlaces at = reference_places(p);
  const Positioned y = place_tokens(p, in, at);
  ReferenceArrays g;
  for (const auto& array : in) g.emplace_back(array.size(), 0.0);
  Positioned dy{std::vector<double>(in[0].size()), std::vector<double>(in[1].size())};
  for (int b = 0; b < s.batch_size; ++b) {
    for (int h = 0; h < s.num_heads; ++h) {
      for (int i = 0; i < s.num_queries; ++i) {
        const std::size_t row = index.row(b, h, i);
        Row r;
        std::vector<int> keys;
        std::vector<std::vector<double>> x;  // [visible key][bias]
        for (int j = 0; j < s.num_keys; ++j) {
          if (!p.sees(b, h, i, j)) continue;
          keys.push_back(j);
          x.push_back(logits_of(p, in, at, y, {b, h, i, j}));
          r.x.push_back(x.back().back());
        }
        if (keys.empty()) continue;
        normalize(p, number_of(in, at, h), r);
        // out = sum_j weight_j value_j, weight = keep p
        std::vector<double> dp(keys.size(), 0.0);
        for (std::size_t k = 0; k < keys.size(); ++k) {
          const double keep = p.kept(b, h, i, keys[k]);
          const std::size_t key = index.key_row(b, h, keys[k]) * s.value_dim;
          for (int d = 0; d < s.value_dim; ++d) {
            const double g_out = dout[row * s.value_dim + d];
            dp[k] += keep * in[2][key + d] * g_out;
            g[2][key + d] += keep * r.p[k] * g_out;
          }
        }
        // p = normalize(x)
        double unused = 0, *dnumber = at.normalizer < at.count ? &g[at.normalizer][std::size_t(h)] : &unused;
        const std::vector<double> dx = normalize_backward(p, number_of(in, at, h), r, dp, dlse.empty() ? 0 : dlse[row],
                                                          dentropy.empty() ? 0 : dentropy[row], dnumber);
        // x = bias(... bias(score(q, k)))
        for (std::size_t k = 0; k < keys.size(); ++k) {
          const Pair pair{b, h, i, keys[k]};
          double d = dx[k];
          for (std::size_t m = p.bias.size(); m-- > 0;) {
            double* darray = at.bias[m] < at.count ? g[at.bias[m]].data() : nullptr;
            d = bias_backward(p, p.bias[m], pair, x[k][m], d, darray);
          }
          const std::size_t q = row * s.query_dim, key = index.key_row(b, h, keys[k]) * s.key_dim;
          score_backward(p, weights_of<const double>(p, in, at, h), d, &y.query[q], &y.key[key], &dy.query[q],
                         &dy.key[key], weights_of<double>(p, g, at, h));
        }
      }
    }
  }
  // q = position(query), k = position(key)
  double* dtable = p.position == ReferencePosition::learned ? g[at.position].data() : nullptr;
  const std::size_t queries = std::size_t(s.num_queries), num_keys = std::size_t(s.num_keys);
  for (std::size_t r = 0; r < std::size_t(s.batch_size) * s.num_heads * queries; ++r) {
    const int b = int(r / queries) / s.num_heads, i = int(r % queries), d = s.query_dim;
    position_backward(p, i + p.offset_of(b), &dy.query[r * d], d, &g[0][r * d], dtable);
  }
  for (std::size_t r = 0; r < std::size_t(s.batch_size) * s.num_kv_heads * num_keys; ++r) {
    position_backward(p, int(r % num_keys), &dy.key[r * s.key_dim], s.key_dim, &g[1][r * s.key_dim], dtable);
  }
  return g;
}

ReferenceStatistics reference_statistics(const Problem& p, const ReferenceForward& f) {
  const ReferenceShape& s = p.shape;
  const Indices index{s};
  const std::size_t heads = std::size_t(s.batch_size) * s.num_heads;
  ReferenceStatistics t;
  for (auto* v : {&t.rows, &t.largest_score, &t.smallest_score, &t.largest_logit, &t.lse, &t.entropy,
                  &t.entropy_normalized, &t.entropy_min, &t.variance, &t.largest_prob, &t.sink_mass}) {
    v->assign(heads, 0.0);
  }
  for (std::size_t n = 0; n < heads; ++n) {
    const int b = int(n) / s.num_heads, h = int(n) % s.num_heads;
    double several = 0, score = -kInfinity, low = kInfinity, logit = -kInfinity, least = kInfinity;
    for (int i = 0; i < s.num_queries; ++i) {
      const std::size_t row = index.row(b, h, i);
      if (f.visible[row] == 0) continue;
      t.rows[n] += 1;
      t.lse[n] += f.stat[row];
      t.sink_mass[n] += f.sink[row];
      double mean = 0, square = 0, largest = 0;
      // log p = x - lse differs from x by a constant of the row, so it has the same variance; a sink counts as a key.
      auto moment = [&](double prob) {
        if (!(prob > 0)) return;
        mean += prob * std::log(prob);
        square += prob * std::log(prob) * std::log(prob);
      };
      for (int j = 0; j < s.num_keys; ++j) {
        if (!p.sees(b, h, i, j)) continue;
        const std::size_t pair = row * s.num_keys + j;
        score = std::max(score, f.scores[pair]);
        low = std::min(low, f.scores[pair]);
        logit = std::max(logit, f.logits[pair]);
        largest = std::max(largest, f.probs[pair]);
        moment(f.probs[pair]);
      }
      moment(f.sink[row]);
      t.variance[n] += square - mean * mean;
      t.largest_prob[n] += largest;
      if (f.visible[row] < 2) continue;
      several += 1;
      t.entropy[n] += f.entropy[row];
      t.entropy_normalized[n] += f.entropy[row] / std::log(double(f.visible[row] + (has_sink(p) ? 1 : 0)));
      least = std::min(least, f.entropy[row]);
    }
    if (t.rows[n] == 0) continue;
    t.largest_score[n] = score;
    t.smallest_score[n] = low;
    t.largest_logit[n] = logit;
    for (auto* v : {&t.lse, &t.variance, &t.largest_prob, &t.sink_mass}) (*v)[n] /= t.rows[n];
    if (several == 0) continue;
    t.entropy[n] /= several;
    t.entropy_normalized[n] /= several;
    t.entropy_min[n] = least;
  }
  return t;
}

ReferencePlaces reference_places(const Problem& p) {
  ReferencePlaces at;
  at.score = at.position + (p.position == ReferencePosition::learned ? 1 : 0);
  std::size_t next = at.score + (p.score == ReferenceScore::additive ? 3 : 0);
  constexpr std::size_t kNone = ~std::size_t(0);
  for (const ReferenceBias& bias : p.bias) {
    const bool learned = bias.kind == ReferenceBias::learned_alibi || bias.kind == ReferenceBias::dense;
    at.bias.push_back(learned ? next++ : kNone);
  }
  at.normalizer = next;
  const bool number = has_sink(p) || p.normalizer == ReferenceNormalizer::sigmoid;
  at.count = next + (number ? 1 : 0);
  return at;
}

std::vector<std::size_t> reference_sizes(const Problem& p) {
  const ReferenceShape& s = p.shape;
  auto product = [](std::initializer_list<int> extents) {
    std::size_t n = 1;
    for (int e : extents) n *= std::size_t(e);
    return n;
  };
  std::vector<std::size_t> sizes{product({s.batch_size, s.num_heads, s.num_queries, s.query_dim}),
                                 product({s.batch_size, s.num_kv_heads, s.num_keys, s.key_dim}),
                                 product({s.batch_size, s.num_kv_heads, s.num_keys, s.value_dim})};
  if (p.position == ReferencePosition::learned) sizes.push_back(product({p.num_positions, s.key_dim}));
  if (p.score == ReferenceScore::additive) {
    sizes.push_back(product({s.num_heads, p.hidden_dim, s.query_dim}));
    sizes.push_back(product({s.num_kv_heads, p.hidden_dim, s.key_dim}));
    sizes.push_back(product({s.num_heads, p.hidden_dim}));
  }
  for (const ReferenceBias& bias : p.bias) {
    if (bias.kind == ReferenceBias::learned_alibi) sizes.push_back(product({s.num_heads}));
    if (bias.kind == ReferenceBias::dense) {
      sizes.push_back(product({bias.per_batch ? s.batch_size : 1, bias.per_head ? s.num_heads : 1,
                               bias.per_query ? s.num_queries : 1, s.num_keys}));
    }
  }
  if (reference_places(p).normalizer < reference_places(p).count) sizes.push_back(product({s.num_heads}));
  return sizes;
}

}  // namespace attune::kernels
