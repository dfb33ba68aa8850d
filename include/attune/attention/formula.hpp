// Attention as one would write it on a blackboard, over any scalar: float, double, Dual (directional derivatives) and
// Recorded (gradients). Every mechanism's plain formula stands in formulas/; a variant of your own is held against its
// formula in the same way.
//
//     out = normalize( mask( bias( score( position(query), position(key) ) ) ) ) . value
//
// A formula is a lambda with auto parameters; it is never fast, and takes memory for every pair. Stages are held
// against it; it shares no line with them.
#pragma once
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "attune/attention/recorded.hpp"
#include "attune/attention/stage.hpp"

namespace attune::formula {

// The functions of formulas: exact ones, not the engine's approximations for float.
using std::exp, std::log, std::sqrt, std::tanh, std::abs;

inline double value_of(double x) { return x; }
inline double value_of(float x) { return double(x); }
inline double value_of(Dual<double> x) { return x.v; }
template <class S>
double value_of(Recorded<S> x) {
  return double(x.v);
}

/// Where a token stands: on the query side `head` is the query head, on the key side the key head.
struct Token {
  const AttendShape* shape;
  Side side;
  int batch, head, index, position;  // position: index among the keys, the query's offset added
};
/// Where a pair stands. In a row (normalizers) `key` is -1.
struct Pair {
  const AttendShape* shape;
  int batch, head, kv_head, query, key, offset;
  int position() const { return query + offset; }
  int distance() const { return std::abs(position() - key); }
};

/// Numbers of one vector.
template <class S>
using Vector = std::span<const S>;
/// The learned arrays of one mechanism, each whole, as attend_parameters() lists them.
template <class S>
using Arrays = std::span<const std::vector<S>>;

/// A row's probabilities, its statistic (log-sum-exp, threshold; 0 if there is none), its entropy in nats and what a
/// sink took.
template <class S>
struct Row {
  std::vector<S> probs;
  S stat = S(0.0), entropy = S(0.0), sink = S(0.0);
};

namespace detail {
template <class S>
using PositionFunction = std::function<std::vector<S>(const Token&, Vector<S>, Arrays<S>)>;
template <class S>
using ScoreFunction = std::function<S(const Pair&, Vector<S> query, Vector<S> key, Arrays<S>)>;
template <class S>
using BiasFunction = std::function<S(const Pair&, S logit, Arrays<S>)>;
template <class S>
using NormalizerFunction = std::function<Row<S>(const Pair&, Vector<S> logits, std::span<const int> keys, Arrays<S>)>;

/// Holds one generic function for every scalar.
template <template <class> class Function>
class AnyFormula {
 public:
  AnyFormula() = default;
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, AnyFormula>) AnyFormula(F f)
      : all_(std::make_tuple(Function<double>(f), Function<float>(f), Function<Dual<double>>(f),
                             Function<Recorded<double>>(f), Function<Recorded<float>>(f))) {}
  template <class S>
  const Function<S>& on() const {
    return std::get<Function<S>>(all_);
  }
  explicit operator bool() const { return bool(std::get<0>(all_)); }

 private:
  std::tuple<Function<double>, Function<float>, Function<Dual<double>>, Function<Recorded<double>>,
             Function<Recorded<float>>>
      all_;
};
}  // namespace detail

/// [](const Token&, auto x, auto arrays) -> vector of S: a row's features, where S is the type of x's numbers.
using PositionFormula = detail::AnyFormula<detail::PositionFunction>;
/// [](const Pair&, auto query, auto key, auto arrays) -> S.
using ScoreFormula = detail::AnyFormula<detail::ScoreFunction>;
/// [](const Pair&, auto logit, auto arrays) -> S.
using BiasFormula = detail::AnyFormula<detail::BiasFunction>;
/// [](const Pair&, auto logits, std::span<const int> keys, auto arrays) -> Row<S>, of the visible keys (at least one).
using NormalizerFormula = detail::AnyFormula<detail::NormalizerFunction>;
/// The scalar of a span.
template <class Span>
using ScalarOf = typename Span::value_type;

/// One call. A missing position, mask or keep factor is none.
struct Problem {
  AttendShape shape;
  std::vector<int> offset;  // [B]; empty: 0
  PositionFormula position;
  ScoreFormula score;
  std::vector<BiasFormula> bias;
  NormalizerFormula normalizer;
  /// How many learned arrays each takes; they follow query, key and value in the order position, score, biases,
  /// normalizer.
  std::size_t position_arrays = 0, score_arrays = 0, normalizer_arrays = 0;
  std::vector<std::size_t> bias_arrays;
  std::function<bool(int, int, int, int)> visible;  // (batch, head, query, key)
  std::function<double(int, int, int, int)> kept;   // dropout: 0 or 1 / keep probability
  int offset_of(int batch) const { return offset.empty() ? 0 : offset[std::size_t(batch)]; }
};

/// Row-major: out [B, H, Tq, Dv]; stat, entropy, sink [B, H, Tq] (-inf, 0, 0 for a row that sees no key); scores and
/// logits [B, H, Tq, Tk] of every pair; probs [B, H, Tq, Tk], 0 where hidden.
template <class S>
struct Result {
  std::vector<S> out, stat, entropy, sink, scores, logits, probs;
};

namespace detail {
/// Rows [n][dim] of one head after position.
template <class S>
std::vector<std::vector<S>> placed(const Problem& p, Side side, const std::vector<S>& rows, Arrays<S> arrays) {
  const AttendShape& s = p.shape;
  const int heads = side == Side::query ? s.num_heads : s.num_kv_heads;
  const int tokens = side == Side::query ? s.num_queries : s.num_keys;
  const int dim = side == Side::query ? s.query_dim : s.key_dim;
  std::vector<std::vector<S>> placed;
  for (int b = 0; b < s.batch_size; ++b) {
    for (int h = 0; h < heads; ++h) {
      for (int t = 0; t < tokens; ++t) {
        const Vector<S> x(rows.data() + placed.size() * std::size_t(dim), std::size_t(dim));
        const int at = side == Side::query ? t + p.offset_of(b) : t;
        placed.push_back(p.position ? p.position.on<S>()({&s, side, b, h, t, at}, x, arrays)
                                    : std::vector<S>(x.begin(), x.end()));
      }
    }
  }
  return placed;
}
}  // namespace detail

/// The whole sentence. in: query, key, value, then the learned arrays.
template <class S>
Result<S> run(const Problem& p, const std::vector<std::vector<S>>& in) {
  const AttendShape& s = p.shape;
  std::size_t at = 3;
  const auto take = [&](std::size_t n) {
    const Arrays<S> arrays(in.data() + at, n);
    at += n;
    return arrays;
  };
  const Arrays<S> of_position = take(p.position_arrays), of_score = take(p.score_arrays);
  std::vector<Arrays<S>> of_bias;
  for (const std::size_t n : p.bias_arrays) of_bias.push_back(take(n));
  const Arrays<S> of_normalizer = take(p.normalizer_arrays);
  const auto query = detail::placed(p, Side::query, in[0], of_position);
  const auto key = detail::placed(p, Side::key, in[1], of_position);

  const std::size_t rows = query.size(), keys = std::size_t(s.num_keys), width = std::size_t(s.value_dim);
  Result<S> r;
  r.out.assign(rows * width, S(0.0));
  r.stat.assign(rows, S(-std::numeric_limits<double>::infinity()));
  r.entropy = r.sink = std::vector<S>(rows, S(0.0));
  r.scores = r.logits = r.probs = std::vector<S>(rows * keys, S(0.0));
  for (std::size_t row = 0; row < rows; ++row) {
    const int b = int(row) / s.num_queries / s.num_heads, h = int(row) / s.num_queries % s.num_heads;
    const int i = int(row) % s.num_queries, kv = h / s.group();
    const std::size_t first = (std::size_t(b) * s.num_kv_heads + kv) * keys;
    std::vector<int> js;
    std::vector<S> x;
    for (int j = 0; j < s.num_keys; ++j) {
      const Pair pair{&s, b, h, kv, i, j, p.offset_of(b)};
      S z = p.score.on<S>()(pair, query[row], key[first + std::size_t(j)], of_score);
      r.scores[row * keys + std::size_t(j)] = z;
      for (std::size_t m = 0; m < p.bias.size(); ++m) z = p.bias[m].on<S>()(pair, z, of_bias[m]);
      r.logits[row * keys + std::size_t(j)] = z;
      if (p.visible && !p.visible(b, h, i, j)) continue;
      js.push_back(j);
      x.push_back(z);
    }
    if (js.empty()) continue;
    const Row<S> weights = p.normalizer.on<S>()({&s, b, h, kv, i, -1, p.offset_of(b)}, x, js, of_normalizer);
    r.stat[row] = weights.stat;
    r.entropy[row] = weights.entropy;
    r.sink[row] = weights.sink;
    for (std::size_t n = 0; n < js.size(); ++n) {
      r.probs[row * keys + std::size_t(js[n])] = weights.probs[n];
      const double keep = p.kept ? p.kept(b, h, i, js[n]) : 1.0;
      if (keep == 0) continue;
      const S weight = weights.probs[n] * S(keep);
      const S* value = &in[2][(first + std::size_t(js[n])) * width];
      for (std::size_t d = 0; d < width; ++d) r.out[row * width + d] += weight * value[d];
    }
  }
  return r;
}

/// Gradients of <dout, out> + <dlse, stat> + <dentropy, entropy>, shaped like `in`. Empty dlse, dentropy: left out.
template <class S>
std::vector<std::vector<S>> gradient(const Problem& p, const std::vector<std::vector<S>>& in,
                                     const std::vector<S>& dout, const std::vector<S>& dlse = {},
                                     const std::vector<S>& dentropy = {}) {
  recording<S>().clear();
  std::vector<std::vector<Recorded<S>>> recorded;
  for (const auto& array : in) {
    auto& to = recorded.emplace_back();
    for (const S& x : array) to.push_back(Recorded<S>::input(x));
  }
  const Result<Recorded<S>> r = run(p, recorded);
  std::vector<S> all(recording<S>().size(), S(0));
  const auto seed = [&](const std::vector<Recorded<S>>& result, const std::vector<S>& upstream) {
    for (std::size_t n = 0; n < upstream.size(); ++n) {
      if (result[n].id >= 0) all[std::size_t(result[n].id)] += upstream[n];
    }
  };
  seed(r.out, dout);
  seed(r.stat, dlse);
  seed(r.entropy, dentropy);
  rewind(all);
  std::vector<std::vector<S>> g;
  for (const auto& array : recorded) {
    auto& to = g.emplace_back();
    for (const auto& x : array) to.push_back(all[std::size_t(x.id)]);
  }
  return g;
}

}  // namespace attune::formula
