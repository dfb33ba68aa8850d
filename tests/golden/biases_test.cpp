// Biases against other people's code: the cases that tools/make_bias_golden.py took from transformers and PyTorch,
// forward and every gradient in float64; and T5's buckets, number by number.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "attune/attention/attention.hpp"
#include "golden/cases.hpp"

namespace attune::golden {
namespace {

TEST(BiasesOfOthers, BucketsAreThoseOfT5) {
  const auto golden = read_cases("biases");
  ASSERT_EQ(golden["buckets"].size(), 12u);
  for (const auto& row : golden["buckets"]) {
    const RelativeBuckets bias{
        .num_buckets = row["num_buckets"], .max_distance = row["max_distance"], .causal = row["causal"]};
    const int first = row["first"];
    const auto want = row["buckets"].get<std::vector<int>>();
    ASSERT_EQ(want.size(), 601u);
    for (std::size_t n = 0; n < want.size(); ++n) {
      ASSERT_EQ(bias.bucket(first + int(n)), want[n])
          << bias.num_buckets << " to " << bias.max_distance << ": " << first + int(n) << " ahead";
    }
  }
}

TEST(BiasesOfOthers, ForwardAndGradients) {
  const auto golden = read_cases("biases");
  ASSERT_EQ(golden["cases"].size(), 7u);
  for (const auto& c : golden["cases"]) {
    std::vector<Numbers> in, want;
    for (const auto& array : c["arrays"]) in.emplace_back(array);
    for (const auto& array : c["gradients"]) want.emplace_back(array);
    const Numbers out(c["out"]), dout(c["dout"]);
    const Shape &q = in[0].shape, &k = in[1].shape;
    const std::string name = c["bias"];
    AttendOptions options{.bias = bias_named(name, options_of(c["options"]))};
    options.offset.assign(std::size_t(q[0]), c["offset"].get<int>());

    AttendInputs inputs{in[0].view(), in[1].view(), in[2].view(), {}};
    for (std::size_t n = 3; n < in.size(); ++n) inputs.parameters.push_back(in[n].view());
    std::vector<double> ours(out.numbers.size()), lse(std::size_t(q[0] * q[1] * q[2]));
    const Shape rows{q[0], q[1], q[2]};
    attend_forward(inputs, {.out = View(ours.data(), out.shape), .lse = View(lse.data(), rows)}, options);
    EXPECT_LE(error_of(ours, out.numbers), 1e-13) << name;

    std::vector<std::vector<double>> gradient;
    for (const Numbers& array : in) gradient.emplace_back(array.numbers.size());
    AttendGradients to{
        View(gradient[0].data(), q), View(gradient[1].data(), k), View(gradient[2].data(), in[2].shape), {}};
    for (std::size_t n = 3; n < in.size(); ++n) to.parameters.emplace_back(gradient[n].data(), in[n].shape);
    attend_backward(inputs,
                    {.out = ConstView(ours.data(), out.shape), .lse = ConstView(lse.data(), rows), .dout = dout.view()},
                    to, options);
    double largest = 0;
    for (const Numbers& g : want) {
      for (const double x : g.numbers) largest = std::max(largest, std::abs(x));
    }
    for (std::size_t n = 0; n < in.size(); ++n) {
      for (std::size_t e = 0; e < want[n].numbers.size(); ++e) {
        EXPECT_NEAR(gradient[n][e], want[n].numbers[e], 1e-13 * largest) << name << " gradient " << n;
      }
    }
  }
}

}  // namespace
}  // namespace attune::golden
