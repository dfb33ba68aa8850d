// The cases of ONNX `LinearAttention` (opset 27), as tools/make_onnx_golden.py took them from the package. The operator
// packs heads side by side, [B, T, H * D]: strides say so here, and nothing is copied.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attune/attention/linear/linear_attend.hpp"
#include "attune/io/safetensors.hpp"

namespace attune {
namespace {

struct LinearArray {
  Shape shape;
  DType dtype = DType::float32;
  std::vector<std::byte> bytes;
  std::vector<float> numbers;  // the same in float32
  /// [B, T, heads * width] memory as [B, heads, T, width].
  ConstView heads(int n) const {
    return ConstView(bytes.data(), dtype, {shape[0], shape[1], n, shape[2] / n}).transposed(1, 2);
  }
  /// [B, T, heads] memory as [B, heads, T].
  ConstView tokens() const { return ConstView(bytes.data(), dtype, shape).transposed(1, 2); }
};

LinearArray read_array(const io::SafetensorsReader& file, const std::string& name) {
  LinearArray a;
  if (!file.contains(name)) return a;
  const auto& item = file.item(name);
  a.shape = item.shape;
  a.dtype = io::dtype_of(item.type);
  a.bytes.resize(std::size_t(item.bytes));
  file.read(name, a.bytes.data());
  a.numbers.resize(std::size_t(item.shape.size()));
  file.read(name, item.shape, DType::float32, a.numbers.data());
  return a;
}

/// ONNX's own bar, rtol 1e-3 and atol 1e-7; float16 results are one rounding apart.
void expect_case_close(const std::vector<float>& got, const LinearArray& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.numbers.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want.numbers[i], 1e-7 + 1e-3 * std::abs(want.numbers[i])) << what << " at " << i;
  }
}

TEST(Onnx, EveryLinearAttentionCase) {
  const io::SafetensorsReader file(ATTUNE_SOURCE_DIR "/tests/golden/onnx_linear_attention.safetensors");
  int cases = 0;
  for (const auto& [name, text] : file.metadata()) {
    if (name == "source") continue;
    SCOPED_TRACE(name);
    ++cases;
    const nlohmann::json attributes = nlohmann::json::parse(text);
    const int heads = attributes.at("q_num_heads").get<int>(), kv_heads = attributes.at("kv_num_heads").get<int>();
    const auto read = [&, &name = name](const char* role) { return read_array(file, name + "/" + role); };
    const LinearArray query = read("query"), key = read("key"), value = read("value"), state = read("state"),
                      decay = read("decay"), beta = read("beta"), out = read("out"), present = read("present_state");
    LinearAttendOptions options;
    options.rule = update_rule_from_name(attributes.value("update_rule", std::string("gated_delta")));
    options.scale = attributes.value("scale", 0.0);
    LinearAttendInputs in{query.heads(heads), key.heads(kv_heads), value.heads(kv_heads), {}, {}, {}};
    if (!decay.bytes.empty()) in.decay = decay.shape[2] == kv_heads ? decay.tokens() : decay.heads(kv_heads);
    if (!beta.bytes.empty()) in.beta = beta.tokens();
    if (!state.numbers.empty()) in.state = ConstView(state.numbers.data(), state.shape);
    std::vector<std::byte> bytes(out.bytes.size());
    std::vector<float> now(present.numbers.size()), got(out.numbers.size());
    const View out_view =
        View(bytes.data(), out.dtype, {out.shape[0], out.shape[1], heads, out.shape[2] / heads}).transposed(1, 2);
    linear_attend_forward(in, {.out = out_view, .state = View(now.data(), present.shape)}, options);
    convert(out.dtype, bytes.data(), DType::float32, got.data(), std::int64_t(got.size()));
    expect_case_close(got, out, "out");
    expect_case_close(now, present, "present_state");
  }
  EXPECT_EQ(cases, 14);
}

}  // namespace
}  // namespace attune
