// Attention in plain loops over doubles, for tests of composed modules: nothing here is shared with the library.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "attune/autograd/tensor.hpp"

namespace attune::testing_support {

/// Rows of numbers: tokens by width.
using Table = std::vector<std::vector<double>>;
using Visible = std::function<bool(int query, int key)>;

/// A matrix [n, C], or entry b of [B, n, C].
inline Table table(const Tensor& x, std::int64_t b = 0) {
  const std::int64_t width = x.shape().back(), rows = x.shape().back(1), at = x.rank() == 3 ? b * rows * width : 0;
  const std::vector<double> all = x.to_vector();
  Table out;
  for (std::int64_t r = 0; r < rows; ++r) {
    out.emplace_back(all.begin() + at + r * width, all.begin() + at + (r + 1) * width);
  }
  return out;
}
inline double dot_of(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
/// Rows of the weight first .. first + count - 1 times each row of x, plus the bias.
inline Table project(const Table& x, const Tensor& weight, const Tensor& bias = {}, std::int64_t first = 0,
                     std::int64_t count = -1) {
  const Table w = table(weight);
  const std::vector<double> b = bias.defined() ? bias.to_vector() : std::vector<double>(w.size(), 0);
  if (count < 0) count = std::int64_t(w.size()) - first;
  Table out;
  for (const auto& row : x) {
    out.emplace_back();
    for (std::int64_t r = first; r < first + count; ++r) {
      out.back().push_back(dot_of(row, w[std::size_t(r)]) + b[std::size_t(r)]);
    }
  }
  return out;
}
/// Columns first .. first + count - 1.
inline Table columns(const Table& x, std::int64_t first, std::int64_t count) {
  Table out;
  for (const auto& row : x) out.emplace_back(row.begin() + first, row.begin() + first + count);
  return out;
}
inline Table beside(const std::vector<Table>& parts) {
  Table out(parts[0].size());
  for (const Table& p : parts) {
    for (std::size_t r = 0; r < p.size(); ++r) out[r].insert(out[r].end(), p[r].begin(), p[r].end());
  }
  return out;
}
/// Weights [queries][keys] of logits; hidden ones 0, and all 0 in a row that sees nothing.
inline Table softmax_rows(const Table& logits, const Visible& visible) {
  Table p = logits;
  for (int i = 0; i < int(p.size()); ++i) {
    auto& row = p[std::size_t(i)];
    double top = -1e300, sum = 0;
    for (int j = 0; j < int(row.size()); ++j) {
      if (visible(i, j)) top = std::max(top, row[std::size_t(j)]);
    }
    for (int j = 0; j < int(row.size()); ++j) {
      double& x = row[std::size_t(j)];
      x = visible(i, j) ? std::exp(x - top) : 0;
      sum += x;
    }
    for (double& x : row) x = sum > 0 ? x / sum : 0;
  }
  return p;
}
inline Table logits_of(const Table& query, const Table& key, double scale) {
  Table out;
  for (const auto& q : query) {
    out.emplace_back();
    for (const auto& k : key) out.back().push_back(scale * dot_of(q, k));
  }
  return out;
}
inline Table weighted(const Table& weights, const Table& value) {
  Table out;
  for (const auto& row : weights) {
    std::vector<double> sum(value[0].size(), 0);
    for (std::size_t j = 0; j < row.size(); ++j) {
      for (std::size_t c = 0; row[j] != 0 && c < sum.size(); ++c) sum[c] += row[j] * value[j][c];
    }
    out.push_back(sum);
  }
  return out;
}
inline bool all_visible(int, int) { return true; }
inline bool causal_visible(int query, int key) { return key <= query; }
/// One head: softmax(query . key / sqrt(D)) value.
inline Table attended(const Table& query, const Table& key, const Table& value, const Visible& visible = all_visible) {
  return weighted(softmax_rows(logits_of(query, key, 1 / std::sqrt(double(query[0].size()))), visible), value);
}
/// a + factor * b.
inline Table plus(Table a, const Table& b, double factor = 1) {
  for (std::size_t r = 0; r < a.size(); ++r) {
    for (std::size_t c = 0; c < a[r].size(); ++c) a[r][c] += factor * b[r][c];
  }
  return a;
}
inline Table rms_rows(Table x, double epsilon, const std::vector<double>& gain, double factor = 1) {
  for (auto& row : x) {
    const double size = std::sqrt(dot_of(row, row) / double(row.size()) + epsilon);
    for (std::size_t c = 0; c < row.size(); ++c) row[c] *= factor * gain[c] / size;
  }
  return x;
}
inline Table layer_norm_rows(Table x, const Tensor& weight, const Tensor& bias, double epsilon = 1e-5) {
  const auto w = weight.to_vector(), b = bias.to_vector();
  for (auto& row : x) {
    double mean = 0, variance = 0;
    for (double v : row) mean += v / double(row.size());
    for (double v : row) variance += (v - mean) * (v - mean) / double(row.size());
    for (std::size_t c = 0; c < row.size(); ++c) row[c] = (row[c] - mean) / std::sqrt(variance + epsilon) * w[c] + b[c];
  }
  return x;
}
/// Turns pairs (k, k + dim / 2) of the first dim columns by position * base^(-2 k / dim); position = row.
inline Table turned_rows(Table x, int dim, double base = 10000) {
  for (int r = 0; r < int(x.size()); ++r) {
    auto& row = x[std::size_t(r)];
    for (int k = 0; k < dim / 2; ++k) {
      const double angle = r * std::pow(base, -2.0 * k / dim), c = std::cos(angle), s = std::sin(angle);
      double &a = row[std::size_t(k)], &b = row[std::size_t(k + dim / 2)];
      const double first = a * c - b * s;
      b = a * s + b * c;
      a = first;
    }
  }
  return x;
}
/// Entry b of a result [B, T, C] is the table, to `bar` of its largest number; rows from `rows` on are not looked at.
inline void expect_table(const Tensor& result, std::int64_t b, const Table& expected, int rows = -1,
                         double bar = 1e-12) {
  const Table got = table(result, b);
  ASSERT_EQ(got.size(), expected.size());
  double top = 1e-300, off = 0;
  for (std::size_t r = 0; r < (rows < 0 ? got.size() : std::size_t(rows)); ++r) {
    ASSERT_EQ(got[r].size(), expected[r].size());
    for (std::size_t c = 0; c < got[r].size(); ++c) {
      ASSERT_TRUE(std::isfinite(got[r][c])) << "entry " << b << ", row " << r;
      top = std::max(top, std::abs(expected[r][c]));
      off = std::max(off, std::abs(got[r][c] - expected[r][c]));
    }
  }
  EXPECT_LE(off / top, bar) << "entry " << b;
}

}  // namespace attune::testing_support
