// Temperature: logits /= temperature, fixed or learned for every head. Below 1 it sharpens, above 1 it flattens.
// "Distilling the knowledge in a neural network", arXiv:1503.02531; learned per head: "Vision Transformer for
// small-size datasets", arXiv:2112.13492
#pragma once
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

/// Parameter, if learned: temperature [H], not 0. Else the option `temperature` above 0 holds for all heads.
struct Temperature {
  static constexpr std::string_view name = "temperature";
  static constexpr std::string_view source = "arXiv:1503.02531, arXiv:2112.13492", cost = "1 multiplication a pair";
  static constexpr bool saves = true;
  double temperature = 1;
  bool learned = false;

  void options(StageOptions& visit) { visit("temperature", temperature), visit("learned", learned); }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape&) const {
    if (!learned) return {};
    return {{"temperature", {1}, Per::head, Start::at(1)}};
  }
  template <class T>
  void apply(Tile<T>& x, Tile<T>* saved, Call<T>& call) const {
    const T inverse = T(1) / value(call);
    each(x, [=](T& s, int, int) { s *= inverse; });
    if (saved && learned) each(*saved, x, [](T& kept, T& s) { kept = s; });
  }
  // y = x / t: dt -= y . dy / t.
  template <class T>
  void backward(const Tile<T>* saved, Tile<T>& dx, Call<T>& call) const {
    const T inverse = T(1) / value(call);
    if (learned) *call.parameter[0].grad -= inverse * sum_each(*saved, dx, [](T& y, T& d) { return y * d; });
    each(dx, [=](T& d, int, int) { d *= inverse; });
  }

 private:
  template <class T>
  T value(const Call<T>& call) const {
    return learned ? *call.parameter[0].value : T(temperature);
  }
};

}  // namespace attune
