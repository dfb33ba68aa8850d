// Transformer-XL: logits = ((query + u) . key + (query + v) . W r(i - j)) / sqrt(D), r(d) the sinusoids of a distance:
// sin(d f_0) .. sin(d f_(S/2-1)), cos(d f_0) .. cos(d f_(S/2-1)), f_k = base^(-2 k / S).
// "Transformer-XL: attentive language models beyond a fixed-length context", arXiv:1901.02860
//
// (query + v) . W r = (W^T (query + v)) . r, and with (a, b) = the two numbers of a frequency f
//     a sin(f (i - j)) + b cos(f (i - j)) = (a sin fi + b cos fi) cos fj + (b sin fi - a cos fi) sin fj:
// turning a query's numbers once and giving each key its own sinusoids makes all of it one dot product of width D + S.
// So there is no table of distances, nothing is shifted, and both inputs of every pair are rows.
#pragma once
#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "attune/attention/score/rows.hpp"
#include "attune/attention/score/scaled_dot.hpp"

namespace attune {

namespace detail {
/// sin and cos of position * f_k, f_k = base^(-2 k / wide), for all k < wide / 2: exact every 32 positions, between
/// them one turn a position, which loses under 32 roundings. src/attention/score_checks.cpp.
class Turning {
 public:
  Turning(double base, int wide, int first);
  /// Of the first position, then of the one after, and so on.
  void next();
  double sine(int k) const { return sine_[std::size_t(k)]; }
  double cosine(int k) const { return cosine_[std::size_t(k)]; }

 private:
  int position_, turns_ = 0;
  std::vector<double> frequency_, sine_, cosine_, turn_sine_, turn_cosine_;
};
}  // namespace detail

/// Parameters: u and v [H, D], weight [H, D, S]. Query and key of one width D; S even. Position i of a query is its
/// index plus the call's offset.
struct TransformerXl {
  static constexpr std::string_view name = "transformer_xl";
  static constexpr std::string_view source = "arXiv:1901.02860",
                                    cost = "D + S multiply-adds a pair, 1 product and S sines a row";
  int sinusoid_dim = 0;  // S; 0: D
  double base = 10000;

  void options(StageOptions& visit) { visit("sinusoid_dim", sinusoid_dim), visit("base", base); }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape& s) const {
    return {{"u", {s.query_dim}, Per::head},
            {"v", {s.query_dim}, Per::head},
            {"weight", {s.query_dim, sinusoids(s.query_dim)}, Per::head}};
  }
  int width(Side, int dim) const { return dim + sinusoids(dim); }

  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area& area, Call<T>& call) const {
    const int n = rows.rows, dim = rows.cols, wide = sinusoids(dim), half = wide / 2;
    if (side == Side::key) {
      detail::Turning turn(base, wide, area.key);
      for (int r = 0; r < n; ++r) {
        std::copy(rows[r], rows[r] + dim, out[r]);
        turn.next();
        for (int k = 0; k < half; ++k) {
          out[r][dim + k] = T(turn.cosine(k));
          out[r][dim + half + k] = T(turn.sine(k));
        }
      }
      return;
    }
    const T *u = call.parameter[0].value, *v = call.parameter[1].value, scale = scale_of<T>(dim);
    T* moved = call.scratch(std::size_t(n) * dim);  // scale (query + v)
    for (int r = 0; r < n; ++r) {
      for (int d = 0; d < dim; ++d) {
        out[r][d] = scale * (rows[r][d] + u[d]);
        moved[r * dim + d] = scale * (rows[r][d] + v[d]);
      }
    }
    product(n, wide, dim, static_cast<const T*>(moved), dim, 1, call.parameter[2].value, wide, out.data + dim,
            out.stride);
    detail::Turning turn(base, wide, area.query + area.offset);
    for (int r = 0; r < n; ++r) {
      turn.next();
      for (int k = 0; k < half; ++k) {
        T &first = out[r][dim + k], &second = out[r][dim + half + k];
        const T a = first, b = second, sine = T(turn.sine(k)), cosine = T(turn.cosine(k));
        first = a * sine + b * cosine;
        second = b * sine - a * cosine;
      }
    }
  }
  // da = dfirst sin - dsecond cos, db = dfirst cos + dsecond sin; (a, b) = scale (query + v) W.
  template <class T>
  void map_backward(Side side, Matrix<const T> rows, Matrix<const T> dout, Matrix<T> drows, const Area& area,
                    Call<T>& call) const {
    const int n = rows.rows, dim = rows.cols, wide = sinusoids(dim), half = wide / 2;
    if (side == Side::key) {
      for (int r = 0; r < n; ++r) {
        for (int d = 0; d < dim; ++d) drows[r][d] += dout[r][d];
      }
      return;
    }
    const Parameter<T>&u = call.parameter[0], &v = call.parameter[1], &weight = call.parameter[2];
    const T scale = scale_of<T>(dim);
    // [n][S] of d(a, b); W as [S][D]; [n][D] of scale (query + v), and of its gradient.
    T* const dturned = call.scratch(std::size_t(n) * wide + std::size_t(wide) * dim + 2 * std::size_t(n) * dim);
    T *const turned = dturned + std::ptrdiff_t(n) * wide, *const moved = turned + std::ptrdiff_t(wide) * dim,
             *const dmoved = moved + std::ptrdiff_t(n) * dim;
    detail::Turning turn(base, wide, area.query + area.offset);
    for (int r = 0; r < n; ++r) {
      turn.next();
      for (int k = 0; k < half; ++k) {
        const T first = dout[r][dim + k], second = dout[r][dim + half + k];
        const T sine = T(turn.sine(k)), cosine = T(turn.cosine(k));
        dturned[r * wide + k] = first * sine - second * cosine;
        dturned[r * wide + half + k] = first * cosine + second * sine;
      }
    }
    for (int d = 0; d < dim; ++d) {
      for (int e = 0; e < wide; ++e) turned[e * dim + d] = weight.value[d * wide + e];
      for (int r = 0; r < n; ++r) moved[r * dim + d] = scale * (rows[r][d] + v.value[d]);
    }
    const T *g = dturned, *m = moved;
    product(n, dim, wide, g, wide, 1, static_cast<const T*>(turned), dim, dmoved, dim);
    add_product(dim, wide, n, m, 1, dim, g, wide, weight.grad, wide);
    for (int r = 0; r < n; ++r) {
      for (int d = 0; d < dim; ++d) {
        const T of_u = scale * dout[r][d], of_v = scale * dmoved[r * dim + d];
        u.grad[d] += of_u;
        v.grad[d] += of_v;
        drows[r][d] += of_u + of_v;
      }
    }
  }
  template <class T>
  void logits(const Features<T>& f, Tile<T>& x, Call<T>& call) const {
    detail::dot_logits(f, x, call);
  }
  // As a dot product's, but for the keys' sinusoids, whose gradient nobody wants.
  template <class T>
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) const {
    const int queries = dx.area.queries, keys = dx.area.keys, width = f.key.cols;
    const int dim = sinusoid_dim ? width - sinusoid_dim : width / 2;
    const T* g = dx.data;
    add_product(width, queries, keys, f.key.data, 1, f.key.stride, g, dx.stride, df.query.data, df.query.stride,
                call.ahead);
    add_product(keys, dim, queries, g, dx.stride, 1, f.query_rows.data, f.query_rows.stride, df.key.data, df.key.stride,
                call.ahead);
  }

 private:
  int sinusoids(int dim) const { return sinusoid_dim ? sinusoid_dim : dim; }
  template <class T>
  static T scale_of(int dim) {
    return T(1 / std::sqrt(double(dim)));
  }
};

}  // namespace attune
