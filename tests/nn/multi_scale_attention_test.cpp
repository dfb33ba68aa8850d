// MultiScaleAttention against plain loops, its gradients, its padding.
#include "attune/nn/multi_scale_attention.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "attune/base/error.hpp"
#include "autograd/check.hpp"
#include "nn/plain_loops.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

MultiScaleOptions small_scales(bool causal) {
  return {.model_dim = 6, .scales = {1, 2, 3}, .heads_per_scale = 2, .head_dim = 2, .causal = causal};
}
void shake_scales(MultiScaleAttention& m) {
  m.to(DType::float64);
  std::uint64_t seed = 100;
  for (NamedTensor p : m.named_parameters()) p.tensor.copy_from(normal(p.tensor.shape(), ++seed));
}

/// One entry of `valid` tokens; rows of x beyond are not looked at.
Table scales_by_loops(const MultiScaleAttention& m, Table x, int valid) {
  x.resize(std::size_t(valid));
  const auto& o = m.options();
  const std::int64_t d = o.head_dim, n = o.heads_per_scale, width = d * n * std::int64_t(o.scales.size());
  const Table p = project(x, m.weight_in, m.bias_in);
  std::vector<Table> heads;
  for (std::int64_t h = 0; h < n * std::int64_t(o.scales.size()); ++h) {
    const int s = int(o.scales[std::size_t(h / n)]);
    const auto means = [&](std::int64_t column) {
      Table out;
      for (int j = 0; j * s < valid; ++j) {
        const int end = std::min(valid, j * s + s);
        out.emplace_back(std::size_t(d), 0.0);
        for (int t = j * s; t < end; ++t) {
          for (std::size_t c = 0; c < std::size_t(d); ++c) {
            out.back()[c] += p[std::size_t(t)][std::size_t(column) + c] / (end - j * s);
          }
        }
      }
      return out;
    };
    const Visible visible = [&](int i, int j) { return !o.causal || j * s + s - 1 <= i; };
    heads.push_back(attended(columns(p, h * d, d), means(width + h * d), means(2 * width + h * d), visible));
  }
  return project(beside(heads), m.weight_out, m.bias_out);
}

TEST(MultiScaleAttention, EqualsPlainLoopsAndHidesPadding) {
  for (bool causal : {false, true}) {
    MultiScaleAttention m(small_scales(causal));
    shake_scales(m);
    Tensor x = normal({3, 7, 6}, 101);
    for (int i = 11 * 6; i < 14 * 6; ++i) x.data<double>()[i] = std::numeric_limits<double>::quiet_NaN();
    const Tensor y = m(x, {7, 4, 0});
    for (int b : {0, 1}) {
      Table expected = scales_by_loops(m, table(x, b), 7 - 3 * b);
      expected.resize(7, std::vector<double>(6, 0));
      expect_table(y, b, expected, 7 - 3 * b);
    }
    expect_table(y, 2, Table(7, m.bias_out.to_vector()));
  }
}

TEST(MultiScaleAttention, IsCausalOverManyTiles) {
  MultiScaleAttention m({.model_dim = 4, .scales = {2, 3}, .head_dim = 2, .causal = true});
  shake_scales(m);
  const Tensor x = normal({1, 300, 4}, 102);
  expect_table(m(x), 0, scales_by_loops(m, table(x, 0), 300));
}

TEST(MultiScaleAttention, HasRightGradients) {
  for (bool causal : {false, true}) {
    MultiScaleAttention m(small_scales(causal));
    shake_scales(m);
    Inputs in = m.parameters();
    in.push_back(normal({2, 5, 6}, 103));
    expect_gradients(
        [&](const Inputs& all) {
          return m(all.back(), {5, 4});
        },
        in, {.most_elements = 40, .taylor_length = 0.01});
  }
}

TEST(MultiScaleAttention, NamesItsParametersAndRefusesBadOptions) {
  std::vector<std::string> names;
  for (const NamedTensor& p : MultiScaleAttention(small_scales(true)).named_parameters()) {
    names.push_back(p.name + " " + p.tensor.shape().text());
  }
  EXPECT_EQ(names,
            (std::vector<std::string>{"weight_in [36, 6]", "bias_in [36]", "weight_out [6, 12]", "bias_out [6]"}));
  EXPECT_THROW(MultiScaleAttention({.model_dim = 6, .scales = {}}), Error);
  EXPECT_THROW(MultiScaleAttention({.model_dim = 6, .scales = {1, 0}}), Error);
  EXPECT_THROW(MultiScaleAttention({.model_dim = 6, .scales = {1, 2, 3, 4}}), Error);
}

}  // namespace
}  // namespace attune::nn
