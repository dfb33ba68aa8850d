// The encoder-decoder: it learns a tiny corpus by heart, and decodes with a cache what it decodes without one.
#include "attune/models/seq2seq.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "attune/attention/position/learned.hpp"
#include "attune/autograd/ops/loss.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"

namespace attune::models::seq2seq_tests {
namespace {

constexpr std::int32_t kPad = 0, kBegin = 2, kEnd = 3;

Seq2SeqOptions tiny() {
  return {.source_vocab_size = 20,
          .num_encoder_layers = 1,
          .num_decoder_layers = 2,
          .model_dim = 32,
          .num_heads = 4,
          .feed_forward_dim = 64,
          .dropout = 0};
}

/// Sources [4, 6] of random words, padded; targets say them backwards.
struct Corpus {
  std::vector<std::vector<std::int32_t>> words = {{4, 5, 6, 7, 8}, {9, 10}, {11, 4, 12, 5}, {13, 14, 15}};
  Ids source, target_in, target_out;
  Corpus() {
    std::vector<std::int32_t> s, in, out;
    for (const auto& w : words) {
      std::vector<std::int32_t> a(w), b(w.rbegin(), w.rend()), c(b);
      a.push_back(kEnd);
      b.insert(b.begin(), kBegin);
      c.push_back(kEnd);
      for (auto* v : {&a, &b, &c}) v->resize(6, kPad);
      s.insert(s.end(), a.begin(), a.end());
      in.insert(in.end(), b.begin(), b.end());
      out.insert(out.end(), c.begin(), c.end());
    }
    source = Ids(s, {4, 6});
    target_in = Ids(in, {4, 6});
    target_out = Ids(out, {4, 6});
  }
};

/// A few hundred steps of Adam in plain loops.
double learn(Seq2SeqTransformer& model, const Corpus& corpus, int steps) {
  std::vector<Tensor> parameters = model.parameters();
  std::vector<std::vector<double>> first, second;
  for (const Tensor& p : parameters) {
    first.emplace_back(std::size_t(p.size()), 0.0);
    second.emplace_back(std::size_t(p.size()), 0.0);
  }
  double loss = 0;
  for (int step = 1; step <= steps; ++step) {
    model.zero_grad();
    const Tensor l = cross_entropy(model(corpus.source, corpus.target_in), corpus.target_out, {.ignore_index = kPad});
    l.backward();
    loss = l.item();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      float* x = parameters[i].data<float>();
      const Tensor gradient = parameters[i].grad();
      const float* g = gradient.data<float>();
      for (std::size_t j = 0; j < first[i].size(); ++j) {
        first[i][j] = 0.9 * first[i][j] + 0.1 * double(g[j]);
        second[i][j] = 0.98 * second[i][j] + 0.02 * double(g[j]) * double(g[j]);
        const double m = first[i][j] / (1 - std::pow(0.9, step)), v = second[i][j] / (1 - std::pow(0.98, step));
        x[j] -= float(5e-3 * m / (std::sqrt(v) + 1e-9));
      }
    }
  }
  return loss;
}

TEST(Seq2Seq, LearnsATinyCorpusByHeart) {
  for (const nn::NormPlace norm : {nn::NormPlace::pre, nn::NormPlace::post}) {
    set_seed(3);
    Seq2SeqOptions options = tiny();
    options.norm = norm;
    Seq2SeqTransformer model(options);
    const Corpus corpus;
    EXPECT_LT(learn(model, corpus, 120), 0.05);
    for (const int beam_size : {1, 3}) {
      const auto found = model.translate(corpus.source, {.beam_size = beam_size});
      for (std::size_t i = 0; i < corpus.words.size(); ++i) {
        EXPECT_EQ(found[i].at(0).ids, std::vector<std::int32_t>(corpus.words[i].rbegin(), corpus.words[i].rend()));
        EXPECT_TRUE(found[i].at(0).finished);
      }
    }
  }
}

TEST(Seq2Seq, TheCacheGivesTheLogitsOfTheFullPass) {
  for (const nn::TokenPosition position : {nn::TokenPosition::sinusoidal, nn::TokenPosition::learned}) {
    set_seed(4);
    Seq2SeqOptions options = tiny();
    options.token_position = position;
    options.num_kv_heads = 2;
    Seq2SeqTransformer model(options);
    model.eval();
    const Corpus corpus;
    const NoGrad no_grad;
    const Tensor full = model(corpus.source, corpus.target_in);  // [4, 6, 20]
    nn::DecoderCache cache = model.start(model.encode(corpus.source));
    for (std::int64_t t = 0; t < 6; ++t) {
      std::vector<std::int32_t> tokens;
      for (std::int64_t b = 0; b < 4; ++b) tokens.push_back(corpus.target_in[b * 6 + t]);
      const Tensor step = model.step(Ids(tokens), cache);  // [4, 20]
      for (std::int64_t b = 0; b < 4; ++b)
        for (std::int64_t v = 0; v < 20; ++v)
          EXPECT_NEAR(step.data<float>()[b * 20 + v], full.data<float>()[(b * 6 + t) * 20 + v], 2e-5)
              << "token " << t << " of row " << b;
    }
  }
}

TEST(Seq2Seq, WritesNoFurtherThanALearnedPositionReaches) {
  for (const bool added : {true, false}) {
    set_seed(4);
    Seq2SeqOptions options = tiny();
    options.num_positions = 7;
    options.token_position = added ? nn::TokenPosition::learned : nn::TokenPosition::none;
    if (!added) options.position = Learned{.num_positions = 7};
    Seq2SeqTransformer model(options);
    for (const auto& found : model.translate(Corpus().source, {}, 10)) EXPECT_LE(found.at(0).ids.size(), 7u);
  }
}

TEST(Seq2Seq, BeamOfOneIsGreedyByTheFullPass) {
  set_seed(5);
  Seq2SeqTransformer model(tiny());
  learn(model, Corpus(), 8);  // half learned: sentences of all lengths
  const Corpus corpus;
  const auto found = model.translate(corpus.source, {.beam_size = 1});
  model.eval();
  const NoGrad no_grad;
  for (std::int64_t b = 0; b < 4; ++b) {
    const std::vector<std::int32_t> source(corpus.source.data() + b * 6, corpus.source.data() + b * 6 + 6);
    std::vector<std::int32_t> target = {kBegin};
    const std::size_t most = std::size_t(1.6 * double(6 - std::count(source.begin(), source.end(), kPad))) + 10;
    while (target.size() <= most) {
      const std::int64_t length = std::int64_t(target.size());
      const Tensor logits = model(Ids(source, {1, 6}), Ids(target, {1, length}));
      const float* last = logits.data<float>() + (length - 1) * 20;
      const auto next = std::int32_t(std::max_element(last, last + 20) - last);
      if (next == kEnd) break;
      target.push_back(next);
    }
    EXPECT_EQ(found[std::size_t(b)].at(0).ids, std::vector<std::int32_t>(target.begin() + 1, target.end()));
  }
  EXPECT_TRUE(model.training() == false);
}

TEST(Seq2Seq, PaddingChangesNothing) {
  set_seed(6);
  Seq2SeqTransformer model(tiny());
  model.eval();
  const NoGrad no_grad;
  const Tensor narrow = model(Ids({4, 5, kEnd}, {1, 3}), Ids({kBegin, 6}, {1, 2}));
  const Tensor wide = model(Ids({4, 5, kEnd, kPad, kPad}, {1, 5}), Ids({kBegin, 6, kPad}, {1, 3}));
  for (std::int64_t i = 0; i < 2 * 20; ++i) EXPECT_NEAR(narrow.data<float>()[i], wide.data<float>()[i], 1e-5);
}

TEST(Seq2Seq, ShowsAllItsAttention) {
  set_seed(7);
  Seq2SeqTransformer model(tiny());
  const Corpus corpus;
  const Seq2SeqAttention seen = model.attention(corpus.source, corpus.target_in);
  ASSERT_EQ(seen.encoder.size(), 1u);
  ASSERT_EQ(seen.decoder.size(), 2u);
  EXPECT_TRUE(model.training());
  for (const nn::LayerAttention& layer : seen.decoder)
    for (const Tensor& weights : {layer.self.weights, layer.cross.weights}) {
      ASSERT_EQ(weights.shape(), Shape({4, 4, 6, 6}));
      for (std::int64_t row = 0; row < 4 * 4 * 6; ++row) {
        double sum = 0;
        for (std::int64_t j = 0; j < 6; ++j) sum += double(weights.data<float>()[row * 6 + j]);
        EXPECT_NEAR(sum, 1, 1e-5);
      }
    }
  // Causal: the first target token sees itself alone. Padding: the second source has 3 tokens.
  EXPECT_EQ(seen.decoder[0].self.weights.data<float>()[1], 0.0f);
  EXPECT_EQ(seen.encoder[0].self.weights.data<float>()[1 * 4 * 36 + 3], 0.0f);
}

TEST(Seq2Seq, SharedAndSeparateTables) {
  set_seed(8);
  Seq2SeqOptions options = tiny();
  const std::int64_t shared = Seq2SeqTransformer(options).num_parameters();
  options.share_embeddings = false;
  const std::int64_t two = Seq2SeqTransformer(options).num_parameters();
  options.tie_output = false;
  const std::int64_t three = Seq2SeqTransformer(options).num_parameters();
  EXPECT_EQ(two - shared, 20 * 32);
  EXPECT_EQ(three - two, 20 * 32);
}

TEST(Seq2Seq, RejectsWhatDoesNotFit) {
  Seq2SeqOptions options = tiny();
  options.target_vocab_size = 30;
  EXPECT_THROW(Seq2SeqTransformer{options}, Error);
  options = tiny();
  options.source_vocab_size = 0;
  EXPECT_THROW(Seq2SeqTransformer{options}, Error);
  options = tiny();
  options.num_heads = 5;  // does not divide 32
  EXPECT_THROW(Seq2SeqTransformer{options}, Error);
  Seq2SeqTransformer model(tiny());
  EXPECT_THROW(model(Ids({4, kPad, 5}, {1, 3}), Ids({kBegin}, {1, 1})), Error) << "padding in the middle";
  EXPECT_THROW(model(Ids({4, 99}, {1, 2}), Ids({kBegin}, {1, 1})), Error) << "an id outside the vocabulary";
  EXPECT_THROW(model(Ids({4, 5}, {1, 2}), Ids({kBegin, kBegin}, {2, 1})), Error) << "two targets for one source";
}

TEST(Seq2Seq, EqualBitsForAnyNumberOfThreads) {
  const Corpus corpus;
  std::vector<std::vector<double>> gradients;
  const int before = num_threads();
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    set_seed(9);
    Seq2SeqOptions options = tiny();
    options.dropout = 0.1;
    Seq2SeqTransformer model(options);
    model.set_generator(Generator(9, 1));
    cross_entropy(model(corpus.source, corpus.target_in), corpus.target_out,
                  {.label_smoothing = 0.1, .ignore_index = kPad})
        .backward();
    std::vector<double> all;
    for (const Tensor& p : model.parameters()) {
      const std::vector<double> g = p.grad().to_vector();
      all.insert(all.end(), g.begin(), g.end());
    }
    gradients.push_back(std::move(all));
  }
  set_num_threads(before);
  EXPECT_EQ(gradients[0], gradients[1]);
  EXPECT_EQ(gradients[0], gradients[2]);
}

}  // namespace
}  // namespace attune::models::seq2seq_tests
