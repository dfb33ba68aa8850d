// The cases of ONNX `FlexAttention` (ai.onnx.preview), as tools/make_onnx_golden.py took them from the package. Its
// score_mod is a pointwise bias or a mask, its prob_mod a function of softmax's weights; each is a lambda of a line
// here.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attune/attention/attention.hpp"
#include "attune/io/safetensors.hpp"

namespace attune {
namespace {

struct FlexArray {
  Shape shape;
  DType dtype = DType::float32;
  std::vector<std::byte> bytes;
  ConstView view() const { return ConstView(bytes.data(), dtype, shape); }
  std::vector<double> numbers() const {
    std::vector<double> x(std::size_t(shape.size()));
    convert(dtype, bytes.data(), DType::float64, x.data(), shape.size());
    return x;
  }
};
FlexArray flex_array(const io::SafetensorsReader& file, const std::string& name) {
  const auto& item = file.item(name);
  FlexArray a{item.shape, io::dtype_of(item.type), std::vector<std::byte>(item.bytes)};
  file.read(name, a.bytes.data());
  return a;
}

/// The options that say what the graphs of a case do.
AttendOptions flex_options(const nlohmann::json& attributes) {
  AttendOptions o;
  if (attributes.contains("scale")) o.score = ScaledDot{.scale = attributes["scale"].get<double>()};
  if (attributes.contains("score_mod")) {
    const auto& mod = attributes["score_mod"];
    const std::string what = mod["name"];
    if (what == "score_mod_bias") {
      o.bias = pointwise([c = mod["bias"].get<float>()](auto x, auto) { return x + c; });
    } else if (what == "score_mod_soft_cap") {
      o.bias = pointwise([c = mod["cap"].get<float>()](auto x, auto) { return c * tanh(x / c); });
    } else if (what == "score_mod_relative_positional") {
      o.bias = pointwise([](auto x, auto at) { return x + float(at.query - at.key); });
    } else if (what == "score_mod_causal_mask") {
      o.mask = Causal{};
    } else {
      ADD_FAILURE() << "an unknown score_mod: " << what;
    }
  }
  if (attributes.contains("prob_mod")) {
    EXPECT_EQ(attributes["prob_mod"]["name"], "prob_mod_scale");
    o.normalizer = pointwise_probs([c = attributes["prob_mod"]["scale"].get<float>()](auto p, auto) { return p * c; });
  }
  return o;
}

void expect_flex_case(const io::SafetensorsReader& file, const std::string& name, const AttendOptions& options) {
  const FlexArray query = flex_array(file, name + "/query"), key = flex_array(file, name + "/key"),
                  value = flex_array(file, name + "/value"), want = flex_array(file, name + "/out");
  FlexArray out = want;
  std::fill(out.bytes.begin(), out.bytes.end(), std::byte(0));
  attend_forward({query.view(), key.view(), value.view(), {}}, {.out = View(out.bytes.data(), out.dtype, out.shape)},
                 options);
  const double bar = want.dtype == DType::float64 ? 1e-14 : want.dtype == DType::float32 ? 1e-6 : 2e-3;
  const std::vector<double> ours = out.numbers(), theirs = want.numbers();
  double largest = 0;
  for (const double x : theirs) largest = std::max(largest, std::fabs(x));
  for (std::size_t n = 0; n < ours.size(); ++n) ASSERT_NEAR(ours[n], theirs[n], bar * largest) << name << " at " << n;
}

TEST(OnnxFlex, EveryCase) {
  const io::SafetensorsReader file(ATTUNE_SOURCE_DIR "/tests/golden/onnx_flex_attention.safetensors");
  int cases = 0;
  for (const auto& [name, attributes] : file.metadata()) {
    if (name == "source") continue;
    expect_flex_case(file, name, flex_options(nlohmann::json::parse(attributes)));
    ++cases;
  }
  EXPECT_EQ(cases, 11);
}

/// As its graph has it: -inf written by the score_mod, with no mask that knows what is hidden.
TEST(OnnxFlex, TheCausalScoreModToTheLetter) {
  const io::SafetensorsReader file(ATTUNE_SOURCE_DIR "/tests/golden/onnx_flex_attention.safetensors");
  expect_flex_case(file, "causal_mask",
                   {.bias = pointwise([](auto x, auto at) {
                      return at.query >= at.key ? x : decltype(x)(-std::numeric_limits<double>::infinity());
                    })});
}

}  // namespace
}  // namespace attune
