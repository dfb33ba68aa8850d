// DifferentialAttention against plain loops, its gradients, its masks.
#include "attune/nn/differential_attention.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "attune/attention/bias/alibi.hpp"
#include "attune/attention/position/rotary.hpp"
#include "attune/attention/score/additive.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "autograd/check.hpp"
#include "nn/plain_loops.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

DifferentialAttentionOptions small_differential() {
  return {.model_dim = 6, .num_heads = 2, .num_kv_heads = 1, .head_dim = 2, .depth = 3, .bias_terms = true};
}

/// One batch entry, from the paper's formula.
Table differential_by_loops(const DifferentialAttention& m, const Table& x, const Visible& visible) {
  const auto& o = m.options();
  const std::int64_t d = o.head_dim, h = o.num_heads, kv = o.num_kv_heads;
  const Table lq = table(m.lambda_query), lk = table(m.lambda_key);
  const double init = 0.8 - 0.6 * std::exp(-0.3 * double(o.depth - 1));
  const double lambda = std::exp(dot_of(lq[0], lk[0])) - std::exp(dot_of(lq[1], lk[1])) + init;
  const Table p = project(x, m.weight_in, m.bias_in);
  std::vector<Table> heads;
  for (std::int64_t i = 0; i < h; ++i) {
    const std::int64_t g = i / (h / kv), keys = 2 * h * d;
    const Table v = columns(p, keys + 2 * kv * d + g * 2 * d, 2 * d);
    const Table one = attended(columns(p, i * d, d), columns(p, keys + g * d, d), v, visible);
    const Table two = attended(columns(p, h * d + i * d, d), columns(p, keys + kv * d + g * d, d), v, visible);
    heads.push_back(rms_rows(plus(one, two, -lambda), o.epsilon, m.gain.to_vector(), 1 - init));
  }
  return project(beside(heads), m.weight_out, m.bias_out);
}

TEST(DifferentialAttention, EqualsPlainLoops) {
  set_seed(5);
  DifferentialAttentionOptions o = small_differential();
  o.mask = Causal{};
  DifferentialAttention m(o);
  m.to(DType::float64);
  m.gain.copy_from(normal({4}, 6));
  const Tensor x = normal({2, 5, 6}, 7), y = m(x);
  for (int b : {0, 1}) expect_table(y, b, differential_by_loops(m, table(x, b), causal_visible));
}

TEST(DifferentialAttention, HasRightGradients) {
  set_seed(8);
  DifferentialAttentionOptions o = small_differential();
  o.position = Rotary{};
  o.mask = Causal{};
  DifferentialAttention m(o);
  m.to(DType::float64);
  Inputs in = m.parameters();
  in.push_back(normal({2, 4, 6}, 9));
  expect_gradients(
      [&](const Inputs& all) {
        return m(all.back(), {.valid_keys = {4, 3}});
      },
      in, {.taylor_length = 0.1});
}

TEST(DifferentialAttention, HidesWhatIsPadding) {
  DifferentialAttention m(small_differential());
  m.to(DType::float64);
  Tensor x = normal({2, 5, 6}, 10);
  for (int i = 3 * 6; i < 5 * 6; ++i) x.data<double>()[i] = std::numeric_limits<double>::quiet_NaN();
  const Tensor y = m(x, {.valid_keys = {3, 0}});
  expect_table(y, 0, differential_by_loops(m, table(x, 0), [](int, int j) { return j < 3; }), 3);
  const Table nothing(5, m.bias_out.to_vector());  // no visible key: heads of 0
  expect_table(y, 1, nothing);
}

TEST(DifferentialAttention, NamesItsParameters) {
  std::vector<std::string> names;
  for (const NamedTensor& p : DifferentialAttention(small_differential()).named_parameters()) {
    names.push_back(p.name + " " + p.tensor.shape().text());
  }
  EXPECT_EQ(names, (std::vector<std::string>{"weight_in [16, 6]", "bias_in [16]", "lambda_query [2, 2]",
                                             "lambda_key [2, 2]", "gain [4]", "weight_out [6, 8]", "bias_out [6]"}));
}

TEST(DifferentialAttention, RefusesBadOptions) {
  EXPECT_THROW(DifferentialAttention({.model_dim = 6, .num_heads = 2}), Error);
  EXPECT_THROW(DifferentialAttention({.model_dim = 8, .num_heads = 3, .num_kv_heads = 2, .head_dim = 2}), Error);
  EXPECT_THROW(DifferentialAttention({.model_dim = 8, .num_heads = 2, .lambda_init = 1.0}), Error);
  EXPECT_THROW(DifferentialAttention({.model_dim = 8, .num_heads = 2, .bias = Alibi{.learned = true}}), Error);
  EXPECT_THROW(DifferentialAttention({.model_dim = 8, .num_heads = 2})(normal({2, 8}, 1, DType::float32)), Error);
}

}  // namespace
}  // namespace attune::nn
