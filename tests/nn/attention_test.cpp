// MultiHeadAttention against a composition of single operators, its options, its cache; AdditiveAttention; stacks.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attune/attention/bias/all.hpp"
#include "attune/attention/normalize/all.hpp"
#include "attune/attention/position/all.hpp"
#include "attune/attention/score/all.hpp"
#include "attune/autograd/memory.hpp"
#include "attune/autograd/ops/all.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "attune/nn/additive_attention.hpp"
#include "attune/nn/transformer.hpp"
#include "autograd/check.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

/// The classical module by products and softmax; hidden[i][j] = -inf hides.
Tensor composed(const MultiHeadAttention& m, const Tensor& query, const Tensor& memory, const Tensor& hidden) {
  const auto& o = m.options();
  const std::int64_t nq = o.num_heads * o.head_dim, nk = o.num_kv_heads * o.head_dim, nv = o.num_kv_heads * o.value_dim;
  const auto rows = [](const Tensor& t, std::int64_t first, std::int64_t n) { return slice(t, 0, first, first + n); };
  const Tensor q = split_heads(linear(query, rows(m.weight_in, 0, nq), rows(m.bias_in, 0, nq)), o.num_heads);
  Tensor k = split_heads(linear(memory, rows(m.weight_in, nq, nk), rows(m.bias_in, nq, nk)), o.num_kv_heads);
  Tensor v = split_heads(linear(memory, rows(m.weight_in, nq + nk, nv), rows(m.bias_in, nq + nk, nv)), o.num_kv_heads);
  const std::int64_t group = o.num_heads / o.num_kv_heads;
  if (group > 1) {
    const auto repeat = [&](const Tensor& t) {
      std::vector<Tensor> heads;
      for (std::int64_t h = 0; h < o.num_heads; ++h) heads.push_back(slice(t, 1, h / group, h / group + 1));
      return concat(heads, 1);
    };
    k = repeat(k);
    v = repeat(v);
  }
  const Tensor s = scale(matmul(q, k, {.transpose_b = true}), 1 / std::sqrt(double(o.head_dim))) + hidden;
  return linear(merge_heads(matmul(softmax(s), v)), m.weight_out, m.bias_out);
}

Tensor causal_mask(std::int64_t n) {
  Tensor m = Tensor::zeros({n, n}, DType::float64);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = i + 1; j < n; ++j) m.data<double>()[i * n + j] = -std::numeric_limits<double>::infinity();
  }
  return m;
}

/// Parameters away from their start (biases are 0 there).
void stir(Module& m) {
  m.to(DType::float64);
  std::uint64_t seed = 100;
  for (Tensor& p : m.parameters()) p.copy_from(scale(normal(p.shape(), ++seed), 0.4));
}

TEST(MultiHeadAttention, IsTheComposition) {
  for (std::int64_t kv_heads : {4, 2}) {
    MultiHeadAttention m(
        {.model_dim = 12, .num_heads = 4, .num_kv_heads = kv_heads, .head_dim = 3, .value_dim = 5, .mask = Causal{}});
    stir(m);
    Tensor x = normal({2, 6, 12}, 1).requires_grad();
    const Tensor a = m(x);
    sum(mul(a, a)).backward();
    std::vector<Tensor> gradients = {x.grad().clone()};
    for (Tensor& p : m.parameters()) gradients.push_back(p.grad().clone());
    x.zero_grad();
    m.zero_grad();
    const Tensor b = composed(m, x, x, causal_mask(6));
    sum(mul(b, b)).backward();
    EXPECT_LT(error_of(a, b), 1e-13);
    EXPECT_LT(error_of(gradients[0], x.grad()), 1e-12);
    for (std::size_t i = 0; i < m.parameters().size(); ++i) {
      EXPECT_LT(error_of(gradients[i + 1], m.parameters()[i].grad()), 1e-12) << m.named_parameters()[i].name;
    }
  }
}

TEST(MultiHeadAttention, CrossesPadsAndTellsItsWeights) {
  MultiHeadAttention m({.model_dim = 8, .num_heads = 2});
  stir(m);
  const Tensor x = normal({2, 3, 8}, 1), memory = normal({2, 5, 8}, 2);
  Tensor hidden = Tensor::zeros({2, 1, 1, 5}, DType::float64);
  for (std::int64_t j = 3; j < 5; ++j) hidden.data<double>()[5 + j] = -std::numeric_limits<double>::infinity();
  const AttentionResult r = m.attend_to(x, memory, {.valid_keys = {5, 3}, .weights = true, .statistics = true});
  EXPECT_LT(error_of(r.out, composed(m, x, memory, hidden)), 1e-13);
  EXPECT_EQ(r.weights.shape(), (Shape{2, 2, 3, 5}));
  for (double row : sum(r.weights, 3).to_vector()) EXPECT_NEAR(row, 1, 1e-14);
  EXPECT_EQ(r.weights.to_vector().back(), 0);
  EXPECT_EQ(r.statistics.entropy.size(), 4u);
  // An arbitrary mask, and keys and values from different inputs.
  const std::vector<std::uint8_t> visible = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0};
  const DenseMask dense(visible.data(), Shape{3, 5});
  const Tensor masked = m.attend_to(x, memory, {.mask = dense}).out;
  EXPECT_NE(masked.to_vector(), m.attend_to(x, memory).out.to_vector());
  EXPECT_EQ(m.attend_to(x, memory, memory.clone()).out.to_vector(), m.attend_to(x, memory).out.to_vector());
}

TEST(MultiHeadAttention, RefusesBadCalls) {
  EXPECT_THROW(MultiHeadAttention({.model_dim = 8, .num_heads = 3}), Error);
  EXPECT_THROW(MultiHeadAttention({.model_dim = 8, .num_heads = 4, .num_kv_heads = 3}), Error);
  EXPECT_THROW(MultiHeadAttention({.model_dim = 8, .num_heads = 4, .dropout = 1}), Error);
  MultiHeadAttention m({.model_dim = 8, .num_heads = 2});
  EXPECT_THROW(m(Tensor::zeros({2, 3, 7})), Error);
  EXPECT_THROW(m(Tensor::zeros({3, 8})), Error);
  EXPECT_THROW(m.attend_to(Tensor::zeros({2, 3, 8}), Tensor::zeros({1, 3, 8})), Error);
  EXPECT_THROW(m.attend_to(Tensor::zeros({2, 3, 8}), Tensor::zeros({2, 3, 8}), {.valid_keys = {1}}), Error);
  KvCache cache;
  const Tensor x = Tensor::zeros({1, 1, 8});
  EXPECT_THROW(m.attend_to(x, x, {.cache = &cache}), Error);  // gradients are on
}

TEST(MultiHeadAttention, HasRightGradients) {
  const auto check = [](MultiHeadAttentionOptions o, const char* what) {
    MultiHeadAttention m(o);
    stir(m);
    Inputs inputs = {normal({2, 4, o.model_dim}, 1), normal({2, 5, o.memory_dim ? o.memory_dim : o.model_dim}, 2)};
    for (const Tensor& p : m.parameters()) inputs.push_back(p);
    const bool self = o.memory_dim == 0;
    GradcheckOptions options;
    options.taylor_length = 0.1;
    options.most_elements = 30;
    const GradcheckReport r = gradcheck(
        [&](const Inputs& in) {
          m.set_generator(Generator(5));
          return self ? m(in[0]) : m.attend_to(in[0], in[1], {.valid_keys = {5, 2}}).out;
        },
        inputs, options);
    EXPECT_TRUE(r.passed) << what << ": " << r.text;
  };
  check({.model_dim = 6, .num_heads = 2}, "plain");
  check({.model_dim = 6, .num_heads = 2, .memory_dim = 5, .bias_terms = false}, "another width");
  check({.model_dim = 6,
         .num_heads = 2,
         .dropout = 0.3,
         .mask = Causal{},
         .norm = NormPlace::pre,
         .residual_dropout = 0.2},
        "pre");
  check({.model_dim = 6, .num_heads = 2, .memory_dim = 6, .norm = NormPlace::post, .residual_dropout = 0.2}, "post");
  check({.model_dim = 8,
         .num_heads = 2,
         .position = Rotary{},
         .bias = Alibi{.learned = true},
         .normalizer = SoftmaxWithSink{}},
        "stages");
  check({.model_dim = 6, .num_heads = 2, .score = Additive{.hidden_dim = 3}}, "additive");
}

TEST(MultiHeadAttention, ListsTheStagesParameters) {
  MultiHeadAttention m(
      {.model_dim = 8, .num_heads = 2, .bias = Alibi{.learned = true}, .normalizer = SoftmaxWithSink{}});
  std::vector<std::string> names;
  for (const auto& p : m.named_parameters()) names.push_back(p.name);
  EXPECT_EQ(names, (std::vector<std::string>{"weight_in", "bias_in", "weight_out", "bias_out", "alibi_slope",
                                             "softmax_with_sink_sink"}));
}

TEST(MultiHeadAttention, DecodesWithACache) {
  NoGrad no_grad;
  MultiHeadAttention m({.model_dim = 12, .num_heads = 4, .num_kv_heads = 2, .bias = Alibi{}, .mask = Causal{}});
  stir(m);
  const Tensor x = normal({3, 20, 12}, 1), whole = m(x);
  KvCache cache;
  std::vector<Tensor> pieces;
  for (const auto& [first, last] : std::vector<std::pair<int, int>>{{0, 5}, {5, 6}, {6, 17}, {17, 20}}) {
    const Tensor part = slice(x, 1, first, last);
    pieces.push_back(m.attend_to(part, part, {.cache = &cache}).out);
  }
  EXPECT_EQ(cache.length, 20);
  EXPECT_LT(error_of(concat(pieces, 1), whole), 1e-12);
  cache.select(Ids({2, 0}));
  EXPECT_EQ(cache.rows.shape()[0], 2);
  const Tensor memory = normal({3, 7, 12}, 2);
  KvCache fixed = m.project_memory(memory);
  EXPECT_LT(error_of(m.attend_to(x, {}, {.cache = &fixed}).out, m.attend_to(x, memory).out), 1e-12);
}

// Keys are kept with their position, given once; what changes with the length or is learned is given at every step.
TEST(MultiHeadAttention, DecodesWithPositions) {
  NoGrad no_grad;
  for (const AnyPosition& position :
       std::vector<AnyPosition>{Rotary{}, XPos{}, Sinusoidal{}, Learned{.num_positions = 20}}) {
    for (const QkNorm norm : {QkNorm::none, QkNorm::rms}) {
      MultiHeadAttention m({.model_dim = 16,
                            .num_heads = 4,
                            .num_kv_heads = 2,
                            .position = position,
                            .mask = Causal{},
                            .stability = {.qk_norm = norm}});
      stir(m);
      const Tensor x = normal({2, 20, 16}, 1), whole = m(x);
      KvCache cache;
      std::vector<Tensor> pieces;
      for (const auto& [first, last] : std::vector<std::pair<int, int>>{{0, 5}, {5, 6}, {6, 17}, {17, 20}}) {
        const Tensor part = slice(x, 1, first, last);
        pieces.push_back(m.attend_to(part, part, {.cache = &cache}).out);
      }
      EXPECT_LT(error_of(concat(pieces, 1), whole), 1e-12) << position.name();
    }
  }
}

TEST(AdditiveAttention, PoolsByItsFormula) {
  AdditiveAttention m({.query_dim = 4, .key_dim = 3, .hidden_dim = 5});
  stir(m);
  const Tensor q = normal({2, 4}, 1), k = normal({2, 6, 3}, 2);
  const Pooled p = m(q, k);
  EXPECT_EQ(p.pooled.shape(), (Shape{2, 3}));
  EXPECT_EQ(p.weights.shape(), (Shape{2, 6}));
  const Tensor hidden =
      tanh(reshape(linear(q, reshape(m.query_weight, {5, 4})), {2, 1, 5}) + linear(k, reshape(m.key_weight, {5, 3})));
  const Tensor weights = softmax(reshape(linear(hidden, m.v), {2, 6}));
  EXPECT_LT(error_of(p.weights, weights), 1e-13);
  EXPECT_LT(error_of(p.pooled, reshape(matmul(reshape(weights, {2, 1, 6}), k), {2, 3})), 1e-13);
  const Pooled padded = m(q, k, {}, {6, 2});
  EXPECT_EQ(padded.weights.to_vector()[6 + 3], 0);
  EXPECT_THROW(m(normal({2, 5}, 1), k), Error);
  Inputs inputs = {q.clone(), k.clone(), normal({2, 6, 2}, 3)};
  for (const Tensor& t : m.parameters()) inputs.push_back(t);
  expect_gradients(
      [&](const Inputs& in) {
        return m(in[0], in[1], in[2], {6, 4}).pooled;
      },
      inputs, {.taylor_length = 0.2});
}

TransformerOptions small(NormPlace norm) {
  return {.num_layers = 2,
          .model_dim = 8,
          .num_heads = 2,
          .feed_forward_dim = 12,
          .dropout = 0.1,
          .activation = Activation::gelu,
          .norm = norm};
}

TEST(Transformer, HasRightGradients) {
  for (NormPlace norm : {NormPlace::pre, NormPlace::post}) {
    TransformerEncoder encoder(small(norm));
    TransformerDecoder decoder(small(norm));
    stir(encoder);
    stir(decoder);
    Inputs inputs = {normal({2, 4, 8}, 1), normal({2, 3, 8}, 2)};
    for (const Tensor& p : encoder.parameters()) inputs.push_back(p);
    for (const Tensor& p : decoder.parameters()) inputs.push_back(p);
    GradcheckOptions options;
    options.taylor_length = 0.02;
    options.most_elements = 4;
    const GradcheckReport r = gradcheck(
        [&](const Inputs& in) {
          encoder.set_generator(Generator(5));
          decoder.set_generator(Generator(6));
          return decoder(in[1], encoder(in[0], {4, 2}), {4, 2});
        },
        inputs, options);
    EXPECT_TRUE(r.passed) << name_of(norm) << ": " << r.text;
  }
}

TEST(Transformer, DecodesStepByStep) {
  for (NormPlace norm : {NormPlace::pre, NormPlace::post}) {
    TransformerDecoder decoder(small(norm));
    stir(decoder);
    decoder.eval();
    const Tensor x = normal({2, 6, 8}, 1), memory = normal({2, 5, 8}, 2);
    const Tensor whole = decoder(x, memory, {5, 3});
    DecoderCache cache = decoder.start(memory, {5, 3});
    for (int t = 0; t < 6; ++t) {
      const Tensor step = decoder.step(slice(x, 1, t, t + 1), cache);
      EXPECT_LT(error_of(step, slice(whole, 1, t, t + 1)), 1e-11) << t;
    }
    cache.select(Ids({1, 1, 0}));
    EXPECT_EQ(cache.valid_memory, (std::vector<int>{3, 3, 5}));
    EXPECT_EQ(decoder.step(Tensor::zeros({3, 1, 8}, DType::float64), cache).shape(), (Shape{3, 1, 8}));
  }
}

TEST(Transformer, IsBlindToPaddingAndTheFuture) {
  TransformerEncoder encoder(small(NormPlace::pre));
  TransformerDecoder decoder(small(NormPlace::pre));
  stir(encoder);
  stir(decoder);
  encoder.eval();
  decoder.eval();
  Tensor a = normal({1, 5, 8}, 1), b = a.clone(), x = normal({1, 4, 8}, 2), y = x.clone();
  for (int i = 3 * 8; i < 5 * 8; ++i) b.data<double>()[i] = 1e3;  // padding
  const Tensor ea = encoder(a, {3}), eb = encoder(b, {3});
  EXPECT_EQ(slice(ea, 1, 0, 3).to_vector(), slice(eb, 1, 0, 3).to_vector());
  for (int i = 2 * 8; i < 4 * 8; ++i) y.data<double>()[i] = -7;  // the future of tokens 0 and 1
  EXPECT_EQ(slice(decoder(x, ea, {3}), 1, 0, 2).to_vector(), slice(decoder(y, eb, {3}), 1, 0, 2).to_vector());
}

TEST(Transformer, TellsItsAttention) {
  TransformerEncoder encoder(small(NormPlace::pre));
  TransformerDecoder decoder(small(NormPlace::pre));
  std::vector<LayerAttention> seen_encoder, seen_decoder;
  const Tensor memory = encoder(Tensor::ones({1, 5, 8}), {}, {.weights = true}, &seen_encoder);
  decoder(Tensor::ones({1, 3, 8}), memory, {}, {.weights = true, .statistics = true}, &seen_decoder);
  ASSERT_EQ(seen_encoder.size(), 2u);
  EXPECT_EQ(seen_encoder[1].self.weights.shape(), (Shape{1, 2, 5, 5}));
  EXPECT_EQ(seen_decoder[0].cross.weights.shape(), (Shape{1, 2, 3, 5}));
  EXPECT_EQ(seen_decoder[0].self.statistics.entropy.size(), 2u);
  TransformerOptions none = small(NormPlace::none);
  EXPECT_THROW(TransformerEncoder{none}, Error);
}

TEST(Transformer, AsksNothingOfTheSystemAfterTheFirstSteps) {
  TransformerEncoder encoder(small(NormPlace::pre));
  const FlatParameters flat = flatten(encoder.parameters());
  const Tensor x = normal({4, 6, 8}, 1, DType::float32);
  std::int64_t requests = 0, in_use = 0;
  for (int step = 0; step < 6; ++step) {
    Tensor gradients = flat.gradients;
    gradients.fill(0);
    const Tensor y = encoder(x);
    sum(mul(y, y)).backward();
    if (step == 2) requests = memory_use().system_requests, in_use = memory_use().in_use;
  }
  EXPECT_EQ(memory_use().system_requests, requests);
  EXPECT_LE(memory_use().in_use, in_use);
}

TEST(Transformer, HasEqualBitsForAnyThreads) {
  expect_equal_bits_for_any_threads([] {
    set_seed(1);
    TransformerOptions o{.num_layers = 1, .model_dim = 64, .num_heads = 4, .dropout = 0.1, .attention_dropout = 0.1};
    TransformerEncoder encoder(o);
    TransformerDecoder decoder(o);
    encoder.set_generator(Generator(1));
    decoder.set_generator(Generator(2));
    const Tensor out = decoder(normal({8, 30, 64}, 1, DType::float32), encoder(normal({8, 40, 64}, 2, DType::float32)));
    sum(mul(out, out)).backward();
    Inputs all = {out};
    for (const Tensor& p : encoder.parameters()) all.push_back(p.grad());
    for (const Tensor& p : decoder.parameters()) all.push_back(p.grad());
    return all;
  });
}

}  // namespace
}  // namespace attune::nn
