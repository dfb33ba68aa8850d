// AgentAttention against plain loops, its gradients, its padding.
#include "attune/nn/agent_attention.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "attune/base/error.hpp"
#include "autograd/check.hpp"
#include "nn/plain_loops.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

AgentAttentionOptions small_agents(AgentSource source) {
  return {.model_dim = 6, .num_heads = 2, .head_dim = 3, .num_agents = 3, .source = source, .conv_width = 3};
}
void shake_agents(AgentAttention& m) {
  m.to(DType::float64);
  std::uint64_t seed = 80;
  for (NamedTensor p : m.named_parameters()) p.tensor.copy_from(normal(p.tensor.shape(), ++seed));
}

/// One entry of `valid` tokens; rows of x beyond are not looked at.
Table agents_by_loops(const AgentAttention& m, Table x, int valid) {
  x.resize(std::size_t(valid));
  const auto& o = m.options();
  const std::int64_t d = o.head_dim, width = o.num_heads * d, n = o.num_agents;
  const Table p = project(x, m.weight_in, m.bias_in), q = columns(p, 0, width), v = columns(p, 2 * width, width);
  Table agents;
  if (m.agents.defined()) {
    agents = table(m.agents);
  } else {
    for (int a = 0; a < n; ++a) {
      const int begin = int(std::floor(double(a) * valid / double(n))),
                end = int(std::ceil(double(a + 1) * valid / double(n)));
      agents.emplace_back(std::size_t(width), 0.0);
      for (int i = begin; i < end; ++i) {
        for (std::size_t c = 0; c < std::size_t(width); ++c) agents.back()[c] += q[std::size_t(i)][c] / (end - begin);
      }
    }
  }
  std::vector<Table> heads;
  for (std::int64_t h = 0; h < o.num_heads; ++h) {
    const Table a = columns(agents, h * d, d);
    const Table gathered = attended(a, columns(p, width + h * d, d), columns(v, h * d, d));
    heads.push_back(attended(columns(q, h * d, d), a, gathered));
  }
  Table all = beside(heads);
  const Table kernel = table(m.conv);
  for (int t = 0; t < valid; ++t) {
    for (int j = 0; j < int(kernel.size()); ++j) {
      const int from = t + j - int(kernel.size()) / 2;
      for (std::size_t c = 0; from >= 0 && from < valid && c < std::size_t(width); ++c) {
        all[std::size_t(t)][c] += kernel[std::size_t(j)][c] * v[std::size_t(from)][c];
      }
    }
  }
  return project(all, m.weight_out, m.bias_out);
}

TEST(AgentAttention, EqualsPlainLoopsAndHidesPadding) {
  for (AgentSource source : {AgentSource::queries, AgentSource::learned}) {
    AgentAttention m(small_agents(source));
    shake_agents(m);
    Tensor x = normal({2, 7, 6}, 81);
    for (int i = 12 * 6; i < 14 * 6; ++i) x.data<double>()[i] = std::numeric_limits<double>::quiet_NaN();
    const Tensor y = m(x, {7, 5});
    for (int b : {0, 1}) {
      Table expected = agents_by_loops(m, table(x, b), 7 - 2 * b);
      expected.resize(7, std::vector<double>(6, 0));
      expect_table(y, b, expected, 7 - 2 * b);
    }
  }
}

TEST(AgentAttention, TakesMoreAgentsThanTokensAndNoTokens) {
  AgentAttentionOptions o = small_agents(AgentSource::queries);
  o.num_agents = 5;
  AgentAttention m(o);
  shake_agents(m);
  const Tensor x = normal({2, 3, 6}, 82), y = m(x, {3, 0});
  expect_table(y, 0, agents_by_loops(m, table(x, 0), 3));
  expect_table(y, 1, Table(3, m.bias_out.to_vector()));
}

TEST(AgentAttention, HasRightGradients) {
  for (AgentSource source : {AgentSource::queries, AgentSource::learned}) {
    AgentAttention m(small_agents(source));
    shake_agents(m);
    Inputs in = m.parameters();
    in.push_back(normal({2, 5, 6}, 83));
    expect_gradients(
        [&](const Inputs& all) {
          return m(all.back(), {5, 4});
        },
        in, {.most_elements = 40, .taylor_length = 0.01});
  }
}

TEST(AgentAttention, NamesItsParametersAndRefusesBadOptions) {
  std::vector<std::string> names;
  for (const NamedTensor& p : AgentAttention(small_agents(AgentSource::learned)).named_parameters()) {
    names.push_back(p.name + " " + p.tensor.shape().text());
  }
  EXPECT_EQ(names, (std::vector<std::string>{"weight_in [18, 6]", "bias_in [18]", "agents [3, 6]", "conv [3, 6]",
                                             "weight_out [6, 6]", "bias_out [6]"}));
  EXPECT_THROW(AgentAttention({.model_dim = 6, .num_heads = 2}), Error);
  EXPECT_THROW(AgentAttention({.model_dim = 6, .num_heads = 2, .num_agents = 2, .conv_width = 2}), Error);
  const AgentAttention m({.model_dim = 6, .num_heads = 2, .num_agents = 2});
  EXPECT_THROW(m(normal({1, 2, 6}, 1, DType::float32), {3}), Error);
}

}  // namespace
}  // namespace attune::nn
