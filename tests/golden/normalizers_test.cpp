// Normalizers against other people's code: the cases that tools/make_normalizer_golden.py took from the package entmax
// and from PyTorch, forward and every gradient in float64.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "attune/attention/attend.hpp"
#include "golden/cases.hpp"

namespace attune::golden {
namespace {

TEST(NormalizersOfOthers, OutAndAllGradients) {
  const auto golden = read_cases("normalizers");
  ASSERT_EQ(golden["cases"].size(), 9u);
  for (const auto& c : golden["cases"]) {
    const auto in = all_numbers(c["arrays"]), want = all_numbers(c["gradients"]);
    const Numbers out(c["out"]), dout(c["dout"]);
    const std::string name = c["normalizer"];
    const Ran ours = run(in, dout, {.normalizer = normalizer_named(name)});
    ASSERT_EQ(ours.out.size(), out.numbers.size());
    for (std::size_t e = 0; e < ours.out.size(); ++e) {
      EXPECT_NEAR(ours.out[e], out.numbers[e], 1e-13 * out.largest()) << name;
    }
    for (std::size_t n = 0; n < in.size(); ++n) {
      for (std::size_t e = 0; e < want[n].numbers.size(); ++e) {
        EXPECT_NEAR(ours.gradient[n][e], want[n].numbers[e], 1e-12 * want[n].largest()) << name << " gradient " << n;
      }
    }
  }
}

}  // namespace
}  // namespace attune::golden
