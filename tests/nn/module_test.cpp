// The tree of modules, initialisers, saving and loading, the small modules.
#include "attune/nn/module.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/reduce.hpp"
#include "attune/base/error.hpp"
#include "attune/nn/all.hpp"
#include "autograd/check.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

struct Pair : Module {
  Linear a, b;
  Dropout drop{0.5};
  Pair() : a({.in = 4, .out = 8, .activation = Activation::gelu}), b({.in = 8, .out = 3}) {
    add_module("a", a);
    add_module("b", b);
    add_module("drop", drop);
    add_parameter("tied", a.weight);  // shared: listed once
  }
  Tensor operator()(const Tensor& x) const { return b(drop(a(x))); }
};

std::vector<std::string> names(const Module& m) {
  std::vector<std::string> all;
  for (const auto& p : m.named_parameters()) all.push_back(p.name);
  return all;
}

TEST(Module, NamesAndCounts) {
  Pair p;
  EXPECT_EQ(names(p), (std::vector<std::string>{"a.weight", "a.bias", "b.weight", "b.bias"}));
  EXPECT_EQ(p.num_parameters(), 4 * 8 + 8 + 8 * 3 + 3);
  struct Bad : Module {
    Linear a{{.in = 1, .out = 1}};
    Bad() {
      add_module("a", a);
      add_module("a", a);
    }
  };
  EXPECT_THROW(Bad{}, Error);
  EXPECT_THROW(Linear({.in = 0, .out = 1}), Error);
  EXPECT_THROW(Dropout(1.0), Error);
  EXPECT_THROW(Embedding({.num_ids = 0, .dim = 1}), Error);
}

TEST(Module, OneGeneratorMakesARunResumable) {
  Pair p;
  p.set_generator(Generator(9, 1));
  const Tensor x = normal({5, 4}, 1, DType::float32);
  const Tensor first = p(x);
  const std::uint64_t position = p.generator().position();
  EXPECT_EQ(position, p.a.generator().position());
  const Tensor second = p(x);
  EXPECT_NE(first.to_vector(), second.to_vector());
  Generator again(9, 1);
  again.set_position(position);
  p.set_generator(again);
  EXPECT_EQ(p(x).to_vector(), second.to_vector());
  p.eval();
  EXPECT_FALSE(p.drop.training());
  EXPECT_EQ(p(x).to_vector(), p(x).to_vector());
}

TEST(Module, TrainsFlatParameters) {
  set_seed(3);
  Pair p;
  p.eval();
  FlatParameters flat = flatten(p.parameters());
  const Tensor x = normal({16, 4}, 1, DType::float32), y = normal({16, 3}, 2, DType::float32);
  double before = 0, after = 0;
  for (int step = 0; step < 200; ++step) {
    flat.gradients.fill(0);
    const Tensor difference = p(x) - y;
    const Tensor loss = mean(mul(difference, difference));
    loss.backward();
    (step == 0 ? before : after) = loss.item();
    float* w = flat.values.data<float>();
    const float* g = flat.gradients.data<float>();
    for (std::int64_t i = 0; i < flat.values.size(); ++i) w[i] -= 0.2f * g[i];
  }
  EXPECT_LT(after, 0.5 * before);
}

TEST(Module, SavesAndLoads) {
  const auto path = std::filesystem::path(::testing::TempDir()) / "attune_module_test.safetensors";
  set_seed(1);
  Pair a;
  set_seed(2);
  Pair b;
  EXPECT_NE(a.a.weight.to_vector(), b.a.weight.to_vector());
  save_parameters(a, path);
  load_parameters(b, path);
  for (std::size_t i = 0; i < a.parameters().size(); ++i) {
    EXPECT_EQ(a.parameters()[i].to_vector(), b.parameters()[i].to_vector());
  }
  Linear other({.in = 4, .out = 8});
  EXPECT_THROW(load_parameters(other, path), Error);
  std::filesystem::remove(path);
  EXPECT_THROW(load_parameters(b, path), Error);
}

TEST(Init, HasTheRightSpread) {
  const auto spread = [](const Initializer& init) {
    Generator g(1);
    Tensor w = Tensor::empty({200, 100}, DType::float64);
    initialize(w, init, g);
    return std::sqrt(mean(mul(w, w)).item());
  };
  EXPECT_NEAR(spread({Init::normal, 0.3}), 0.3, 0.01);
  EXPECT_NEAR(spread({Init::xavier_uniform, 1}), std::sqrt(2.0 / 300), 0.002);
  EXPECT_NEAR(spread({Init::xavier_normal, 1}), std::sqrt(2.0 / 300), 0.002);
  EXPECT_NEAR(spread({Init::kaiming_uniform, 1}), 0.1, 0.002);
  EXPECT_NEAR(spread({Init::kaiming_normal, 2}), 0.2, 0.005);
  EXPECT_NEAR(spread({Init::uniform, 0.3}), 0.3 / std::sqrt(3.0), 0.005);
  EXPECT_EQ(spread({Init::ones}), 1);
  EXPECT_EQ(spread({Init::zeros}), 0);
  for (Init i : {Init::zeros, Init::kaiming_normal}) EXPECT_EQ(init_from_name(name_of(i)), i);
  try {
    init_from_name("xavier_unifrom");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("xavier_uniform"), std::string::npos) << e.what();
  }
}

/// Gradients of a module in float64: with respect to the input and every parameter.
template <class M, class F>
void expect_module_gradients(M& m, Tensor x, F f, double length = 0.1) {
  m.to(DType::float64);
  Inputs inputs = m.parameters();
  inputs.insert(inputs.begin(), x);
  GradcheckOptions options;
  options.taylor_length = length;
  options.most_elements = 40;
  expect_gradients([&](const Inputs& in) { return f(in[0]); }, inputs, options);
}

TEST(SmallModules, HaveRightGradients) {
  const Tensor x = normal({2, 3, 4}, 1);
  Linear linear({.in = 4, .out = 5});
  expect_module_gradients(linear, x.clone(), [&](const Tensor& t) { return linear(t); });
  LayerNorm layer_norm({.dim = 4});
  expect_module_gradients(layer_norm, x.clone(), [&](const Tensor& t) { return layer_norm(t); });
  RMSNorm rms_norm({.dim = 4});
  expect_module_gradients(rms_norm, x.clone(), [&](const Tensor& t) { return rms_norm(t); });
  for (Activation f : {Activation::relu, Activation::gelu, Activation::silu}) {
    FeedForward ff({.model_dim = 4, .hidden_dim = 8, .activation = f, .dropout = 0.2});
    expect_module_gradients(
        ff, x.clone(),
        [&](const Tensor& t) {
          ff.set_generator(Generator(4));
          return ff(t);
        },
        f == Activation::relu ? 1e-3 : 0.1);
  }
  LearnedPositions learned({.num_positions = 6, .model_dim = 4});
  expect_module_gradients(learned, x.clone(), [&](const Tensor& t) { return learned(t, 2); });
  EXPECT_THROW(learned(x, 4), Error);
  Embedding embedding({.num_ids = 7, .dim = 4, .scale = 2});
  expect_module_gradients(embedding, x.clone(), [&](const Tensor& t) {
    return t + embedding(Ids({0, 6, 2, 2, 1, 6}, {2, 3}));
  });
}

TEST(Positions, SinusoidsAreThePapers) {
  SinusoidalPositions positions({.model_dim = 6});
  const Tensor y = positions(Tensor::zeros({1, 3, 6}, DType::float64), 70);
  for (int t = 0; t < 3; ++t) {
    for (int k = 0; k < 3; ++k) {
      const double angle = (70 + t) / std::pow(10000.0, 2.0 * k / 6);
      EXPECT_NEAR(y.to_vector()[std::size_t(t * 6 + 2 * k)], std::sin(angle), 1e-12);
      EXPECT_NEAR(y.to_vector()[std::size_t(t * 6 + 2 * k + 1)], std::cos(angle), 1e-12);
    }
  }
}

}  // namespace
}  // namespace attune::nn
