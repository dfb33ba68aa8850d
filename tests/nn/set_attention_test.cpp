// The set transformer's blocks against plain loops, with sets of different sizes; that order does not matter.
#include "attune/nn/set_attention.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "autograd/check.hpp"
#include "nn/plain_loops.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

constexpr SetAttentionOptions kSmallSets{.model_dim = 4, .num_heads = 2, .hidden_dim = 5};

/// Parameter `name` of a block, found by its name in the whole module.
struct Named {
  std::vector<NamedTensor> all;
  explicit Named(const Module& m) : all(m.named_parameters()) {}
  Tensor operator()(const std::string& name) const {
    for (const NamedTensor& p : all) {
      if (p.name == name) return p.tensor;
    }
    ADD_FAILURE() << "no parameter " << name;
    return {};
  }
};

Table feed_forward_by_loops(const Named& p, const std::string& at, const Table& x) {
  Table hidden = project(x, p(at + "expand.weight"), p(at + "expand.bias"));
  for (auto& row : hidden) {
    for (double& v : row) v = std::max(v, 0.0);
  }
  return project(hidden, p(at + "contract.weight"), p(at + "contract.bias"));
}
Table block_by_loops(const Named& p, const std::string& at, const Table& x, const Table& y, int valid) {
  const std::int64_t c = kSmallSets.model_dim, heads = kSmallSets.num_heads, d = c / heads;
  const Tensor w = p(at + "attention.weight_in"), b = p(at + "attention.bias_in");
  const Table q = project(x, w, b, 0, c), k = project(y, w, b, c, c), v = project(y, w, b, 2 * c, c);
  std::vector<Table> parts;
  for (std::int64_t h = 0; h < heads; ++h) {
    parts.push_back(attended(columns(q, h * d, d), columns(k, h * d, d), columns(v, h * d, d),
                             [valid](int, int j) { return j < valid; }));
  }
  const Table seen = project(beside(parts), p(at + "attention.weight_out"), p(at + "attention.bias_out"));
  const Table h = layer_norm_rows(plus(x, seen), p(at + "attention_norm.weight"), p(at + "attention_norm.bias"));
  return layer_norm_rows(plus(h, feed_forward_by_loops(p, at + "feed_forward.", h)), p(at + "feed_forward_norm.weight"),
                         p(at + "feed_forward_norm.bias"));
}
/// Every parameter at random: norms and bias terms too.
void shake(Module& m) {
  m.to(DType::float64);
  std::uint64_t seed = 40;
  for (NamedTensor p : m.named_parameters()) p.tensor.copy_from(normal(p.tensor.shape(), ++seed));
}
/// Two sets, of 5 and 3 elements; padding is NaN.
const std::vector<int> kSizes{5, 3};
Tensor two_sets() {
  Tensor x = normal({2, 5, 4}, 41);
  for (int i = 8 * 4; i < 10 * 4; ++i) x.data<double>()[i] = std::numeric_limits<double>::quiet_NaN();
  return x;
}

TEST(SetAttention, EqualsPlainLoops) {
  SetAttention m(kSmallSets);
  shake(m);
  const Tensor x = two_sets(), y = m(x, kSizes);
  for (int b : {0, 1}) {
    const int n = kSizes[std::size_t(b)];
    const Table set = table(x, b);
    expect_table(y, b, block_by_loops(Named(m), "block.", set, set, n), n);
  }
}

TEST(InducedSetAttention, EqualsPlainLoops) {
  InducedSetAttention m(kSmallSets, 3);
  shake(m);
  const Tensor x = two_sets(), y = m(x, kSizes);
  for (int b : {0, 1}) {
    const int n = kSizes[std::size_t(b)];
    const Table points = block_by_loops(Named(m), "to_points.", table(m.points), table(x, b), n);
    expect_table(y, b, block_by_loops(Named(m), "from_points.", table(x, b), points, 3), n);
  }
}

TEST(SetPooling, EqualsPlainLoops) {
  SetPooling m(kSmallSets, 2);
  shake(m);
  const Tensor x = two_sets(), y = m(x, kSizes);
  for (int b : {0, 1}) {
    const Table fed = feed_forward_by_loops(Named(m), "feed_forward.", table(x, b));
    expect_table(y, b, block_by_loops(Named(m), "block.", table(m.seeds), fed, kSizes[std::size_t(b)]));
  }
}

TEST(SetModules, AreBlindToOrder) {
  SetAttention each(kSmallSets);
  InducedSetAttention induced(kSmallSets, 3);
  SetPooling pooling(kSmallSets, 2);
  const Tensor x = normal({5, 4}, 42);
  const Ids order({3, 0, 4, 2, 1});
  const auto shuffled = [&](const Tensor& t) { return reshape(take_rows(reshape(t, {5, 4}), order), {1, 5, 4}); };
  const Tensor there = reshape(x, {1, 5, 4}), otherwise = shuffled(x);
  for (Module* m : {static_cast<Module*>(&each), static_cast<Module*>(&induced), static_cast<Module*>(&pooling)}) {
    shake(*m);
  }
  EXPECT_LT(error_of(each(otherwise), shuffled(each(there))), 1e-12);
  EXPECT_LT(error_of(induced(otherwise), shuffled(induced(there))), 1e-12);
  EXPECT_LT(error_of(pooling(otherwise), pooling(there)), 1e-12);
}

TEST(SetModules, HaveRightGradients) {
  SetAttentionOptions o = kSmallSets;
  o.activation = Activation::gelu;  // smooth, so that differences cross no kink
  InducedSetAttention induced(o, 3);
  SetPooling pooling(o, 2);
  shake(induced), shake(pooling);
  Inputs in = induced.parameters();
  for (const Tensor& p : pooling.parameters()) in.push_back(p);
  in.push_back(normal({2, 5, 4}, 43));
  expect_gradients([&](const Inputs& all) { return pooling(induced(all.back(), kSizes), kSizes); }, in,
                   {.most_elements = 40, .taylor_length = 0.003});
}

TEST(SetModules, NameTheirMembersAndRefuseBadOptions) {
  const auto names = InducedSetAttention(kSmallSets, 3).named_parameters();
  EXPECT_EQ(names.size(), 25u);
  EXPECT_EQ(names[0].name, "points");
  EXPECT_EQ(names[1].name, "to_points.attention.weight_in");
  EXPECT_EQ(names[24].name, "from_points.feed_forward_norm.bias");
  EXPECT_EQ(SetPooling({.model_dim = 4, .norm = false}, 1).named_parameters().size(), 13u);
  EXPECT_THROW(SetPooling(kSmallSets, 0), Error);
  EXPECT_THROW(InducedSetAttention(kSmallSets, -1), Error);
  const SetAttention m(kSmallSets);
  EXPECT_THROW(m(normal({1, 2, 4}, 1, DType::float32), {3}), Error);
}

}  // namespace
}  // namespace attune::nn
