// More keys than a super-block of the backward holds: blocks of queries are left and taken up again, in every order in
// which a normalizer may walk, and give the gradients of the plain path.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "attune/attention/attention.hpp"
#include "attune/base/rng.hpp"

namespace attune::super_blocks_tests {
namespace {

/// Softmax that finds delta = sum of p dp by itself, in a walk of its own, from the last key to the first: what it
/// keeps of its rows must outlive the walk over every super-block.
struct SweptSoftmax {
  static constexpr Walk walk = Walk::last_key_first;
  static constexpr bool gives_lse = true;
  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>& call) const {
    Softmax{}.forward(x, r, call);
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>& call) const {
    Softmax{}.finish(r, call);
  }
  template <class T>
  void sweep(const Tile<T>& x, const Tile<T>& dp, Rows<T>& r, Call<T>&) const {
    for (int j = 0; j < x.area.keys; ++j) {
      for (int i = 0; i < r.queries; ++i) r.first[i] += exp(x[j][i] - r.stat[i]) * dp[j][i];
    }
  }
  template <class T>
  void begin_backward(Rows<T>& r, Call<T>&) const {
    for (int i = 0; i < r.queries; ++i) r.delta[i] = r.first[i];
  }
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>& r, Call<T>& call) const {
    Softmax{}.backward(x, dp, r, call);
  }
};

constexpr int kHeads = 2, kQueries = 150, kKeys = 2300, kDim = 8;

std::vector<double> numbers(std::int64_t n, std::uint64_t seed) {
  Generator g(seed);
  std::vector<double> v(static_cast<std::size_t>(n));
  for (double& x : v) x = g.uniform(-2, 2);
  return v;
}

/// dquery, dkey and dvalue of one call.
std::vector<std::vector<double>> gradients(const AttendOptions& options) {
  const Shape rows{1, kHeads, kQueries, kDim}, keys{1, 1, kKeys, kDim}, lse_shape{1, kHeads, kQueries};
  const auto query = numbers(rows.size(), 1), key = numbers(keys.size(), 2), value = numbers(keys.size(), 3),
             dout = numbers(rows.size(), 4);
  std::vector<double> out(query.size()), lse(std::size_t(kHeads * kQueries));
  const AttendInputs in{ConstView(query.data(), rows), ConstView(key.data(), keys), ConstView(value.data(), keys), {}};
  attend_forward(in, {.out = View(out.data(), rows), .lse = View(lse.data(), lse_shape)}, options);
  std::vector<std::vector<double>> g{std::vector<double>(query.size()), std::vector<double>(key.size()),
                                     std::vector<double>(value.size())};
  AttendGradients into;
  into.query = View(g[0].data(), rows), into.key = View(g[1].data(), keys), into.value = View(g[2].data(), keys);
  attend_backward(in,
                  {.out = ConstView(out.data(), rows),
                   .lse = ConstView(lse.data(), lse_shape),
                   .dout = ConstView(dout.data(), rows)},
                  into, options);
  return g;
}

void expect_near(const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b) {
  for (std::size_t k = 0; k < a.size(); ++k) {
    for (std::size_t i = 0; i < a[k].size(); ++i) ASSERT_NEAR(a[k][i], b[k][i], 1e-13) << "array " << k << " at " << i;
  }
}

TEST(SuperBlocks, GiveTheGradientsOfThePlainPath) {
  for (const bool causal : {false, true}) {
    // Bottom-right: every query sees keys of all super-blocks but the last, which only some see.
    AttendOptions plain{.mask = causal ? AnyMask(Causal{}) : AnyMask(), .alignment = Alignment::bottom_right};
    AttendOptions stages = plain, swept = plain;
    stages.mask = plain.mask & Window{};  // a window without bounds hides nothing and is no part of the plain path
    swept.normalizer = SweptSoftmax{};
    const auto expected = gradients(plain);
    expect_near(gradients(stages), expected);
    expect_near(gradients(swept), expected);
  }
}

TEST(SuperBlocks, KeysThatNobodySeesGetNothing) {
  const auto g = gradients({.bias = SoftCap{.cap = 0}, .mask = Causal{}});  // top-left: 150 queries see 150 keys
  for (std::size_t i = std::size_t(kQueries) * kDim; i < g[1].size(); ++i) {
    ASSERT_EQ(g[1][i], 0);
    ASSERT_EQ(g[2][i], 0);
  }
}

}  // namespace
}  // namespace attune::super_blocks_tests
