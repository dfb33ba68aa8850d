// Normalised dot product: logits = scale * (query_gain n(query)) . (key_gain n(key)), n of one head's row by its root
// mean square or by its length. "Query-key normalization for Transformers", arXiv:2010.04245; "Scaling vision
// Transformers to 22 billion parameters", arXiv:2302.05442
//
// As a score it sees rows after their position. MultiHeadAttention's own option (nn, QkNorm) normalises before rotary
// positions turn the rows, as language models do. Turning keeps a row's length, so both agree as long as the gains of a
// pair of turned numbers are equal; with learned gains for every number they are two mechanisms.
#pragma once
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "attune/attention/score/rows.hpp"
#include "attune/attention/score/scaled_dot.hpp"

namespace attune {

enum class RowNorm : std::uint8_t {
  rms,  // x / sqrt(mean of x^2 + epsilon)
  l2    // x / sqrt(sum of x^2 + epsilon)
};
/// "rms", "l2".
std::span<const std::string_view> option_names(RowNorm);

/// Parameters: query_gain [H, D], key_gain [Hkv, D]. Query and key of one width D; a row of zeros gives logits of 0.
struct NormalizedDot {
  static constexpr std::string_view name = "qk_norm";
  static constexpr std::string_view source = "arXiv:2010.04245, arXiv:2302.05442",
                                    cost = "D multiply-adds a pair, 1 length a row";
  static constexpr bool is_product = true;
  RowNorm norm = RowNorm::rms;
  double epsilon = 1e-6;          // above 0
  std::optional<double> scale{};  // default: 1 / sqrt(D) under rms, 1 under l2, where the gains carry the size

  double scale_of(int dim) const { return scale ? *scale : norm == RowNorm::rms ? 1 / std::sqrt(double(dim)) : 1.0; }
  void options(StageOptions& visit) { visit("norm", norm), visit("epsilon", epsilon), visit("scale", scale); }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const {
    return {{"query_gain", {shape.query_dim}, Per::head, Start::at(1)},
            {"key_gain", {shape.key_dim}, Per::kv_head, Start::at(1)}};
  }
  int width(Side, int dim) const { return dim; }
  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area&, Call<T>& call) const {
    const T* gain = call.parameter[side == Side::key].value;
    const T factor = side == Side::query ? T(scale_of(rows.cols)) : T(1);
    for (int i = 0; i < rows.rows; ++i) {
      const T r = factor * detail::inverse_length(rows[i], rows.cols, share(rows.cols), epsilon);
      for (int d = 0; d < rows.cols; ++d) out[i][d] = r * gain[d] * rows[i][d];
    }
  }
  // y = factor gain r x: dgain += factor r x dy.
  template <class T>
  void map_backward(Side side, Matrix<const T> rows, Matrix<const T> dout, Matrix<T> drows, const Area&,
                    Call<T>& call) const {
    const Parameter<T>& gain = call.parameter[side == Side::key];
    const T factor = side == Side::query ? T(scale_of(rows.cols)) : T(1);
    for (int i = 0; i < rows.rows; ++i) {
      const T *x = rows[i], *g = dout[i];
      const T r = detail::inverse_length(x, rows.cols, share(rows.cols), epsilon);
      for (int d = 0; d < rows.cols; ++d) gain.grad[d] += factor * r * x[d] * g[d];
      detail::add_length_backward(
          x, [=](int d) { return factor * gain.value[d] * g[d]; }, rows.cols, r, share(rows.cols), drows[i]);
    }
  }
  template <class T>
  void logits(const Features<T>& f, Tile<T>& x, Call<T>& call) const {
    detail::dot_logits(f, x, call);
  }
  template <class T>
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) const {
    detail::dot_backward(f, dx, df, call);
  }

 private:
  double share(int dim) const { return norm == RowNorm::rms ? 1.0 / dim : 1.0; }
};

}  // namespace attune
