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

std::vector<Numbers> all_numbers(const nlohmann::json& list) {
  std::vector<Numbers> all;
  for (const auto& array : list) all.emplace_back(array);
  return all;
}

TEST(NormalizersOfOthers, OutAndAllGradients) {
  const auto golden = read_cases("normalizers");
  ASSERT_EQ(golden["cases"].size(), 9u);
  for (const auto& c : golden["cases"]) {
    const auto in = all_numbers(c["arrays"]), want = all_numbers(c["gradients"]);
    const Numbers out(c["out"]), dout(c["dout"]);
    const std::string name = c["normalizer"];
    const AttendOptions options{.normalizer = normalizer_named(name)};
    const Shape &q = in[0].shape, rows{q[0], q[1], q[2]};
    std::vector<double> ours(out.numbers.size()), lse(std::size_t(rows.size()));
    std::vector<std::vector<double>> gradient;
    AttendInputs inputs{in[0].view(), in[1].view(), in[2].view(), {}};
    for (const auto& array : in) gradient.emplace_back(array.numbers.size());
    const auto to = [&](std::size_t n) { return View(gradient[n].data(), in[n].shape); };
    AttendGradients gradients{to(0), to(1), to(2), {}};
    for (std::size_t n = 3; n < in.size(); ++n) {
      inputs.parameters.push_back(in[n].view());
      gradients.parameters.push_back(to(n));
    }
    attend_forward(inputs, {.out = View(ours.data(), out.shape), .lse = View(lse.data(), rows)}, options);
    for (std::size_t e = 0; e < ours.size(); ++e) {
      EXPECT_NEAR(ours[e], out.numbers[e], 1e-13 * out.largest()) << name;
    }
    attend_backward(inputs,
                    {.out = ConstView(ours.data(), out.shape), .lse = ConstView(lse.data(), rows), .dout = dout.view()},
                    gradients, options);
    for (std::size_t n = 0; n < in.size(); ++n) {
      for (std::size_t e = 0; e < want[n].numbers.size(); ++e) {
        EXPECT_NEAR(gradient[n][e], want[n].numbers[e], 1e-12 * want[n].largest()) << name << " gradient " << n;
      }
    }
  }
}

}  // namespace
}  // namespace attune::golden
