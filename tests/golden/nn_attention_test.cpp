// Attention modules against transformers' DiffLlama and DeepSeek-V2: the cases that tools/make_nn_golden.py took. Those
// packages take sines and cosines in float32, so they agree to that.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attune/attention/position/rotary.hpp"
#include "attune/nn/differential_attention.hpp"
#include "attune/nn/latent_attention.hpp"
#include "autograd/check.hpp"

namespace attune::nn {
namespace {

Tensor module_numbers(const nlohmann::json& j) {
  const auto extents = j["shape"].get<std::vector<std::int64_t>>();
  return Tensor::from(j["values"].get<std::vector<double>>(), Shape(extents.data(), int(extents.size())));
}
nlohmann::json module_golden() {
  std::ifstream file(std::string(ATTUNE_SOURCE_DIR) + "/tests/golden/nn_attention.json");
  return nlohmann::json::parse(file);
}
constexpr double kSinesInFloat = 1e-6;

TEST(ModulesOfOthers, DifferentialAttentionIsDiffLlamas) {
  const nlohmann::json golden = module_golden()["differential"];
  DifferentialAttention m({.model_dim = 16,
                           .num_heads = 2,
                           .num_kv_heads = 1,
                           .head_dim = 4,
                           .depth = 3,
                           .bias_terms = true,
                           .position = Rotary{},
                           .mask = Causal{}});
  EXPECT_NEAR(*m.options().lambda_init, golden["lambda_init"].get<double>(), 1e-12);
  m.to(DType::float64);
  for (NamedTensor p : m.named_parameters()) {
    if (p.name != "gain") p.tensor.copy_from(module_numbers(golden[p.name]));
  }
  EXPECT_LT(testing_support::error_of(m(module_numbers(golden["x"])), module_numbers(golden["out"])), kSinesInFloat);
}

TEST(ModulesOfOthers, LatentAttentionIsDeepSeeks) {
  const nlohmann::json golden = module_golden()["latent"];
  ASSERT_EQ(golden.size(), 2u);
  for (const nlohmann::json& c : golden) {
    LatentAttentionOptions o{.model_dim = 16, .num_heads = 4, .head_dim = 3, .rotary_dim = 2};
    o.value_dim = 5, o.latent_dim = 6, o.query_latent_dim = c["query_latent_dim"], o.epsilon = c["epsilon"];
    o.rotary.interleaved = true;
    o.mask = Causal{};
    LatentAttention m(o);
    m.to(DType::float64);
    for (NamedTensor p : m.named_parameters()) p.tensor.copy_from(module_numbers(c["weights"][p.name]));
    const Tensor x = module_numbers(c["x"]), expected = module_numbers(c["out"]);
    EXPECT_LT(testing_support::error_of(m(x), expected), kSinesInFloat);
    EXPECT_LT(testing_support::error_of(m(x, {}, LatentForm::absorbed), expected), kSinesInFloat);
  }
}

}  // namespace
}  // namespace attune::nn
