// Concatenation score: logits = v^T tanh(W [query; key]).
// "Effective approaches to attention-based neural machine translation" (score "concat"), arXiv:1508.04025
//
// W [query; key] is W_q query + W_k key with W = [W_q W_k]: the additive score with one matrix instead of two, and made
// of the same code. It differs where heads share keys: one matrix for both sides must be one per key head.
#pragma once
#include <string_view>

#include "attune/attention/score/additive.hpp"

namespace attune {

/// Parameters: weight [Hkv, hidden_dim, query_dim + key_dim], v [H, hidden_dim]. Query and key may differ in width.
struct Concat {
  static constexpr std::string_view name = "concat";
  static constexpr std::string_view source = "arXiv:1508.04025", cost = "hidden_dim tanh a pair";
  int hidden_dim = 0;  // F; chosen by name and left at 0, it becomes key_dim

  void options(StageOptions& visit) { visit("hidden_dim", hidden_dim); }
  void fit(const AttendShape& shape) { hidden_dim = hidden_dim ? hidden_dim : shape.key_dim; }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const {
    return {{"weight", {hidden_dim, shape.query_dim + shape.key_dim}, Per::kv_head}, {"v", {hidden_dim}, Per::head}};
  }
  int width(Side, int) const { return hidden_dim; }
  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area& area, Call<T>& call) const {
    const AttendShape& s = *area.shape;
    detail::project(rows, call.parameter[0].value + first_column(side, s), s.query_dim + s.key_dim, out, call);
  }
  template <class T>
  void map_backward(Side side, Matrix<const T> rows, Matrix<const T> dout, Matrix<T> drows, const Area& area,
                    Call<T>& call) const {
    const AttendShape& s = *area.shape;
    const int column = first_column(side, s);
    const Parameter<T> part{call.parameter[0].value + column, call.parameter[0].grad + column};
    detail::project_backward(rows, dout, part, s.query_dim + s.key_dim, drows);
  }
  template <class T>
  void logits(const Features<T>& f, Tile<T>& x, Call<T>& call) const {
    detail::tanh_logits(f, x, call.parameter[1].value, call);
  }
  template <class T>
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) const {
    detail::tanh_backward(f, dx, df, call.parameter[1], call);
  }

 private:
  static int first_column(Side side, const AttendShape& s) { return side == Side::query ? 0 : s.query_dim; }
};

}  // namespace attune
