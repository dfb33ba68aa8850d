// GlobalLocalAttention against plain loops, its gradients, its masks.
#include "attune/nn/global_local_attention.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "attune/attention/position/rotary.hpp"
#include "attune/base/error.hpp"
#include "autograd/check.hpp"
#include "nn/plain_loops.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

constexpr Joining kJoinings[] = {Joining::heads, Joining::sum, Joining::gate};

GlobalLocalOptions near_and_far(Joining joining) {
  return {.model_dim = 6,
          .num_heads = 4,
          .num_kv_heads = 2,
          .head_dim = 2,
          .window = {.left = 1, .right = 1},
          .joining = joining};
}
void shake_both(GlobalLocalAttention& m) {
  m.to(DType::float64);
  std::uint64_t seed = 90;
  for (NamedTensor p : m.named_parameters()) p.tensor.copy_from(normal(p.tensor.shape(), ++seed));
}

Table near_and_far_by_loops(const GlobalLocalAttention& m, const Table& x, const Visible& visible) {
  const auto& o = m.options();
  const std::int64_t d = o.head_dim, h = o.num_heads, kv = o.num_kv_heads;
  const Table p = project(x, m.weight_in, m.bias_in);
  const Visible near = [&](int i, int j) { return visible(i, j) && std::abs(i - j) <= 1; };
  std::vector<Table> heads;
  for (std::int64_t i = 0; i < h; ++i) {
    const std::int64_t g = i / (h / kv);
    const Table q = columns(p, i * d, d), k = columns(p, (h + g) * d, d), v = columns(p, (h + kv + g) * d, d);
    const Table local = attended(q, k, v, near), global = attended(q, k, v, visible);
    if (o.joining == Joining::heads) {
      heads.push_back(i < 2 ? local : global);
    } else if (o.joining == Joining::sum) {
      heads.push_back(plus(local, global));
    } else {
      Table joined = local;
      const Table gate = columns(project(x, m.weight_gate, m.bias_gate), i, 1);
      for (std::size_t t = 0; t < joined.size(); ++t) {
        const double share = 1 / (1 + std::exp(-gate[t][0]));
        for (std::size_t c = 0; c < joined[t].size(); ++c) {
          joined[t][c] = share * local[t][c] + (1 - share) * global[t][c];
        }
      }
      heads.push_back(joined);
    }
  }
  return project(beside(heads), m.weight_out, m.bias_out);
}

TEST(GlobalLocalAttention, EqualsPlainLoops) {
  for (Joining joining : kJoinings) {
    GlobalLocalOptions o = near_and_far(joining);
    o.mask = Causal{};
    GlobalLocalAttention m(o);
    shake_both(m);
    const Tensor x = normal({2, 6, 6}, 91), y = m(x);
    for (int b : {0, 1}) expect_table(y, b, near_and_far_by_loops(m, table(x, b), causal_visible));
  }
}

TEST(GlobalLocalAttention, HidesWhatIsPadding) {
  for (Joining joining : kJoinings) {
    GlobalLocalAttention m(near_and_far(joining));
    shake_both(m);
    Tensor x = normal({2, 5, 6}, 92);
    for (int i = 3 * 6; i < 5 * 6; ++i) x.data<double>()[i] = std::numeric_limits<double>::quiet_NaN();
    const Tensor y = m(x, {.valid_keys = {3, 0}});
    expect_table(y, 0, near_and_far_by_loops(m, table(x, 0), [](int, int j) { return j < 3; }), 3);
    expect_table(y, 1, Table(5, m.bias_out.to_vector()));
  }
}

TEST(GlobalLocalAttention, HasRightGradients) {
  for (Joining joining : kJoinings) {
    GlobalLocalOptions o = near_and_far(joining);
    o.position = Rotary{};
    GlobalLocalAttention m(o);
    shake_both(m);
    Inputs in = m.parameters();
    in.push_back(normal({2, 5, 6}, 93));
    expect_gradients(
        [&](const Inputs& all) {
          return m(all.back(), {.valid_keys = {5, 3}});
        },
        in, {.most_elements = 40, .taylor_length = 0.01});
  }
}

TEST(GlobalLocalAttention, NamesItsParametersAndRefusesBadOptions) {
  std::vector<std::string> names;
  for (const NamedTensor& p : GlobalLocalAttention(near_and_far(Joining::gate)).named_parameters()) {
    names.push_back(p.name + " " + p.tensor.shape().text());
  }
  EXPECT_EQ(names, (std::vector<std::string>{"weight_in [16, 6]", "bias_in [16]", "weight_gate [4, 6]", "bias_gate [4]",
                                             "weight_out [6, 8]", "bias_out [6]"}));
  GlobalLocalOptions o = near_and_far(Joining::heads);
  o.local_heads = 3;
  EXPECT_THROW(GlobalLocalAttention{o}, Error);
  o.local_heads = 4;
  EXPECT_EQ(GlobalLocalAttention(o)(normal({1, 3, 6}, 1, DType::float32)).shape(), Shape({1, 3, 6}));
}

}  // namespace
}  // namespace attune::nn
