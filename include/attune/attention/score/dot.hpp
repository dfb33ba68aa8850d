// Dot product: logits = query . key, without a scale.
// "Effective approaches to attention-based neural machine translation" (score "dot"), arXiv:1508.04025
// The logits of ScaledDot{.scale = 1}, on rows as they lie: there is no row map at all.
#pragma once
#include <string_view>

#include "attune/attention/score/scaled_dot.hpp"

namespace attune {

/// Query and key of one width D. Logits grow with sqrt(D): ScaledDot divides that out.
struct Dot {
  static constexpr std::string_view name = "dot";
  static constexpr std::string_view source = "arXiv:1508.04025", cost = "D multiply-adds a pair";
  static constexpr bool is_product = true;

  void check(const AttendShape&) const;
  template <class T>
  void logits(const Features<T>& f, Tile<T>& x, Call<T>& call) const {
    detail::dot_logits(f, x, call);
  }
  template <class T>
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) const {
    detail::dot_backward(f, dx, df, call);
  }
};

}  // namespace attune
