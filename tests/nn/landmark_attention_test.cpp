// LandmarkAttention against the paper's grouped softmax in plain loops, its gradients, what it does not look at.
#include "attune/nn/landmark_attention.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <tuple>

#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "autograd/check.hpp"
#include "nn/plain_loops.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

LandmarkAttentionOptions small_landmarks(std::int64_t num_kv_heads, std::int64_t block, bool rotary) {
  LandmarkAttentionOptions o{.model_dim = 6, .num_heads = 4, .num_kv_heads = num_kv_heads, .head_dim = 2};
  o.block = block, o.bias_terms = true;
  if (rotary) o.rotary = Rotary{.base = 100};
  return o;
}
void shake_landmarks(LandmarkAttention& m) {
  m.to(DType::float64);
  std::uint64_t seed = 140;
  for (NamedTensor p : m.named_parameters()) p.tensor.copy_from(normal(p.tensor.shape(), ++seed));
}

Table landmarks_by_loops(const LandmarkAttention& m, const Table& x) {
  const auto& o = m.options();
  const int block = int(o.block), tokens = int(x.size());
  const std::int64_t d = o.head_dim, h = o.num_heads, kv = o.num_kv_heads;
  const Table p = project(x, m.weight_in, m.bias_in);
  const auto place = [&](const Table& t) { return o.rotary ? turned_rows(t, int(d), o.rotary->base) : t; };
  std::vector<Table> heads;
  for (std::int64_t i = 0; i < h; ++i) {
    const std::int64_t g = i / (h / kv);
    const Table s = logits_of(place(columns(p, i * d, d)), place(columns(p, (h + g) * d, d)), 1 / std::sqrt(double(d)));
    const auto landmark = [&](int j) { return j % block == block - 1; };
    // Of a token: the gate over its own block and earlier landmarks; in an earlier block, that block's own softmax.
    const Table gate =
        softmax_rows(s, [&](int q, int j) { return j <= q && (j / block == q / block ? !landmark(j) : landmark(j)); });
    Table weights(s.size(), std::vector<double>(s.size(), 0));
    for (int b = 0; b * block < tokens; ++b) {
      const Table inside = softmax_rows(s, [&](int, int j) { return j / block == b && !landmark(j); });
      for (int q = 0; q < tokens; ++q) {
        for (int j = b * block; j < std::min(tokens, (b + 1) * block); ++j) {
          const auto row = std::size_t(q), column = std::size_t(j);
          if (q / block == b) weights[row][column] = gate[row][column];
          if (q / block > b && !landmark(j)) {
            weights[row][column] = gate[row][std::size_t((b + 1) * block - 1)] * inside[row][column];
          }
        }
      }
    }
    for (const auto& row : weights) {
      double sum = 0;
      for (double w : row) sum += w;
      EXPECT_NEAR(sum, 1, 1e-12);  // of the formula itself
    }
    heads.push_back(weighted(weights, columns(p, (h + kv + g) * d, d)));
  }
  return project(beside(heads), m.weight_out, m.bias_out);
}

TEST(LandmarkAttention, EqualsGroupedSoftmaxInPlainLoops) {
  for (const auto& [tokens, block, kv, rotary] :
       {std::tuple{11, 3, 4, false}, {12, 4, 2, true}, {13, 4, 1, true}, {3, 4, 2, false}, {6, 2, 2, false}}) {
    SCOPED_TRACE(tokens);
    LandmarkAttention m(small_landmarks(kv, block, rotary));
    shake_landmarks(m);
    const Tensor x = normal({2, tokens, 6}, 141), y = m(x);
    for (int b : {0, 1}) expect_table(y, b, landmarks_by_loops(m, table(x, b)));
  }
}

TEST(LandmarkAttention, HasRightGradients) {
  for (bool rotary : {false, true}) {
    LandmarkAttention m(small_landmarks(2, 3, rotary));
    shake_landmarks(m);
    Inputs in = m.parameters();
    in.push_back(normal({2, 8, 6}, 142));
    expect_gradients([&](const Inputs& all) { return m(all.back()); }, in,
                     {.most_elements = 60, .taylor_length = 0.003});
  }
}

TEST(LandmarkAttention, SeesNoLaterToken) {
  LandmarkAttention m(small_landmarks(2, 3, false));
  shake_landmarks(m);
  Tensor x = normal({1, 8, 6}, 143);
  const Table before = table(m(x));
  for (int i = 5 * 6; i < 8 * 6; ++i) x.data<double>()[i] = std::numeric_limits<double>::quiet_NaN();
  expect_table(m(x), 0, before, 5);
}

TEST(LandmarkAttention, HasEqualBitsForAnyNumberOfThreads) {
  set_seed(144);
  LandmarkAttention m(small_landmarks(2, 16, true));
  const Tensor x = normal({2, 150, 6}, 145, DType::float32);
  expect_equal_bits_for_any_threads([&] {
    Tensor leaf = x.clone().requires_grad();
    const Tensor y = m(leaf);
    y.backward(Tensor::ones(y.shape()));
    return std::vector<Tensor>{y, leaf.grad()};
  });
}

TEST(LandmarkAttention, NamesItsParametersAndRefusesBadOptions) {
  std::vector<std::string> names;
  for (const NamedTensor& p : LandmarkAttention(small_landmarks(2, 3, false)).named_parameters()) {
    names.push_back(p.name + " " + p.tensor.shape().text());
  }
  EXPECT_EQ(names,
            (std::vector<std::string>{"weight_in [16, 6]", "bias_in [16]", "weight_out [6, 8]", "bias_out [6]"}));
  EXPECT_THROW(LandmarkAttention(small_landmarks(2, 1, false)), Error);
  EXPECT_THROW(LandmarkAttention(small_landmarks(3, 4, false)), Error);
}

}  // namespace
}  // namespace attune::nn
