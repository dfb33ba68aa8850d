// Cosine score: logits = query . key / (|query| |key| temperature), a learned temperature for every head.
// "Neural Turing machines" (addressing by content), arXiv:1410.5401; per head in "Swin Transformer V2",
// arXiv:2111.09883
#pragma once
#include <string_view>

#include "attune/attention/score/rows.hpp"
#include "attune/attention/score/scaled_dot.hpp"

namespace attune {

/// Parameter: temperature [H], not 0; the logits lie in -1 / |temperature| .. 1 / |temperature|.
/// Query and key of one width. A row of length 0 has the logit 0 with everything, and no gradient.
struct CosineScore {
  static constexpr std::string_view name = "cosine";
  static constexpr std::string_view source = "arXiv:1410.5401, arXiv:2111.09883",
                                    cost = "D multiply-adds a pair, 1 length a row";
  static constexpr bool is_product = true;

  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape&) const {
    return {{"temperature", {1}, Per::head, Start::at(0.1)}};  // arXiv:2111.09883
  }
  int width(Side, int dim) const { return dim; }
  // Keys become unit vectors, queries unit vectors over the temperature.
  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area&, Call<T>& call) const {
    const T factor = factor_of(side, call);
    for (int i = 0; i < rows.rows; ++i) {
      const T r = factor * detail::inverse_length(rows[i], rows.cols, 1, 0);
      for (int d = 0; d < rows.cols; ++d) out[i][d] = r * rows[i][d];
    }
  }
  // y = x / (|x| t): dt -= y . dy / t.
  template <class T>
  void map_backward(Side side, Matrix<const T> rows, Matrix<const T> dout, Matrix<T> drows, const Area&,
                    Call<T>& call) const {
    const T factor = factor_of(side, call);
    T sum(0);
    for (int i = 0; i < rows.rows; ++i) {
      const T* g = dout[i];
      const T r = detail::inverse_length(rows[i], rows.cols, 1, 0);
      sum += r * detail::add_length_backward(
                     rows[i], [=](int d) { return factor * g[d]; }, rows.cols, r, 1, drows[i]);
    }
    if (side == Side::query) *call.parameter[0].grad -= sum * factor;
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
  template <class T>
  static T factor_of(Side side, const Call<T>& call) {
    return side == Side::query ? T(1) / *call.parameter[0].value : T(1);
  }
};

}  // namespace attune
