// attend_gradients: the gradients of backward(), and their own gradients against differences. A gradient penalty falls
// when it is trained.
#include "attune/autograd/ops/attend_gradients.hpp"

#include <gtest/gtest.h>

#include "attune/attention/bias/all.hpp"
#include "attune/attention/mask/all.hpp"
#include "attune/attention/normalize/all.hpp"
#include "attune/autograd/ops/attend.hpp"
#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/reduce.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "autograd/check.hpp"

namespace attune {
namespace {

using namespace testing_support;

Tensor flat_of(const GradientsOfAttend& g) {
  std::vector<Tensor> all = {reshape(g.query, {-1}), reshape(g.key, {-1}), reshape(g.value, {-1})};
  for (const Tensor& p : g.parameters) all.push_back(reshape(p, {-1}));
  return concat(all, 0);
}
/// query, key, value, dout.
Inputs small_inputs() {
  return {normal({1, 2, 4, 3}, 1), normal({1, 1, 5, 3}, 2), normal({1, 1, 5, 2}, 3), normal({1, 2, 4, 2}, 4)};
}

TEST(AttendGradientsOp, AreThoseOfBackward) {
  Inputs in = small_inputs();
  const Tensor sink = normal({2}, 5).requires_grad();
  for (int i = 0; i < 3; ++i) in[std::size_t(i)].requires_grad();
  const AttendOptions o{.mask = Causal{}, .normalizer = SoftmaxWithSink{}, .dropout_p = 0.2, .seed = 9};
  attend(in[0], in[1], in[2], o, {.parameters = {sink}}).out.backward(in[3]);
  const GradientsOfAttend g =
      attend_gradients(in[0], in[1], in[2], in[3], o, {.parameters = {sink}, .dlse = {}, .dentropy = {}});
  EXPECT_EQ(g.query.to_vector(), in[0].grad().to_vector());
  EXPECT_EQ(g.key.to_vector(), in[1].grad().to_vector());
  EXPECT_EQ(g.value.to_vector(), in[2].grad().to_vector());
  EXPECT_EQ(g.parameters[0].to_vector(), sink.grad().to_vector());
}

TEST(AttendGradientsOp, HaveRightGradients) {
  const GradcheckOptions small{.taylor_length = 0.2};
  const auto check = [&](const AttendOptions& o, const Inputs& parameters) {
    Inputs in = small_inputs();
    in.insert(in.end(), parameters.begin(), parameters.end());
    expect_gradients(
        [&](const Inputs& x) {
          AttendGradientsExtras extras;
          extras.parameters.assign(x.begin() + 4, x.end());
          return flat_of(attend_gradients(x[0], x[1], x[2], x[3], o, extras));
        },
        in, small);
  };
  check({}, {});
  check({.mask = Causal{}, .dropout_p = 0.3, .seed = 4}, {});
  check({.bias = {SoftCap{.cap = 2}, Alibi{.learned = true}}, .normalizer = SoftmaxWithSink{}},
        {normal({2}, 6), normal({2}, 7)});
  check({.normalizer = StickBreaking{}}, {});
  check({.normalizer = Sigmoid{}}, {normal({2}, 8)});
  // lse and entropy too.
  Inputs in = small_inputs();
  in.push_back(normal({1, 2, 4}, 9));
  in.push_back(normal({1, 2, 4}, 10));
  expect_gradients(
      [](const Inputs& x) {
        return flat_of(
            attend_gradients(x[0], x[1], x[2], x[3], {}, {.parameters = {}, .dlse = x[4], .dentropy = x[5]}));
      },
      in, small);
  // One tensor in three places.
  expect_gradients(
      [](const Inputs& x) { return flat_of(attend_gradients(x[0], x[0], x[0], x[1], {.mask = Causal{}})); },
      {normal({1, 2, 4, 3}, 11), normal({1, 2, 4, 3}, 12)}, small);
}

/// A penalty on the slope of a loss by its query: descent on the key alone makes it smaller, step by step.
TEST(AttendGradientsOp, AGradientPenaltyFalls) {
  for (const DType dtype : {DType::float64, DType::float32}) {
    const Tensor query = normal({1, 2, 6, 4}, 1, dtype), value = normal({1, 2, 6, 4}, 3, dtype),
                 dout = normal({1, 2, 6, 4}, 4, dtype);
    Tensor key = normal({1, 2, 6, 4}, 2, dtype);
    double first = 0, last = 0;
    for (int step = 0; step < 12; ++step) {
      key = key.detach().requires_grad();
      const Tensor slope = attend_gradients(query, key, value, dout).query;
      const Tensor penalty = sum(mul(slope, slope));
      penalty.backward();
      const double now = penalty.to_vector()[0];
      if (step == 0) first = now;
      if (step > 0) {
        EXPECT_LT(now, last) << step;
      }
      last = now;
      NoGrad no_grad;
      key = key.detach() - scale(key.grad(), 0.02);
    }
    EXPECT_LT(last, 0.7 * first);
  }
}

TEST(AttendGradientsOp, SaysWhatItCannotDo) {
  const Inputs in = small_inputs();
  EXPECT_THROW(attend_gradients(in[0], in[1], in[2], in[0]), Error);
  EXPECT_THROW(attend_gradients(in[0], in[1], in[2], Tensor()), Error);
  EXPECT_THROW(attend_gradients(in[0], in[1], in[2], in[3], {.normalizer = Sparsemax{}},
                                {.parameters = {}, .dlse = normal({1, 2, 4}, 5), .dentropy = {}}),
               Error);
}

}  // namespace
}  // namespace attune
