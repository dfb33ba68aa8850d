// Scores against other people's code: the cases that tools/make_score_golden.py took from transformers and PyTorch,
// forward and every gradient in float64.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attune/attention/attention.hpp"
#include "attune/attention/mechanisms.hpp"

namespace attune {
namespace {

struct Numbers {
  Shape shape;
  std::vector<double> numbers;
  explicit Numbers(const nlohmann::json& j) : numbers(j["numbers"].get<std::vector<double>>()) {
    const auto extents = j["shape"].get<std::vector<std::int64_t>>();
    shape = Shape(extents.data(), int(extents.size()));
  }
  ConstView view() const { return ConstView(numbers.data(), shape); }
};

double error_of(const std::vector<double>& x, const std::vector<double>& reference) {
  double worst = 0, largest = 0;
  for (std::size_t n = 0; n < reference.size(); ++n) {
    worst = std::max(worst, std::abs(x[n] - reference[n]));
    largest = std::max(largest, std::abs(reference[n]));
  }
  return worst / largest;
}

OptionValues options_of(const nlohmann::json& j) {
  OptionValues values;
  for (const auto& [name, value] : j.items()) {
    if (value.is_string())
      values[name] = value.get<std::string>();
    else if (value.is_boolean())
      values[name] = value.get<bool>();
    else
      values[name] = value.get<double>();
  }
  return values;
}

TEST(ScoresOfOthers, ForwardAndGradients) {
  std::ifstream file(std::string(ATTUNE_SOURCE_DIR) + "/tests/golden/scores.json");
  ASSERT_TRUE(file) << "tests/golden/scores.json";
  const auto cases = nlohmann::json::parse(file);
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
}  // namespace attune
