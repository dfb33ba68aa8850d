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
    std::vector<Numbers> in, want;
    for (const auto& array : c["arrays"]) in.emplace_back(array);
    for (const auto& array : c["gradients"]) want.emplace_back(array);
    const Numbers out(c["out"]), dout(c["dout"]);
    const Shape &q = in[0].shape, &k = in[1].shape;
    const AttendShape shape{int(q[0]), int(q[1]), int(k[1]), int(q[2]),
                            int(k[2]), int(q[3]), int(k[3]), int(in[2].shape[3])};
    const std::string name = c["score"];
    AttendOptions options{.score = score_named(name, options_of(c["options"]), shape)};
    options.offset.assign(std::size_t(shape.batch_size), c["offset"].get<int>());

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
    for (std::size_t n = 0; n < in.size(); ++n) {
      EXPECT_LE(error_of(gradient[n], want[n].numbers), 1e-12) << name << " gradient " << n;
    }
  }
}

}  // namespace
}  // namespace attune::golden
