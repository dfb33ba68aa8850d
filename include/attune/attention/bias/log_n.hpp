// Log-length scaling: logits *= scale log n, where n is how many keys a query may see, so that attention keeps its
// sharpness in texts longer than those of the training. "Overcoming a theoretical limitation of self-attention",
// arXiv:2202.12172; with a learned scale per head, "Scalable-softmax", arXiv:2501.19399
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

enum class LengthOf : std::uint8_t {
  position,  // n = position of the query + 1 (at least 1): what a causal mask leaves
  keys       // n = number of keys
};
/// "position", "keys".
std::span<const std::string_view> option_names(LengthOf);

/// Parameter, if learned: scale [H]; 1 / log n at the training's length n starts from plain attention there. Else the
/// option `scale` holds for all heads. At n = 1 every logit becomes 0.
struct LogLength {
  static constexpr std::string_view name = "log_n";
  static constexpr std::string_view source = "arXiv:2202.12172, arXiv:2501.19399",
                                    cost = "1 multiplication a pair, 1 log a query and tile";
  static constexpr bool saves = true;
  LengthOf length = LengthOf::position;
  double scale = 1;
  bool learned = false;

  void options(StageOptions& visit) { visit("length", length), visit("scale", scale), visit("learned", learned); }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const {
    if (!learned) return {};
    // The mean factor of the training is about 1.
    return {{"scale", {1}, Per::head, Start::at(1 / std::log(double(std::max(2, shape.num_keys))))}};
  }
  // The learned scale wants the logit before.
  template <class T>
  void apply(Tile<T>& x, Tile<T>* saved, Call<T>& call) const {
    if (saved && learned) each(*saved, x, [](T& kept, T& s) { kept = s; });
    T log_n[kLanes];
    lengths(x.area, log_n);
    multiply_lanes(x, log_n, call);
  }
  // y = x s log n: ds += x . dy log n.
  template <class T>
  void backward(const Tile<T>* saved, Tile<T>& dx, Call<T>& call) const {
    T log_n[kLanes], sum[kLanes] = {};
    lengths(dx.area, log_n);
    if (learned) {
      for (int j = 0; j < dx.area.keys; ++j) {
        const T *before = (*saved)[j], *d = dx[j];
        for (int i = 0; i < dx.area.queries; ++i) sum[i] += before[i] * d[i];
      }
      for (int i = 0; i < dx.area.queries; ++i) sum[i] *= log_n[i];
      *call.parameter[0].grad += sum_lanes(sum, dx.area.queries);
    }
    multiply_lanes(dx, log_n, call);
  }

 private:
  template <class T>
  void lengths(const Area& a, T* log_n) const {
    for (int i = 0; i < a.queries; ++i) {
      const int n = length == LengthOf::keys ? a.shape->num_keys : a.query + i + a.offset + 1;
      log_n[i] = T(n > 1 ? std::log(double(n)) : 0.0);
    }
  }
  template <class T>
  void multiply_lanes(const Tile<T>& x, T* log_n, const Call<T>& call) const {
    const T times = learned ? *call.parameter[0].value : T(scale);
    for (int i = 0; i < x.area.queries; ++i) log_n[i] *= times;
    each_row(x, [=](T* row, int n) {
      for (int i = 0; i < n; ++i) row[i] *= log_n[i];
    });
  }
};

}  // namespace attune
