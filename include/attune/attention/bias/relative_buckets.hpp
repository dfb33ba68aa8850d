// Relative buckets: logits += table[head][bucket(position of key - position of query)]. T5, arXiv:1910.10683
//
// With n buckets a side (a half of them for keys before the query, a half for keys after it; all if `causal`), the
// first e = n / 2 distances have a bucket each, and from there to max_distance they grow by a constant factor:
//
//     bucket(d) = d                                                      d < e
//                 e + floor(log(d / e) / log(max_distance / e) (n - e))   e <= d, at most n - 1
//
// In float32 and in this order of operations, as Hugging Face's T5 computes it, so that the borders are the same.
#pragma once
#include <algorithm>
#include <cmath>
#include <string_view>

#include "attune/attention/bias/by_distance.hpp"

namespace attune {

/// Parameter: table [H, num_buckets]. causal: all buckets for keys at the query's place and before; keys after it share
/// bucket 0. Distances of max_distance tokens and more share the last bucket of their side.
struct RelativeBuckets {
  static constexpr std::string_view name = "relative_buckets";
  static constexpr std::string_view source = "arXiv:1910.10683", cost = "1 addition a pair, 1 log a diagonal of a tile";
  int num_buckets = 32, max_distance = 128;
  bool causal = false;

  void options(StageOptions& visit) {
    visit("num_buckets", num_buckets), visit("max_distance", max_distance), visit("causal", causal);
  }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape&) const {
    return {{"table", {num_buckets}, Per::head, Start::at(0)}};
  }

  /// The bucket of a key `ahead` tokens after the query.
  int bucket(int ahead) const {
    const int side = causal ? num_buckets : num_buckets / 2, exact = side / 2;
    const int distance = causal ? std::max(0, -ahead) : std::abs(ahead), first = !causal && ahead > 0 ? side : 0;
    if (distance < exact) return first + distance;
    if (distance >= max_distance) return first + side - 1;
    const float share = std::log(float(distance) / float(exact)) / float(std::log(double(max_distance) / exact));
    return first + std::min(exact + int(share * float(side - exact)), side - 1);
  }

  template <class T>
  void apply(Tile<T>& x, Tile<T>*, Call<T>& call) const {
    const T* table = call.parameter[0].value;
    const detail::Diagonals d(x.area);
    T* value = call.scratch(std::size_t(d.count));
    const auto [low, high] = near(d);
    for (int m = 0; m < low; ++m) value[m] = table[bucket(max_distance)];
    for (int m = low; m < high; ++m) value[m] = table[bucket(-(d.first + m))];
    for (int m = high; m < d.count; ++m) value[m] = table[bucket(-max_distance)];
    detail::add_diagonals(x, value);
  }
  template <class T>
  void backward(const Tile<T>*, Tile<T>& dx, Call<T>& call) const {
    T* grad = call.parameter[0].grad;
    const detail::Diagonals d(dx.area);
    T* sum = call.scratch(std::size_t(d.count));
    for (int m = 0; m < d.count; ++m) sum[m] = T(0);
    detail::sum_diagonals(dx, sum);
    const auto [low, high] = near(d);
    grad[bucket(max_distance)] += sum_lanes(sum, low);
    for (int m = low; m < high; ++m) grad[bucket(-(d.first + m))] += sum[m];
    grad[bucket(-max_distance)] += sum_lanes(sum + high, d.count - high);
  }

 private:
  /// The diagonals from `low` to `high` are nearer than max_distance; those before are keys after the query, all in one
  /// bucket, and so are those from `high` on, keys before it.
  struct Near {
    int low, high;
  };
  Near near(const detail::Diagonals& d) const {
    const int low = std::clamp(1 - max_distance - d.first, 0, d.count);
    return {low, std::clamp(max_distance - d.first, low, d.count)};
  }
};

}  // namespace attune
