// Tensors, memory, the tape and flat parameters.
#include "attune/autograd/tensor.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <thread>

#include "attune/autograd/memory.hpp"
#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/reduce.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"

namespace attune {
namespace {

using Numbers = std::vector<double>;

TEST(Tensor, IsAHandle) {
  Tensor a = Tensor::from({1, 2, 3, 4, 5, 6}, {2, 3});
  Tensor b = a;
  b.data<float>()[0] = 9;
  EXPECT_EQ(a.data<float>()[0], 9.0f);
  EXPECT_TRUE(a.is(b));
  Tensor c = a.clone();
  c.data<float>()[0] = 1;
  EXPECT_EQ(a.data<float>()[0], 9.0f);
  EXPECT_EQ(a.detach().raw(), a.raw());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a.raw()) % 64, 0u);
}

TEST(Tensor, ConvertsDTypes) {
  Tensor a = Tensor::from({1, -2.5, 3}, {3}, DType::float64);
  EXPECT_EQ(a.to(DType::bfloat16).to(DType::float32).to_vector(), (Numbers{1, -2.5, 3}));
  EXPECT_TRUE(a.to(DType::float64).is(a));
  a.convert(DType::float16);
  EXPECT_EQ(a.dtype(), DType::float16);
  EXPECT_EQ(a.to_vector(), (Numbers{1, -2.5, 3}));
}

TEST(Tensor, CopiesStridedViews) {
  const std::vector<float> m = {1, 2, 3, 4, 5, 6};
  const Tensor t = Tensor::from(ConstView(m.data(), {2, 3}).transposed(0, 1));
  EXPECT_EQ(t.shape(), (Shape{3, 2}));
  EXPECT_EQ(t.to_vector(), (Numbers{1, 4, 2, 5, 3, 6}));
}

TEST(Tensor, RefusesWhatItCannotServe) {
  Tensor a = Tensor::zeros({2, 3});
  EXPECT_THROW(a.data<double>(), Error);
  EXPECT_THROW(a.item(), Error);
  EXPECT_THROW(a.grad(), Error);
  EXPECT_THROW(a.backward(), Error);
  EXPECT_THROW(Tensor().shape(), Error);
  EXPECT_THROW(Tensor::from(std::vector<float>{1, 2}, {3}), Error);
  EXPECT_THROW(add(a, Tensor::zeros({2, 2})), Error);
  EXPECT_THROW(add(a, Tensor::zeros({2, 3}, DType::float64)), Error);
  EXPECT_THROW(add(a.to(DType::float16), a.to(DType::float16)), Error);
  EXPECT_THROW(Tensor::zeros({2}, DType::bfloat16).requires_grad(), Error);
  EXPECT_THROW(Ids({1, 2, 3}, Shape{2}), Error);
}

TEST(Tensor, GeneratorDecidesNumbers) {
  Generator g(5), h(5);
  EXPECT_EQ(Tensor::randn({100}, g).to_vector(), Tensor::randn({100}, h).to_vector());
  EXPECT_EQ(g.position(), h.position());
  const Tensor u = Tensor::uniform({1000}, -2, 3, g);
  for (double x : u.to_vector()) EXPECT_TRUE(x >= -2 && x <= 3);
}

TEST(Memory, IsUsedAgain) {
  release_cached_memory();
  const std::int64_t before = memory_use().in_use;
  for (int i = 0; i < 10; ++i) {
    Tensor a = Tensor::zeros({1000, 100}), b = Tensor::zeros({1000, 100});
    EXPECT_GE(memory_use().in_use - before, 2 * 400000);
    EXPECT_LE(memory_use().in_use - before, 2 * 460000);
  }
  EXPECT_EQ(memory_use().in_use, before);
  const std::int64_t requests = memory_use().system_requests;
  for (int i = 0; i < 10; ++i) Tensor::zeros({1000, 99});
  EXPECT_EQ(memory_use().system_requests, requests);
  EXPECT_GT(memory_use().cached, 0);
  release_cached_memory();
  EXPECT_EQ(memory_use().cached, 0);
}

TEST(Memory, ServesThreads) {
  const std::int64_t before = memory_use().in_use;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 200; ++i) {
        Tensor a = Tensor::full({64 + i, 3}, t);
        for (double x : a.to_vector()) ASSERT_EQ(x, t);
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(memory_use().in_use, before);
}

TEST(Tape, AccumulatesOverUsesAndCalls) {
  Tensor x = Tensor::from({2, 3}, {2}).requires_grad();
  sum(mul(x, x) + x).backward();
  EXPECT_EQ(x.grad().to_vector(), (Numbers{5, 7}));
  sum(x).backward();
  EXPECT_EQ(x.grad().to_vector(), (Numbers{6, 8}));
  x.zero_grad();
  EXPECT_EQ(x.grad().to_vector(), (Numbers{0, 0}));
}

TEST(Tape, HandsGradientsThroughWithoutMixingThemUp) {
  // Both inputs of an add adopt one buffer; what is added to one later must not show up in the other.
  Tensor a = Tensor::from({1, 2}, {2}).requires_grad(), b = Tensor::from({3, 4}, {2}).requires_grad();
  const Tensor u = scale(a, 1), v = scale(b, 1);
  const Tensor y = u + v;
  sum(y + u + reshape(v, {2}) * 2.0).backward();
  EXPECT_EQ(a.grad().to_vector(), (Numbers{2, 2}));
  EXPECT_EQ(b.grad().to_vector(), (Numbers{3, 3}));
  Tensor given = Tensor::from({1, 1}, {2});
  (a + b).backward(given);
  EXPECT_EQ(given.to_vector(), (Numbers{1, 1}));
  EXPECT_EQ(a.grad().to_vector(), (Numbers{3, 3}));
  EXPECT_EQ(b.grad().to_vector(), (Numbers{4, 4}));
}

TEST(Tape, FreesTheGraph) {
  Tensor x = Tensor::from({2, 3}, {2}).requires_grad();
  const Tensor y = sum(mul(x, x));
  y.backward();
  EXPECT_THROW(y.backward(), Error);
  try {
    y.backward();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("freed by an earlier one"), std::string::npos) << e.what();
  }
  const std::int64_t before = memory_use().in_use;
  { const Tensor z = exp(exp(exp(x))); }
  EXPECT_EQ(memory_use().in_use, before);
}

TEST(Tape, ALeafGetsItsOwnGradient) {
  Tensor x = Tensor::from({2}, {1}).requires_grad();
  x.backward();
  x.backward(Tensor::from({3}, {1}));
  EXPECT_EQ(x.grad().to_vector(), (Numbers{4}));
}

TEST(Tape, NoGradRecordsNothing) {
  Tensor x = Tensor::from({2, 3}, {2}).requires_grad();
  {
    NoGrad off;
    EXPECT_FALSE(grad_enabled());
    EXPECT_FALSE(mul(x, x).needs_grad());
  }
  EXPECT_TRUE(mul(x, x).needs_grad());
  EXPECT_FALSE(x.detach().needs_grad());
  EXPECT_THROW(mul(x, x).requires_grad(), Error);
}

TEST(Tape, AFailingBackwardLeavesNothingBehind) {
  Tensor x = Tensor::from({2, 3}, {2}).requires_grad();
  const Tensor y = scale(x, 2);
  bool broken = true;
  const auto make = [&] {
    Tensor z = y.clone();
    record("brittle", z, {y}, [&](Backward& b) {
      if (broken) fail("brittle", "luck", "none");
      b.give(0, b.dout());
    });
    return z;
  };
  const Tensor z = make();
  EXPECT_THROW(sum(z + y).backward(), Error);
  broken = false;
  sum(make()).backward();
  EXPECT_EQ(x.grad().to_vector(), (Numbers{2, 2}));
}

TEST(Tape, GradientsPassConversions) {
  Tensor x = Tensor::from({2, 3}, {2}).requires_grad();
  const Tensor wide = x.to(DType::float64);
  sum(mul(wide, wide)).backward();
  EXPECT_EQ(x.grad().dtype(), DType::float32);
  EXPECT_EQ(x.grad().to_vector(), (Numbers{4, 6}));
  EXPECT_THROW(x.to(DType::bfloat16), Error);  // storage: no gradient passes
  EXPECT_EQ(x.detach().to(DType::bfloat16).to_vector(), (Numbers{2, 3}));
}

TEST(Tape, LongChainsNeedNoStack) {
  Tensor x = Tensor::from({1}, {1}).requires_grad();
  {
    Tensor y = x;
    for (int i = 0; i < 200000; ++i) y = scale(y, 1);  // never walked: destroyed
  }
  Tensor y = x;
  for (int i = 0; i < 200000; ++i) y = scale(y, 1);
  y.backward();
  EXPECT_EQ(x.grad().item(), 1);
}

TEST(Flatten, MovesValuesAndGradients) {
  Tensor a = Tensor::from({1, 2, 3}, {3}).requires_grad(), b = Tensor::from({4, 5, 6, 7}, {2, 2}).requires_grad();
  sum(a).backward();
  const FlatParameters flat = flatten({a, b});
  EXPECT_EQ(flat.offsets, (std::vector<std::int64_t>{0, 16}));
  EXPECT_EQ(a.to_vector(), (Numbers{1, 2, 3}));
  EXPECT_EQ(b.to_vector(), (Numbers{4, 5, 6, 7}));
  EXPECT_EQ(a.grad().to_vector(), (Numbers{1, 1, 1}));
  sum(mul(b, b)).backward();
  EXPECT_EQ(flat.gradients.to_vector()[16], 8);
  Tensor values = flat.values;
  values.data<float>()[17] = 50;
  EXPECT_EQ(b.to_vector()[1], 50);
  Tensor gradients = flat.gradients;
  gradients.fill(0);
  EXPECT_EQ(b.grad().to_vector(), (Numbers{0, 0, 0, 0}));
  EXPECT_THROW(flatten({a, a}), Error);
  EXPECT_THROW(flatten({a, Tensor::zeros({2})}), Error);
  EXPECT_THROW(flatten({}), Error);
}

}  // namespace
}  // namespace attune
