// Gumbel noise: logits = (logits + g) / temperature, g = -log(-log u), u uniform in (0, 1) for every pair. The largest
// of a row is then a sample of its softmax, and a softmax over them a smooth one: "Categorical reparameterization with
// Gumbel-softmax", arXiv:1611.01144; "The Concrete distribution", arXiv:1611.00712
//
//     u = (word + 1/2) / 2^32,  word = number key % 4 of Philox 4x32-10 with
//     key (seed, 0x6d75), counter (query, key / 4, head, batch)
//
// The noise depends on the seed and the pair's indices alone: the backward meets the same, in any tile and any thread.
#pragma once
#include <array>
#include <string_view>
#include <type_traits>

#include "attune/attention/stage.hpp"

namespace attune {

namespace detail {
// src/attention/bias_kernels.cpp
void add_gumbel(const Tile<float>& x, int seed, float inverse);
/// Of query area.query + i and keys 4 block .. 4 block + 3.
std::array<double, 4> gumbel_noise(const Area& area, int i, int block, int seed);
}  // namespace detail

/// No parameter. temperature > 0; a new seed for every step is the caller's to give. Indices are those of the call: the
/// first query is 0 whatever its offset.
struct GumbelNoise {
  static constexpr std::string_view name = "gumbel";
  static constexpr std::string_view source = "arXiv:1611.01144", cost = "1/4 Philox block and 2 log a pair";
  double temperature = 1;
  int seed = 0;

  void options(StageOptions& visit) { visit("temperature", temperature), visit("seed", seed); }
  void check(const AttendShape&) const;

  template <class T>
  void apply(Tile<T>& x, Tile<T>*, Call<T>&) const {
    const T inverse = T(1 / temperature);
    if constexpr (std::is_same_v<T, float>) {
      detail::add_gumbel(x, seed, inverse);
    } else {
      for (int i = 0; i < x.area.queries; ++i) {
        std::array<double, 4> noise;
        for (int j = 0; j < x.area.keys; ++j) {
          const int key = x.area.key + j;
          if (j == 0 || key % 4 == 0) noise = detail::gumbel_noise(x.area, i, key / 4, seed);
          x[j][i] = (x[j][i] + T(noise[std::size_t(key % 4)])) * inverse;
        }
      }
    }
  }
  template <class T>
  void backward(const Tile<T>*, Tile<T>& dx, Call<T>&) const {
    const T inverse = T(1 / temperature);
    if (temperature != 1) each(dx, [=](T& d, int, int) { d *= inverse; });
  }
};

}  // namespace attune
