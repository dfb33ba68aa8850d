// Random rows of Favor, and the maps over rows of one chunk with their derivatives.
#include "attune/attention/linear/features.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "attention/linear/features.hpp"
#include "attention/linear/rows.hpp"
#include "attune/base/error.hpp"
#include "attune/base/rng.hpp"
#include "kernels/lanes.hpp"
#include "kernels/product.hpp"

namespace attune {
namespace features {

Favor::Favor(int head_dim, int num_features, std::uint64_t seed, bool orthogonal, double scale)
    : head_dim_(head_dim), num_features_(num_features) {
  if (head_dim < 1 || num_features < 1) {
    fail("Favor", "a head_dim and num_features of at least 1", fmt::format("got {} and {}", head_dim, num_features));
  }
  if (!(scale >= 0) || !std::isfinite(scale)) fail("Favor", "a scale of at least 0", fmt::format("got {}", scale));
  scale_ = scale == 0 ? 1 / std::sqrt(double(head_dim)) : scale;
  const auto width = std::size_t(head_dim);
  Generator generator(seed);
  std::vector<double> rows(std::size_t(num_features) * width);
  for (double& x : rows) x = generator.normal();
  for (std::size_t i = 0; orthogonal && i < std::size_t(num_features); ++i) {
    // Gram-Schmidt, twice for the digits; the length is that of a Gaussian row, drawn apart from its direction.
    double* row = rows.data() + i * width;
    const std::size_t block = i / width * width;
    for (int pass = 0; pass < 2; ++pass) {
      for (std::size_t j = block; j < i; ++j) {
        const double* other = rows.data() + j * width;
        double dot = 0, length = 0;
        for (std::size_t d = 0; d < width; ++d) dot += row[d] * other[d], length += other[d] * other[d];
        for (std::size_t d = 0; d < width; ++d) row[d] -= dot / length * other[d];
      }
    }
    double length = 0, drawn = 0;
    for (std::size_t d = 0; d < width; ++d) {
      const double x = generator.normal();
      length += row[d] * row[d], drawn += x * x;
    }
    for (std::size_t d = 0; d < width; ++d) row[d] *= std::sqrt(drawn / length);
  }
  rows_ = std::make_shared<const std::vector<double>>(std::move(rows));
}

}  // namespace features

int feature_width(const FeatureMap& map, int head_dim) {
  const auto* favor = std::get_if<features::Favor>(&map);
  return favor ? favor->num_features() : head_dim;
}

std::string_view name_of(const FeatureMap& map) {
  return std::visit([](const auto& m) { return m.name; }, map);
}

namespace engine {
namespace {

/// The largest number, in eight runs side by side, so that the loop is one of vectors. A NaN among others is passed
/// over.
template <class T>
T largest_of(int n, const T* x) {
  constexpr int kRuns = 8;
  T run[kRuns];
  std::fill(run, run + kRuns, x[0]);
  int i = 0;
  for (; i + kRuns <= n; i += kRuns) {
    for (int j = 0; j < kRuns; ++j) run[j] = run[j] < x[i + j] ? x[i + j] : run[j];
  }
  T largest = *std::max_element(run, run + kRuns);
  for (; i < n; ++i) largest = std::max(largest, x[i]);
  return largest;
}

}  // namespace

template <class T>
Features<T>::Features(const FeatureMap& map, int head_dim)
    : map_(map), head_dim_(head_dim), width_(feature_width(map, head_dim)) {
  if (const auto* favor = std::get_if<features::Favor>(&map)) {
    // Both ways round, times sqrt(scale): x . w reads columns, the gradient reads rows.
    const double root = std::sqrt(favor->scale());
    for (double w : favor->rows()) rows_.push_back(T(w * root));
    columns_.resize(rows_.size());
    kernels::transpose(rows_.data(), head_dim, width_, head_dim, columns_.data(), width_, T(1));
  }
}

template <class T>
void Features<T>::map(int n, const T* x, T* y, bool query) const {
  const std::int64_t size = std::int64_t(n) * width_;
  if (std::holds_alternative<features::Identity>(map_)) {
    if (x != y) std::copy(x, x + size, y);
  } else if (std::holds_alternative<features::EluPlusOne>(map_)) {
    // max(x, 0) + e^min(x, 0); both selections let a NaN through.
    for (std::int64_t i = 0; i < size; ++i) y[i] = x[i] > 0 ? T(0) : x[i];
    exponentials(size, y, y);
    for (std::int64_t i = 0; i < size; ++i) y[i] += x[i] > 0 ? x[i] : T(0);
  } else if (const auto* relu = std::get_if<features::Relu>(&map_)) {
    const T epsilon = T(relu->epsilon);
    for (std::int64_t i = 0; i < size; ++i) y[i] = (x[i] < 0 ? T(0) : x[i]) + epsilon;
  } else {
    const double scale = std::get<features::Favor>(map_).scale();
    const T shift = T(-0.5 * std::log(double(width_)));
    kernels::product(n, width_, head_dim_, x, head_dim_, 1, columns_.data(), width_, y, width_);
    for (int r = 0; r < n; ++r) {
      T *row = y + std::ptrdiff_t(r) * width_, by;
      const T* from = x + std::ptrdiff_t(r) * head_dim_;
      if (query) {
        by = -largest_of(width_, row);
      } else {
        kernels::dot_rows(from, head_dim_, from, head_dim_, 1, head_dim_, &by);
        by = shift - by * T(scale / 2);
      }
      for (int f = 0; f < width_; ++f) row[f] += by;
    }
    exponentials(size, y, y);
  }
}

// y = phi(x)
template <class T>
void Features<T>::backward(int n, const T* x, const T* y, T* dy, T* dx, bool query) const {
  const std::int64_t size = std::int64_t(n) * width_;
  if (std::holds_alternative<features::Identity>(map_)) {
    std::copy(dy, dy + size, dx);
  } else if (std::holds_alternative<features::EluPlusOne>(map_)) {
    for (std::int64_t i = 0; i < size; ++i) {
      const T above = dy[i], below = above * y[i];  // both, so that the loop has no branch
      dx[i] = x[i] > 0 ? above : below;
    }
  } else if (std::holds_alternative<features::Relu>(map_)) {
    for (std::int64_t i = 0; i < size; ++i) {
      const T above = dy[i];
      dx[i] = x[i] > 0 ? above : T(0);
    }
  } else {
    // y_f = e^(w_f . x - scale |x|^2 / 2): dx = sum_f dy_f y_f (w_f - scale x). A query's scaling is no function of x
    // to the result, which the normalizer frees of it: its second term and that of the length vanish with it.
    for (std::int64_t i = 0; i < size; ++i) dy[i] *= y[i];
    kernels::product(n, head_dim_, width_, dy, width_, 1, rows_.data(), head_dim_, dx, head_dim_);
    if (query) return;
    const T scale = T(std::get<features::Favor>(map_).scale());
    for (int r = 0; r < n; ++r) {
      T sum = 0;
      for (int f = 0; f < width_; ++f) sum += dy[std::ptrdiff_t(r) * width_ + f];
      for (int d = 0; d < head_dim_; ++d) dx[r * head_dim_ + d] -= scale * sum * x[r * head_dim_ + d];
    }
  }
}

template class Features<float>;
template class Features<double>;

}  // namespace engine
}  // namespace attune
