// Gumbel noise: logits = (logits + g) / temperature, g = -log(-log u), u uniform in (0, 1) for every pair. The largest
// of a row is then a sample of its softmax, and a softmax over them a smooth one: "Categorical reparameterization with
// Gumbel-softmax", arXiv:1611.01144; "The Concrete distribution", arXiv:1611.00712
//
//     u = (word + 1/2) / 2^32,  word = number key % 4 of Philox 4x32-10 with
//     key (seed, 0x6d75), counter (query, key / 4, head, batch)
//
// The noise depends on the seed and the pair's indices alone: the backward meets the same, in any tile and any thread.
#pragma once
#include <cmath>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "attune/attention/bias/lane_log.hpp"
#include "attune/attention/stage.hpp"

namespace attune {

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
    const Area& a = x.area;
    Words words;
    for (int j = 0; j < a.keys; ++j) {
      const int key = a.key + j;
      if (j == 0 || key % 4 == 0) words.draw(a, key / 4, std::uint32_t(seed));
      const std::uint32_t* of_key = words.of[key % 4];
      T* row = x[j];
      for (int i = 0; i < a.queries; ++i) row[i] = (row[i] + T(noise(of_key[i], Real<T>()))) * inverse;
    }
  }
  template <class T>
  void backward(const Tile<T>*, Tile<T>& dx, Call<T>&) const {
    const T inverse = T(1 / temperature);
    each(dx, [=](T& d, int, int) { d *= inverse; });
  }

 private:
  // Noise has no tangent: a Dual takes it in double.
  template <class T>
  using Real = std::conditional_t<std::is_same_v<T, float>, float, double>;

  // Philox for all queries of a tile at once, round by round, so that each step of it is a loop over lanes.
  struct Words {
    std::uint32_t of[4][kLanes];
    void draw(const Area& a, int block, std::uint32_t seed) {
      const int n = a.queries;
      for (int i = 0; i < n; ++i) {
        of[0][i] = std::uint32_t(a.query + i), of[1][i] = std::uint32_t(block);
        of[2][i] = std::uint32_t(a.head), of[3][i] = std::uint32_t(a.batch);
      }
      std::uint32_t first = seed, second = 0x6d75;
      for (int round = 0; round < 10; ++round, first += 0x9E3779B9u, second += 0xBB67AE85u) {
        for (int i = 0; i < n; ++i) {
          const std::uint64_t p = 0xD2511F53ull * of[0][i], q = 0xCD9E8D57ull * of[2][i];
          of[0][i] = std::uint32_t(q >> 32) ^ of[1][i] ^ first;
          of[1][i] = std::uint32_t(q);
          of[2][i] = std::uint32_t(p >> 32) ^ of[3][i] ^ second;
          of[3][i] = std::uint32_t(p);
        }
      }
    }
  };

  // -log(-log u). Near 1, where the large ones come from, log u is taken from 1 - u, which is exact.
  static double noise(std::uint32_t word, double) {
    const double u = (word + 0.5) * 0x1p-32, rest = (~word + 0.5) * 0x1p-32;
    return -log(u < 0.5 ? -log(u) : -std::log1p(-rest));
  }
  static float noise(std::uint32_t word, float) {
    const float u = (float(word) + 0.5f) * 0x1p-32f, rest = (float(~word) + 0.5f) * 0x1p-32f;
    const float near_one = detail::twice_atanh(rest / (2.0f - rest));  // -log(1 - rest), for u >= sqrt(1/2)
    return -detail::lane_log(rest < 0.29f ? near_one : -detail::lane_log(u));
  }
};

}  // namespace attune
