// ALiBi: logits -= slope * |position of query - key|.  "Train short, test long", arXiv:2108.12409
#pragma once
#include <cmath>
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

/// Fixed slopes of head h = 0 .. H-1: 2^(-8 (h + 1) / H), a geometric series whose last is 2^-8.
inline double alibi_slope(int head, int num_heads) { return std::exp2(-8.0 * (head + 1) / num_heads); }

/// Parameter, if learned: slope [H].
struct Alibi {
  static constexpr std::string_view name = "alibi";
  static constexpr std::string_view source = "arXiv:2108.12409", cost = "1 multiply-add a pair";
  bool learned = false;

  void options(StageOptions& visit) { visit("learned", learned); }
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const {
    if (!learned) return {};
    std::vector<double> slopes(std::size_t(shape.num_heads));
    for (std::size_t h = 0; h < slopes.size(); ++h) slopes[h] = alibi_slope(int(h), shape.num_heads);
    return {{"slope", {1}, Per::head, Start::each_at(std::move(slopes))}};
  }
  template <class T>
  void apply(Tile<T>& x, Tile<T>*, Call<T>& call) const {
    const T slope = learned ? *call.parameter[0].value : T(alibi_slope(x.area.head, x.area.shape->num_heads));
    if constexpr (detail::kHasKernel<T>) {
      detail::subtract_distance(x, slope);
    } else {
      const int offset = x.area.offset;
      each(x, [=](T& s, int i, int j) { s -= slope * T(abs(i + offset - j)); });
    }
  }
  template <class T>
  void backward(const Tile<T>*, Tile<T>& dx, Call<T>& call) const {
    if (!learned) return;
    const int offset = dx.area.offset;
    *call.parameter[0].grad -= sum_each(dx, [=](T& d, int i, int j) { return d * T(abs(i + offset - j)); });
  }
};

}  // namespace attune
