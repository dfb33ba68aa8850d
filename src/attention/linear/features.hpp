// A feature map made ready for one scalar type.
#pragma once
#include <vector>

#include "attune/attention/linear/features.hpp"

namespace attune::engine {

template <class T>
class Features {
 public:
  Features(const FeatureMap& map, int head_dim);
  int width() const { return width_; }
  bool identity() const { return std::holds_alternative<features::Identity>(map_); }
  /// y [n][width] = phi(x [n][head_dim]), both without gaps. query: the row is scaled as suits it where the normalizer
  /// cancels that.
  void map(int n, const T* x, T* y, bool query) const;
  /// dx [n][head_dim] from y = phi(x) and dy [n][width], which is overwritten.
  void backward(int n, const T* x, const T* y, T* dy, T* dx, bool query) const;

 private:
  const FeatureMap& map_;
  int head_dim_, width_;
  std::vector<T> rows_, columns_;  // of Favor: [width][head_dim] and [head_dim][width]
};

}  // namespace attune::engine
