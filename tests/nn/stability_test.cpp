// Remedies inside the attention module: normalised queries and keys, a gate on the heads, matrices scaled by their
// spectral norms, and the norm that may be chosen.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "attune/autograd/ops/all.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "attune/nn/transformer.hpp"
#include "autograd/check.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

/// In float64, parameters away from their start; what divides by a norm stays away from 0.
void stir_all(Module& m) {
  m.to(DType::float64);
  std::uint64_t seed = 200;
  for (Tensor& p : m.parameters()) p.copy_from(p + scale(normal(p.shape(), ++seed), 0.3));
}

const Stability kEach[] = {{.qk_norm = QkNorm::rms},
                           {.qk_norm = QkNorm::l2},
                           {.output_gate = true},
                           {.sigma_reparam = true},
                           {.qk_norm = QkNorm::rms, .output_gate = true, .sigma_reparam = true}};

TEST(Stability, HasRightGradients) {
  for (const Stability& stability : kEach) {
    for (const std::int64_t memory_dim : {0, 5}) {
      MultiHeadAttention m({.model_dim = 8,
                            .num_heads = 4,
                            .num_kv_heads = 2,
                            .value_dim = 3,
                            .memory_dim = memory_dim,
                            .stability = stability,
                            .norm = NormPlace::pre,
                            .norm_kind = NormKind::rms});
      stir_all(m);
      Inputs inputs = {normal({2, 4, 8}, 1), normal({2, 5, memory_dim ? memory_dim : 8}, 2)};
      for (const Tensor& p : m.parameters()) inputs.push_back(p);
      GradcheckOptions options;
      options.taylor_length = 0.05;
      options.most_elements = 20;
      const GradcheckReport r = gradcheck(
          [&](const Inputs& in) {
            return memory_dim == 0 ? m(in[0]) : m.attend_to(in[0], in[1], {.valid_keys = {5, 2}}).out;
          },
          inputs, options);
      EXPECT_TRUE(r.passed) << name_of(stability.qk_norm) << stability.output_gate << stability.sigma_reparam << ": "
                            << r.text;
    }
  }
}

TEST(Stability, NormalisedHeadsForgetTheSizeOfTheirProjection) {
  for (const QkNorm norm : {QkNorm::rms, QkNorm::l2}) {
    MultiHeadAttention m({.model_dim = 12, .num_heads = 3, .mask = Causal{}, .stability = {.qk_norm = norm}});
    m.to(DType::float64);
    EXPECT_EQ(m.query_gain.shape(), (Shape{3, norm == QkNorm::rms ? 4 : 1}));
    const Tensor x = normal({2, 6, 12}, 1);
    const AttentionResult before = m.attend_to(x, x, {.weights = true, .statistics = true});
    // Cosines by hand: head 1 of batch entry 1, query 3, key 2.
    const auto w = m.weight_in.to_vector(), tokens = x.to_vector();
    const auto head = [&](std::int64_t token, std::int64_t first_row) {
      std::vector<double> y(4, 0.0);
      for (std::size_t d = 0; d < 4; ++d)
        for (std::size_t c = 0; c < 12; ++c)
          y[d] += w[(std::size_t(first_row) + d) * 12 + c] * tokens[std::size_t(6 + token) * 12 + c];
      return y;
    };
    double sum_exp = 0, wanted = 0;
    for (std::int64_t key = 0; key <= 3; ++key) {
      const auto q = head(3, 4), k = head(key, 12 + 4);
      double qk = 0, qq = 0, kk = 0;
      for (std::size_t d = 0; d < 4; ++d) qk += q[d] * k[d], qq += q[d] * q[d], kk += k[d] * k[d];
      const double e = std::exp(2 * qk / std::sqrt(qq * kk));  // sqrt(D) cosine
      sum_exp += e;
      if (key == 2) wanted = e;
    }
    EXPECT_NEAR(before.weights.to_vector()[std::size_t(((1 * 3 + 1) * 6 + 3) * 6 + 2)], wanted / sum_exp, 1e-5);
    for (const double score : before.statistics.largest_score) EXPECT_LE(score, 2 + 1e-9);

    Tensor rows = slice(m.weight_in, 0, 0, 24).detach();  // queries and keys; shares the memory
    rows.copy_from(scale(rows, 1e3));
    EXPECT_LT(error_of(m(x), before.out), 1e-5);
    m.query_gain.fill(2);
    const AttentionResult sharper = m.attend_to(x, x, {.statistics = true});
    for (std::size_t h = 0; h < 6; ++h)
      EXPECT_NEAR(sharper.statistics.largest_score[h], 2 * before.statistics.largest_score[h], 1e-4);
  }
}

TEST(Stability, TheGateScalesEachHead) {
  MultiHeadAttention m({.model_dim = 6, .num_heads = 2, .stability = {.output_gate = true}});
  m.to(DType::float64);
  const Tensor x = normal({1, 4, 6}, 1);
  m.weight_gate.fill(0);
  m.bias_gate.copy_from(Tensor::from({40, -40}, {2}, DType::float64));  // open, closed
  MultiHeadAttention plain({.model_dim = 6, .num_heads = 2});
  plain.to(DType::float64);
  plain.weight_in.copy_from(m.weight_in);
  plain.bias_in.copy_from(m.bias_in);
  Tensor first_head = m.weight_out.clone();  // [C, H Dv]
  for (std::int64_t r = 0; r < 6; ++r)
    for (std::int64_t c = 3; c < 6; ++c) first_head.data<double>()[r * 6 + c] = 0;
  plain.weight_out.copy_from(first_head);
  plain.bias_out.copy_from(m.bias_out);
  EXPECT_LT(error_of(m(x), plain(x)), 1e-14);
  // A gate that looks at its query: row h of weight_gate, times the query's input.
  m.bias_gate.fill(-40);
  for (std::int64_t c = 0; c < 6; ++c) m.weight_gate.data<double>()[c] = c == 0 ? 40 / x.to_vector()[0] * 2 : 0;
  EXPECT_GT(std::abs(m(x).to_vector()[0] - m.bias_out.to_vector()[0]), 1e-3) << "the first token's gate is open";
}

TEST(Stability, SpectralGainsBeginAsTheNorms) {
  for (const std::int64_t memory_dim : {0, 5}) {
    MultiHeadAttentionOptions options{.model_dim = 8, .num_heads = 2, .memory_dim = memory_dim};
    set_seed(3);
    MultiHeadAttention plain(options);
    options.stability.sigma_reparam = true;
    set_seed(3);
    MultiHeadAttention m(options);
    const Tensor x = normal({2, 3, 8}, 1, DType::float32),
                 memory = normal({2, 4, memory_dim ? memory_dim : 8}, 2, DType::float32);
    const Tensor before = m.attend_to(x, memory).out;
    EXPECT_LT(error_of(before, plain.attend_to(x, memory).out), 1e-6) << "nothing changes at first";
    m.weight_in.copy_from(scale(m.weight_in, 100));
    m.weight_out.copy_from(scale(m.weight_out, 0.01));
    EXPECT_LT(error_of(m.attend_to(x, memory).out, before), 1e-5) << "the matrices' size says nothing";
    m.sigma_gain.copy_from(scale(m.sigma_gain, 2));
    EXPECT_GT(error_of(m.attend_to(x, memory).out, before), 0.1) << "the gains' does";
  }
}

TEST(Stability, DecodesWithACache) {
  NoGrad no_grad;
  for (const Stability& stability : kEach) {
    MultiHeadAttention m(
        {.model_dim = 12, .num_heads = 4, .num_kv_heads = 2, .mask = Causal{}, .stability = stability});
    stir_all(m);
    const Tensor x = normal({2, 9, 12}, 1), whole = m(x);
    KvCache cache;
    std::vector<Tensor> pieces;
    for (const auto& [first, last] : std::vector<std::pair<int, int>>{{0, 4}, {4, 5}, {5, 9}}) {
      const Tensor part = slice(x, 1, first, last);
      pieces.push_back(m.attend_to(part, part, {.cache = &cache}).out);
    }
    EXPECT_LT(error_of(concat(pieces, 1), whole), 1e-12);
    const Tensor memory = normal({2, 7, 12}, 2);
    KvCache fixed = m.project_memory(memory);
    EXPECT_LT(error_of(m.attend_to(x, {}, {.cache = &fixed}).out, m.attend_to(x, memory).out), 1e-12);
  }
}

TEST(Stability, NamesAndParameters) {
  MultiHeadAttention m({.model_dim = 8,
                        .num_heads = 4,
                        .num_kv_heads = 2,
                        .stability = {.qk_norm = QkNorm::l2, .output_gate = true, .sigma_reparam = true}});
  std::vector<std::string> names;
  for (const auto& p : m.named_parameters()) names.push_back(p.name);
  EXPECT_EQ(names, (std::vector<std::string>{"weight_in", "bias_in", "weight_out", "bias_out", "query_gain", "key_gain",
                                             "weight_gate", "bias_gate", "sigma_gain"}));
  EXPECT_EQ(m.key_gain.shape(), (Shape{2, 1}));
  EXPECT_EQ(qk_norm_from_name("rms"), QkNorm::rms);
  EXPECT_EQ(name_of(QkNorm::none), "none");
  EXPECT_THROW(qk_norm_from_name("layer"), Error);
  EXPECT_EQ(norm_kind_from_name("rms"), NormKind::rms);
  EXPECT_THROW(norm_kind_from_name("l2"), Error);
}

TEST(Norm, IsTheOneThatWasChosen) {
  Norm rms(NormKind::rms, {.dim = 4}), layer(NormKind::layer, {.dim = 4});
  EXPECT_EQ(rms.named_parameters().size(), 1u);
  EXPECT_EQ(layer.named_parameters().size(), 2u);
  const Tensor x = normal({3, 4}, 1, DType::float32);
  EXPECT_EQ(rms(x).to_vector(), rms_norm(x, rms.weight, 1e-5).to_vector());
  EXPECT_EQ(layer(x).to_vector(), layer_norm(x, layer.weight, layer.bias, 1e-5).to_vector());
  TransformerEncoder encoder({.num_layers = 1, .model_dim = 8, .num_heads = 2, .norm_kind = NormKind::rms});
  const auto names = encoder.named_parameters();
  EXPECT_TRUE(std::none_of(names.begin(), names.end(), [](const auto& p) { return p.name.ends_with("norm.bias"); }));
}

}  // namespace
}  // namespace attune::nn
