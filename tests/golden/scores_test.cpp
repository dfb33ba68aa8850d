// Scores against other people's code: the cases that tools/make_score_golden.py took from transformers and PyTorch,
// forward and every gradient in float64.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "attune/attention/attention.hpp"
#include "golden/cases.hpp"

namespace attune::golden {
namespace {

TEST(ScoresOfOthers, ForwardAndGradients) {
  const auto cases = read_cases("scores");
  EXPECT_GE(cases.size(), 8u);
  for (const auto& c : cases) {
    const auto in = all_numbers(c["arrays"]), want = all_numbers(c["gradients"]);
    const Numbers out(c["out"]), dout(c["dout"]);
    const Shape &q = in[0].shape, &k = in[1].shape;
    const AttendShape shape{int(q[0]), int(q[1]), int(k[1]), int(q[2]),
                            int(k[2]), int(q[3]), int(k[3]), int(in[2].shape[3])};
    const std::string name = c["score"];
    AttendOptions options{.score = score_named(name, options_of(c["options"]), shape)};
    options.offset.assign(std::size_t(shape.batch_size), c["offset"].get<int>());

    const Ran ours = run(in, dout, options);
    EXPECT_LE(error_of(ours.out, out.numbers), 1e-13) << name;
    for (std::size_t n = 0; n < in.size(); ++n) {
      EXPECT_LE(error_of(ours.gradient[n], want[n].numbers), 1e-12) << name << " gradient " << n;
    }
  }
}

}  // namespace
}  // namespace attune::golden
