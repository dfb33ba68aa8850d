// Cross-modal layers against their parts, parallel co-attention against plain loops, gradients and padding of both.
#include "attune/nn/co_attention.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "autograd/check.hpp"
#include "nn/plain_loops.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

CrossModalOptions two_modes(NormPlace norm = NormPlace::post) {
  return {.model_dim = 4, .memory_dim = 3, .num_heads = 2, .hidden_dim = 5, .norm = norm};
}
void shake_all(Module& m) {
  m.to(DType::float64);
  std::uint64_t seed = 60;
  for (NamedTensor p : m.named_parameters()) p.tensor.copy_from(normal(p.tensor.shape(), ++seed));
}
Tensor find(const Module& m, const std::string& name) {
  for (const NamedTensor& p : m.named_parameters()) {
    if (p.name == name) return p.tensor;
  }
  ADD_FAILURE() << "no parameter " << name;
  return {};
}

/// One stream of one entry; `at` is where the layer's parameters begin.
Table cross_by_loops(const Module& m, const std::string& at, const Table& x, const Table& memory, int valid, bool pre) {
  const auto p = [&](const std::string& name) { return find(m, at + name); };
  const auto norm = [&](const std::string& name, const Table& t) {
    return layer_norm_rows(t, p(name + ".weight"), p(name + ".bias"));
  };
  const Table asked = pre ? norm("attention_norm", x) : x, read = pre ? norm("memory_norm", memory) : memory;
  const std::int64_t heads = 2, width = p("attention.weight_in").shape()[0], d = width / heads;
  const auto bias = table(reshape(p("attention.bias_in"), {3, width}));
  const auto of = [&](int i) { return Tensor::from(bias[std::size_t(i)], {width}); };
  const Tensor rest = p("attention.weight_memory");
  const Table q = project(asked, p("attention.weight_in"), of(0));
  const Table k = project(read, slice(rest, 0, 0, width), of(1)),
              v = project(read, slice(rest, 0, width, 2 * width), of(2));
  std::vector<Table> parts;
  for (std::int64_t h = 0; h < heads; ++h) {
    parts.push_back(attended(columns(q, h * d, d), columns(k, h * d, d), columns(v, h * d, d),
                             [valid](int, int j) { return j < valid; }));
  }
  Table h = plus(x, project(beside(parts), p("attention.weight_out"), p("attention.bias_out")));
  if (!pre) h = norm("attention_norm", h);
  Table hidden =
      project(pre ? norm("feed_forward_norm", h) : h, p("feed_forward.expand.weight"), p("feed_forward.expand.bias"));
  for (auto& row : hidden) {
    for (double& u : row) u *= 0.5 * std::erfc(-u / std::sqrt(2.0));  // gelu
  }
  h = plus(h, project(hidden, p("feed_forward.contract.weight"), p("feed_forward.contract.bias")));
  return pre ? h : norm("feed_forward_norm", h);
}

TEST(CoAttention, EqualsPlainLoops) {
  for (NormPlace place : {NormPlace::post, NormPlace::pre}) {
    CoAttention m(two_modes(place));
    shake_all(m);
    Tensor first = normal({2, 5, 4}, 61), second = normal({2, 3, 3}, 62);
    second.data<double>()[5 * 3] = std::numeric_limits<double>::quiet_NaN();  // entry 1, row 2: padding
    const auto [a, b] = m(first, second, {5, 4}, {3, 2});
    const bool pre = place == NormPlace::pre;
    for (int e : {0, 1}) {
      const Table x = table(first, e), y = table(second, e);
      expect_table(a, e, cross_by_loops(m, "first.", x, y, 3 - e, pre));
      expect_table(b, e, cross_by_loops(m, "second.", y, x, 5 - e, pre), 3 - e);
    }
  }
}

TEST(CoAttention, HasRightGradients) {
  for (NormPlace place : {NormPlace::post, NormPlace::pre}) {
    CoAttention m(two_modes(place));
    shake_all(m);
    Inputs in = m.parameters();
    in.push_back(normal({2, 3, 4}, 63));
    in.push_back(normal({2, 2, 3}, 64));
    expect_gradients(
        [&](const Inputs& all) {
          const Streams s = m(all[all.size() - 2], all.back(), {3, 2}, {1, 2});
          return concat({s.first, reshape(s.second, {2, 3, 2})}, 2);
        },
        in, {.most_elements = 40, .taylor_length = 0.003});
  }
}

Table tanh_of(Table x) {
  for (auto& row : x) {
    for (double& v : row) v = std::tanh(v);
  }
  return x;
}
Table turned_over(const Table& x) {
  Table y(x[0].size(), std::vector<double>(x.size()));
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (std::size_t j = 0; j < x[0].size(); ++j) y[j][i] = x[i][j];
  }
  return y;
}

TEST(ParallelCoAttention, EqualsPlainLoops) {
  for (const auto& [d1, d2] : {std::pair{4, 3}, {3, 4}}) {
    ParallelCoAttention m({.first_dim = d1, .second_dim = d2, .hidden_dim = 5});
    m.to(DType::float64);
    Tensor first = normal({2, 5, d1}, 65), second = normal({2, 3, d2}, 66);
    first.data<double>()[9 * d1] = std::numeric_limits<double>::quiet_NaN();  // entry 1, row 4: no member
    const CoPooled got = m(first, second, {5, 4}, {3, 2});
    for (int e : {0, 1}) {
      Table a = table(first, e), b = table(second, e);
      a.resize(std::size_t(5 - e)), b.resize(std::size_t(3 - e));
      const Table wb = table(m.affinity), c = tanh_of(weighted(weighted(a, wb), turned_over(b)));
      const Table pa = project(a, m.first_weight), pb = project(b, m.second_weight);
      const Table ha = tanh_of(plus(pa, weighted(c, pb))), hb = tanh_of(plus(pb, weighted(turned_over(c), pa)));
      const Table wa = softmax_rows(logits_of(table(m.first_query), ha, 1), all_visible);
      const Table w2 = softmax_rows(logits_of(table(m.second_query), hb, 1), all_visible);
      expect_table(reshape(got.first, {2, 1, d1}), e, weighted(wa, a));
      expect_table(reshape(got.second, {2, 1, d2}), e, weighted(w2, b));
      Table padded = wa;
      padded[0].resize(5, 0);
      expect_table(reshape(got.first_weights, {2, 1, 5}), e, padded);
    }
  }
}

TEST(ParallelCoAttention, HasRightGradients) {
  ParallelCoAttention m({.first_dim = 4, .second_dim = 3, .hidden_dim = 5});
  m.to(DType::float64);
  Inputs in = m.parameters();
  in.push_back(normal({2, 4, 4}, 67));
  in.push_back(normal({2, 3, 3}, 68));
  expect_gradients(
      [&](const Inputs& all) {
        const CoPooled p = m(all[all.size() - 2], all.back(), {4, 2}, {0, 3});
        return concat({p.first, p.second}, 1);
      },
      in, {.taylor_length = 0.1});
}

TEST(CoAttention, NamesItsMembersAndRefusesBadOptions) {
  const CoAttention m(two_modes(NormPlace::pre));
  EXPECT_EQ(find(m, "first.attention.weight_memory").shape(), Shape({8, 3}));
  EXPECT_EQ(find(m, "second.attention.weight_memory").shape(), Shape({8, 4}));
  EXPECT_EQ(find(m, "second.memory_norm.weight").shape(), Shape({4}));
  EXPECT_THROW(CoAttention(two_modes(NormPlace::none)), Error);
  EXPECT_THROW(CoAttention({.model_dim = 5, .num_heads = 2}), Error);
  EXPECT_THROW(ParallelCoAttention({.first_dim = 4, .second_dim = 3}), Error);
  EXPECT_THROW(ParallelCoAttention({.first_dim = 4, .second_dim = 3, .hidden_dim = 2})(
                   normal({1, 2, 4}, 1, DType::float32), normal({1, 2, 4}, 2, DType::float32)),
               Error);
}

}  // namespace
}  // namespace attune::nn
