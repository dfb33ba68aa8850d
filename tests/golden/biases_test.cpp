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
    const auto in = all_numbers(c["arrays"]), want = all_numbers(c["gradients"]);
    const Numbers out(c["out"]), dout(c["dout"]);
    const std::string name = c["bias"];
    AttendOptions options{.bias = bias_named(name, options_of(c["options"]))};
    options.offset.assign(std::size_t(in[0].shape[0]), c["offset"].get<int>());

    const Ran ours = run(in, dout, options);
    EXPECT_LE(error_of(ours.out, out.numbers), 1e-13) << name;
    double largest = 0;
    for (const Numbers& g : want) largest = std::max(largest, g.largest());
    for (std::size_t n = 0; n < in.size(); ++n) {
      for (std::size_t e = 0; e < want[n].numbers.size(); ++e) {
        EXPECT_NEAR(ours.gradient[n][e], want[n].numbers[e], 1e-13 * largest) << name << " gradient " << n;
      }
    }
  }
}

}  // namespace
}  // namespace attune::golden
