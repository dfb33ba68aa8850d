// TalkingHeads against plain loops that do store the maps, its gradients, its masks.
#include "attune/nn/talking_heads.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "attune/attention/bias/alibi.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "attune/nn/multi_head_attention.hpp"
#include "autograd/check.hpp"
#include "nn/plain_loops.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

TalkingHeadsOptions small_talking(std::int64_t num_kv_heads) {
  return {.model_dim = 6, .num_heads = 4, .num_kv_heads = num_kv_heads, .head_dim = 3, .value_dim = 2};
}
void mix_at_random(TalkingHeads& m) {
  m.to(DType::float64);
  m.mix_logits.copy_from(normal({4, 4}, 21));
  m.mix_weights.copy_from(normal({4, 4}, 22));
}

Table talking_by_loops(const TalkingHeads& m, const Table& x, const Visible& visible) {
  const auto& o = m.options();
  const std::int64_t d = o.head_dim, dv = o.value_dim, h = o.num_heads, kv = o.num_kv_heads, group = h / kv;
  const Table p = project(x, m.weight_in, m.bias_in), mix = table(m.mix_logits), blend = table(m.mix_weights);
  const Table none(x.size(), std::vector<double>(x.size(), 0));
  std::vector<Table> logits, maps, heads;
  for (std::int64_t i = 0; i < h; ++i) {
    const Table q = columns(p, i * d, d), k = columns(p, h * d + i / group * d, d);
    logits.push_back(logits_of(q, k, 1 / std::sqrt(double(d))));
  }
  for (std::size_t i = 0; i < std::size_t(h); ++i) {
    Table all = none;
    for (std::size_t j = 0; j < std::size_t(h); ++j) all = plus(all, logits[j], mix[i][j]);
    maps.push_back(softmax_rows(all, visible));
  }
  for (std::int64_t i = 0; i < h; ++i) {
    Table all = none;
    for (std::size_t j = 0; j < std::size_t(h); ++j) all = plus(all, maps[j], blend[std::size_t(i)][j]);
    heads.push_back(weighted(all, columns(p, (h + kv) * d + i / group * dv, dv)));
  }
  return project(beside(heads), m.weight_out, m.bias_out);
}

TEST(TalkingHeads, EqualsPlainLoops) {
  for (std::int64_t kv : {4, 2, 1}) {
    SCOPED_TRACE(kv);
    set_seed(20);
    TalkingHeadsOptions o = small_talking(kv);
    o.mask = Causal{};
    TalkingHeads m(o);
    mix_at_random(m);
    const Tensor x = normal({2, 5, 6}, 23), y = m(x);
    for (int b : {0, 1}) expect_table(y, b, talking_by_loops(m, table(x, b), causal_visible));
  }
}

TEST(TalkingHeads, BeginsAsMultiHeadAttention) {
  TalkingHeadsOptions o = small_talking(2);
  o.bias = Alibi{};
  TalkingHeads m(o);
  MultiHeadAttention plain(
      {.model_dim = 6, .num_heads = 4, .num_kv_heads = 2, .head_dim = 3, .value_dim = 2, .bias = Alibi{}});
  m.to(DType::float64), plain.to(DType::float64);
  plain.weight_in.copy_from(m.weight_in), plain.weight_out.copy_from(m.weight_out);
  const Tensor x = normal({2, 7, 6}, 24);
  EXPECT_LT(error_of(m(x), plain(x)), 1e-13);
}

TEST(TalkingHeads, HasRightGradients) {
  set_seed(25);
  TalkingHeadsOptions o = small_talking(2);
  o.mask = Causal{};
  o.dropout = 0.25;
  TalkingHeads m(o);
  mix_at_random(m);
  Inputs in = m.parameters();
  in.push_back(normal({2, 4, 6}, 26));
  expect_gradients(
      [&](const Inputs& all) {
        m.set_generator(Generator(3));  // the same weights are dropped each time
        return m(all.back());
      },
      in, {.taylor_length = 0.03});
}

TEST(TalkingHeads, HidesWhatIsPadding) {
  TalkingHeads m(small_talking(2));
  mix_at_random(m);
  Tensor x = normal({2, 5, 6}, 27);
  for (int i = 3 * 6; i < 5 * 6; ++i) x.data<double>()[i] = std::numeric_limits<double>::infinity();
  const Tensor y = m(x, {.valid_keys = {3, 0}});
  expect_table(y, 0, talking_by_loops(m, table(x, 0), [](int, int j) { return j < 3; }), 3);
  expect_table(y, 1, Table(5, m.bias_out.to_vector()));  // no visible key: heads of 0
}

TEST(TalkingHeads, NamesItsParameters) {
  std::vector<std::string> names;
  for (const NamedTensor& p : TalkingHeads(small_talking(2)).named_parameters()) {
    names.push_back(p.name + " " + p.tensor.shape().text());
  }
  EXPECT_EQ(names, (std::vector<std::string>{"weight_in [22, 6]", "bias_in [22]", "mix_logits [4, 4]",
                                             "mix_weights [4, 4]", "weight_out [6, 8]", "bias_out [6]"}));
}

TEST(TalkingHeads, RefusesBadOptions) {
  EXPECT_THROW(TalkingHeads({.model_dim = 6, .num_heads = 4}), Error);
  EXPECT_THROW(TalkingHeads({.model_dim = 8, .num_heads = 4, .dropout = 1}), Error);
  EXPECT_THROW(TalkingHeads({.model_dim = 8, .num_heads = 4, .bias = Alibi{.learned = true}}), Error);
}

}  // namespace
}  // namespace attune::nn
