// Every bias in MultiHeadAttention, by its name alone: it gets its learned arrays, starts them where training can
// begin, and hands gradients to all of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "attune/attention/attention.hpp"
#include "attune/attention/mechanisms.hpp"
#include "attune/autograd/ops/all.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "attune/nn/multi_head_attention.hpp"
#include "autograd/check.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

MultiHeadAttentionOptions with_bias(AnyBias bias) {
  MultiHeadAttentionOptions o{.model_dim = 12, .num_heads = 3, .num_kv_heads = 1, .num_tokens = 7};
  o.bias = std::move(bias);
  o.mask = Causal{};
  return o;
}

/// By its name, learned where it may be.
AnyBias learned_bias(const Mechanism& m) {
  OptionValues values;
  for (const Mechanism::Option& option : m.options) {
    if (option.name == "learned") values["learned"] = true;
  }
  return bias_named(m.name, values);
}

TEST(EveryBias, TrainsInAModule) {
  int learned = 0;
  for (const Mechanism& m : mechanisms()) {
    if (m.kind != "bias" || !m.by_name) continue;
    MultiHeadAttention module(with_bias(learned_bias(m)));
    EXPECT_EQ(module.stage_parameters.size(), m.parameters.size()) << m.name;
    const Tensor x = normal({2, 7, 12}, 5).to(DType::float32), y = module(x);
    sum(mul(y, y)).backward();
    for (std::size_t p = 0; p < m.parameters.size(); ++p) {
      const Tensor gradient = module.stage_parameters[p].grad();
      ASSERT_TRUE(gradient.defined()) << m.name << " " << m.parameters[p];
      double largest = 0;
      for (std::int64_t n = 0; n < gradient.size(); ++n) {
        const double g = std::abs(double(gradient.data<float>()[n]));
        ASSERT_TRUE(std::isfinite(g)) << m.name << " " << m.parameters[p];
        largest = std::max(largest, g);
      }
      ++learned;
      EXPECT_GT(largest, 0) << m.name << " " << m.parameters[p];
    }
  }
  EXPECT_GE(learned, 13);
}

TEST(EveryBias, StartsWhereTrainingCanBegin) {
  const auto starts = [](AnyBias bias, std::size_t parameter, std::int64_t n) {
    const MultiHeadAttention module(with_bias(std::move(bias)));
    return module.stage_parameters[parameter].data<float>()[n];
  };
  EXPECT_EQ(starts(RelativeBuckets{}, 0, 0), 0);
  EXPECT_NEAR(starts(Kerple{}, 0, 2), 5.0 / 3, 1e-6);
  EXPECT_EQ(starts(Kerple{}, 1, 0), 0.5f);
  EXPECT_EQ(starts(Temperature{.learned = true}, 0, 1), 1);
  EXPECT_NEAR(starts(LogLength{.learned = true}, 0, 0), 1 / std::log(7.0), 1e-6);
  EXPECT_EQ(starts(Fire{}, 4, 0), 0.1f);
  EXPECT_EQ(starts(Fire{}, 5, 0), 1);
  EXPECT_LE(std::abs(starts(Fire{}, 2, 3)), 1 / std::sqrt(32.0));
}

/// A bias whose two numbers a head begin as a test says.
struct Scaled {
  Start start;
  std::vector<ParameterSpec> parameters(const AttendShape&) const { return {{"numbers", {2}, Per::head, start}}; }
  template <class T>
  void apply(Tile<T>& x, Tile<T>*, attune::Call<T>& call) const {
    const T a = call.parameter[0].value[0], b = call.parameter[0].value[1];
    each(x, [=](T& s, int, int) { s += a * b; });
  }
  template <class T>
  void backward(const Tile<T>*, Tile<T>&, attune::Call<T>&) const {}
};

TEST(Start, IsWhatTheStageSays) {
  const auto numbers = [](const Start& start) {
    set_seed(1);
    return MultiHeadAttention(with_bias(Scaled{start})).stage_parameters[0].to_vector();  // [3, 2]
  };
  EXPECT_EQ(numbers(Start::at(0.5)), std::vector<double>(6, 0.5));
  EXPECT_EQ(numbers(Start::each_at({1, 2, 3})), (std::vector<double>{1, 1, 2, 2, 3, 3}));
  EXPECT_THROW(numbers(Start::each_at({1, 2, 3, 4})), Error);
  EXPECT_THROW(numbers({Start::Kind::numbers, 0, {}}), Error);
  for (const auto& [start, most] : {std::pair(Start::uniform(0.1), 0.1), {Start{}, 1.1}}) {
    const std::vector<double> drawn = numbers(start);
    double largest = 0;
    for (const double x : drawn) largest = std::max(largest, std::abs(x));
    EXPECT_LE(largest, most);
    EXPECT_GT(largest, 0.3 * most);
    EXPECT_NE(drawn[0], drawn[1]);
  }
  EXPECT_NE(numbers(Start::normal(1))[0], numbers(Start::normal(1))[1]);
  MultiHeadAttentionOptions o = with_bias({});
  o.bias = {};
  o.normalizer = Entmax{};
  EXPECT_EQ(MultiHeadAttention(o).stage_parameters[0].to_vector(), std::vector<double>(3, 0));  // 1.5-entmax
}

}  // namespace
}  // namespace attune::nn
