// What holds for linear attention whatever the numbers: chunks and steps agree, NaN stays where it belongs, gates
// close, layouts and types, random features approach softmax, bad calls are refused.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attention/linear_cases.hpp"
#include "attune/attention/attend.hpp"
#include "attune/base/error.hpp"
#include "message_of.hpp"

namespace attune::linear_cases {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

Case gated_delta(int decay_dim = 5) {
  return {.name = "gated delta",
          .options = {.rule = UpdateRule::gated_delta, .chunk = 16},
          .decay_dim = decay_dim,
          .state = true};
}

TEST(LinearStructure, ChunksOfAnyLengthAgree) {
  for (Case c : cases()) {
    SCOPED_TRACE(c.name);
    const LinearArrays<double> a = arrays_of(c);
    c.options.chunk = 1;
    const LinearResults<double> want = run_forward(c, a).results;
    LinearArrays<double> gradients = run_backward(c, a, want);
    for (int chunk : {5, 64, 256}) {
      c.options.chunk = chunk;
      const LinearResults<double> got = run_forward(c, a).results;
      EXPECT_LE(error_of(got.out, want.out), 1e-13);
      LinearArrays<double> others = run_backward(c, a, want);
      EXPECT_LE(error_of(others.key, gradients.key), 1e-12);
      EXPECT_LE(error_of(others.decay, gradients.decay), 1e-12);
    }
  }
}

/// Token t of an array [B, heads, T, width] as an array of one token.
std::vector<double> token_of(const std::vector<double>& from, int outer, int tokens, int t, int width) {
  std::vector<double> to;
  for (int i = 0; i < outer; ++i) {
    for (int w = 0; w < width; ++w) to.push_back(from[(std::size_t(i) * tokens + t) * width + w]);
  }
  return to;
}

TEST(LinearStructure, StepsWithAStateAreTheWhole) {
  for (const Case& c : cases()) {
    if (!c.options.causal || !c.options.valid_keys.empty()) continue;
    SCOPED_TRACE(c.name);
    const LinearArrays<double> a = arrays_of(c);
    const LinearResults<double> whole = run_forward(c, a).results;
    const LinearAttendShape s = shape_of(c);
    const int outer = c.batch * c.kv_heads, tokens = c.keys;
    std::vector<double> state = a.state;  // one memory, before and after
    if (state.empty()) state.resize(whole.state.size());
    for (int t = 0; t < tokens; ++t) {
      LinearArrays<double> now;
      now.query = token_of(a.query, c.batch * c.heads, tokens, t, c.head_dim);
      now.key = token_of(a.key, outer, tokens, t, c.head_dim);
      now.value = token_of(a.value, outer, tokens, t, c.value_dim);
      if (!a.decay.empty()) now.decay = token_of(a.decay, outer, tokens, t, c.decay_dim);
      if (!a.beta.empty()) now.beta = token_of(a.beta, c.beta_shared ? c.batch : outer, tokens, t, 1);
      Case step = c;
      step.queries = step.keys = 1;
      LinearAttendInputs in = inputs_of(step, now);
      const Shape shape{c.batch, c.kv_heads, s.feature_dim, s.state_dim};
      in.state = ConstView(state.data(), shape);
      std::vector<double> out(std::size_t(c.batch) * c.heads * c.value_dim);
      linear_attend_forward(
          in, {.out = View(out.data(), {c.batch, c.heads, 1, c.value_dim}), .state = View(state.data(), shape)},
          c.options);
      ASSERT_LE(error_of(out, token_of(whole.out, c.batch * c.heads, tokens, t, c.value_dim)), 1e-12) << t;
    }
    EXPECT_LE(error_of(state, whole.state), 1e-13);
  }
}

TEST(LinearStructure, BadNumbersReachNoEarlierRow) {
  for (int decay_dim : {1, 5}) {
    const Case c = gated_delta(decay_dim);
    const LinearArrays<double> clean = arrays_of(c);
    const LinearResults<double> want = run_forward(c, clean).results;
    const int bad = 21;  // within a chunk
    for (int array = 0; array < 5; ++array) {
      for (double x : {kNan, kInfinity}) {
        if (array == 3 && x == kInfinity) continue;  // a gate of +infinity is no number that a gate may have
        SCOPED_TRACE(array);
        LinearArrays<double> a = clean;
        if (array == 0) a.query[std::size_t(bad) * c.head_dim] = x;
        if (array == 1) a.key[std::size_t(bad) * c.head_dim] = x;
        if (array == 2) a.value[std::size_t(bad) * c.value_dim] = x;
        if (array == 3) a.decay[std::size_t(bad) * c.decay_dim] = x;
        if (array == 4) a.beta[std::size_t(bad)] = x;
        const LinearResults<double> got = run_forward(c, a).results;
        double off = 0;
        bool spoilt = false;
        for (int h = 0; h < c.batch * c.heads; ++h) {
          for (int t = 0; t < c.queries; ++t) {
            for (int w = 0; w < c.value_dim; ++w) {
              const std::size_t i = (std::size_t(h) * c.queries + t) * c.value_dim + w;
              const bool mine = h < (array == 0 ? 1 : c.heads / c.kv_heads), hit = array == 0 ? t == bad : t >= bad;
              if (mine && hit) {
                spoilt = spoilt || !std::isfinite(got.out[i]);
              } else {
                off = std::max(off, std::isfinite(got.out[i]) ? std::abs(got.out[i] - want.out[i]) : kInfinity);
              }
            }
          }
        }
        EXPECT_TRUE(spoilt);
        EXPECT_LE(off, 1e-13);
      }
    }
    // Backward: what an earlier query sends back reaches no later key or value.
    LinearResults<double> up = want;
    up.out[std::size_t(bad) * c.value_dim] = kNan;
    const LinearArrays<double> g = run_backward(c, clean, up), calm = run_backward(c, clean, want);
    for (int t = bad + 1; t < c.keys; ++t) {
      for (int d = 0; d < c.head_dim; ++d) {
        EXPECT_NEAR(g.key[std::size_t(t) * c.head_dim + d], calm.key[std::size_t(t) * c.head_dim + d], 1e-12);
      }
    }
    EXPECT_TRUE(std::isnan(g.value[std::size_t(bad) * c.value_dim]));
    EXPECT_TRUE(std::isnan(g.key[0]));
  }
}

TEST(LinearStructure, KeysThatAreNotValidAreNotRead) {
  Case c = gated_delta();
  c.options.valid_keys = {11, 37};
  LinearArrays<double> a = arrays_of(c);
  const LinearResults<double> want = run_forward(c, a).results;
  LinearArrays<double> calm = run_backward(c, a, want);
  for (int t = 11; t < c.keys; ++t) {
    for (int g = 0; g < c.kv_heads; ++g) {
      a.key[(std::size_t(g) * c.keys + t) * c.head_dim] = kNan;
      a.decay[(std::size_t(g) * c.keys + t) * c.decay_dim] = kNan;
      a.beta[std::size_t(g) * c.keys + t] = kNan;
    }
  }
  const LinearResults<double> got = run_forward(c, a).results;
  EXPECT_EQ(got.out, want.out);
  EXPECT_EQ(got.state, want.state);
  LinearArrays<double> g = run_backward(c, a, want);
  EXPECT_EQ(g.query, calm.query);
  EXPECT_EQ(g.key, calm.key);
  EXPECT_EQ(g.key[11 * 5], 0);
}

TEST(LinearStructure, AGateThatClosesForgets) {
  for (int decay_dim : {1, 5}) {
    Case c = gated_delta(decay_dim);
    LinearArrays<double> a = arrays_of(c);
    const int forget = 9;
    for (int g = 0; g < c.batch * c.kv_heads; ++g) {
      for (int i = 0; i < decay_dim; ++i) a.decay[(std::size_t(g) * c.keys + forget) * decay_dim + i] = -kInfinity;
    }
    const LinearResults<double> once = run_forward(c, a).results;
    for (int g = 0; g < c.batch * c.kv_heads; ++g) {
      for (int t = 0; t < forget; ++t) a.value[(std::size_t(g) * c.keys + t) * c.value_dim] += 5;
    }
    for (double& x : a.state) x = -x;
    const LinearResults<double> again = run_forward(c, a).results;
    EXPECT_EQ(once.state, again.state);
    const LinearArrays<double> g = run_backward(c, a, again);
    for (const auto* v : {&g.query, &g.key, &g.value, &g.decay, &g.beta, &g.state}) {
      for (double x : *v) ASSERT_TRUE(std::isfinite(x));
    }
    EXPECT_EQ(g.decay[std::size_t(forget) * decay_dim], 0);
  }
}

TEST(LinearStructure, TakesAnyStridesAndAddsToGradients) {
  const Case c = gated_delta();
  const LinearArrays<double> a = arrays_of(c);
  const LinearResults<double> want = run_forward(c, a).results;
  // The same as [B, T, H, D].
  const auto turned = [](const std::vector<double>& v, int b, int h, int t, int d) {
    std::vector<double> r(v.size());
    for (int i = 0; i < b; ++i)
      for (int j = 0; j < h; ++j)
        for (int k = 0; k < t; ++k)
          for (int l = 0; l < d; ++l)
            r[((std::size_t(i) * t + k) * h + j) * d + l] = v[((std::size_t(i) * h + j) * t + k) * d + l];
    return r;
  };
  const int t = c.keys, g = c.kv_heads, h = c.heads, b = c.batch;
  const auto query = turned(a.query, b, h, t, 5), key = turned(a.key, b, g, t, 5), value = turned(a.value, b, g, t, 3),
             decay = turned(a.decay, b, g, t, 5), beta = turned(a.beta, b, g, t, 1);
  const auto view = [](const std::vector<double>& v, const Shape& s) {
    return ConstView(v.data(), s).transposed(1, 2);
  };
  const LinearAttendInputs in{view(query, {b, t, h, 5}), view(key, {b, t, g, 5}),
                              view(value, {b, t, g, 3}), view(decay, {b, t, g, 5}),
                              view(beta, {b, t, g}),     ConstView(a.state.data(), {b, g, 5, 3})};
  std::vector<double> out(want.out.size()), dquery(query.size(), 1.0), dbeta(beta.size(), 1.0);
  linear_attend_forward(in, {.out = View(out.data(), {b, t, h, 3}).transposed(1, 2)}, c.options);
  EXPECT_EQ(out, turned(want.out, b, h, t, 3));
  const LinearArrays<double> gradients = run_backward(c, a, want);
  linear_attend_backward(in, {.dout = view(out, {b, t, h, 3}), .dstate = ConstView(want.state.data(), {b, g, 5, 3})},
                         {.query = View(dquery.data(), {b, t, h, 5}).transposed(1, 2),
                          .beta = View(dbeta.data(), {b, t, g}).transposed(1, 2)},
                         c.options);
  for (double& x : dquery) x -= 1;
  for (double& x : dbeta) x -= 1;
  EXPECT_LE(error_of(dquery, turned(gradients.query, b, h, t, 5)), 1e-14);
  EXPECT_LE(error_of(dbeta, turned(gradients.beta, b, g, t, 1)), 1e-14);
}

TEST(LinearStructure, HalfTypesComputeInFloat32) {
  for (DType dtype : {DType::bfloat16, DType::float16}) {
    const Case c = gated_delta(1);
    LinearArrays<float> a = converted<float>(arrays_of(c));
    std::vector<std::vector<std::uint16_t>> halves;
    const auto half = [&](std::vector<float>& v, const Shape& s) {
      halves.emplace_back(v.size());
      convert(DType::float32, v.data(), dtype, halves.back().data(), std::int64_t(v.size()));
      convert(dtype, halves.back().data(), DType::float32, v.data(), std::int64_t(v.size()));  // what it can hold
      return ConstView(halves.back().data(), dtype, s);
    };
    const Shape rows{c.batch, c.heads, c.queries, 3};
    LinearAttendInputs in = inputs_of(c, a);
    in.query = half(a.query, in.query.shape), in.key = half(a.key, in.key.shape);
    in.value = half(a.value, in.value.shape), in.decay = half(a.decay, in.decay.shape);
    in.beta = half(a.beta, in.beta.shape);
    const LinearResults<float> want = run_forward(c, a).results;
    std::vector<std::uint16_t> out(want.out.size()), rounded(out.size());
    std::vector<float> state(want.state.size()), dkey(a.key.size());
    linear_attend_forward(in, {.out = View(out.data(), dtype, rows), .state = View(state.data(), in.state.shape)},
                          c.options);
    convert(DType::float32, want.out.data(), dtype, rounded.data(), std::int64_t(rounded.size()));
    EXPECT_EQ(out, rounded);
    EXPECT_EQ(state, want.state);
    LinearResults<float> up = want;
    const ConstView dout = half(up.out, rows);
    std::fill(up.state.begin(), up.state.end(), 0.f);
    linear_attend_backward(in, {.dout = dout}, {.key = View(dkey.data(), in.key.shape)}, c.options);
    EXPECT_EQ(dkey, run_backward(c, a, up).key);
  }
}

TEST(LinearStructure, RowsWithoutAWeightAreZero) {
  Case c{.name = "relu", .options = {.features = features::Relu{.epsilon = 0}, .normalize = true}};
  LinearArrays<double> a = arrays_of(c);
  for (int d = 0; d < c.head_dim; ++d) a.query[std::size_t(d)] = -1;  // row 0 has no positive feature
  const LinearResults<double> r = run_forward(c, a).results;
  for (int w = 0; w < c.value_dim; ++w) EXPECT_EQ(r.out[std::size_t(w)], 0);
  LinearResults<double> up = r;
  std::fill(up.out.begin(), up.out.end(), 0.0), std::fill(up.state.begin(), up.state.end(), 0.0);
  for (int w = 0; w < c.value_dim; ++w) up.out[std::size_t(w)] = 1;  // of that row alone
  LinearArrays<double> g = run_backward(c, a, up);
  each_array(g, [](auto& v) {
    for (double x : v) EXPECT_EQ(x, 0);
  });
}

/// How far normalised Favor is from softmax attention, as a share of the output's size.
double distance_to_softmax(int num_features, bool orthogonal, std::uint64_t seed) {
  Case c{.name = "favor",
         .options = {.features = features::Favor(8, num_features, seed, orthogonal), .normalize = true}};
  c.head_dim = c.value_dim = 8;
  c.size = 0.4;
  c.options.causal = false;
  const LinearArrays<double> a = arrays_of(c, 4);
  const LinearResults<double> got = run_forward(c, a).results;
  std::vector<double> want(got.out.size());
  const LinearAttendInputs in = inputs_of(c, a);
  attend_forward({in.query, in.key, in.value, {}}, {.out = View(want.data(), {c.batch, c.heads, c.queries, 8})});
  double off = 0, size = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    off += (got.out[i] - want[i]) * (got.out[i] - want[i]), size += want[i] * want[i];
  }
  return std::sqrt(off / size);
}

TEST(LinearStructure, RandomFeaturesApproachSoftmax) {
  double few = 0, many = 0, independent = 0;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    few += distance_to_softmax(16, true, seed) / 4;
    many += distance_to_softmax(512, true, seed) / 4;
    independent += distance_to_softmax(16, false, seed) / 4;
  }
  EXPECT_LT(many, 0.06);
  EXPECT_NEAR(few / many, std::sqrt(512 / 16), 2.5);  // 1 / sqrt(features)
  EXPECT_LT(few, independent);
  const features::Favor favor(8, 20, 1);
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < i; ++j) {
      double product = 0;
      for (int d = 0; d < 8; ++d)
        product += favor.rows()[std::size_t(i * 8 + d)] * favor.rows()[std::size_t(j * 8 + d)];
      EXPECT_NEAR(product, 0, 1e-13);
    }
  }
  EXPECT_EQ(features::Favor(8, 20, 1).rows(), favor.rows());
  EXPECT_NE(features::Favor(8, 20, 2).rows(), favor.rows());
}

TEST(LinearStructure, LargeQueriesOfRandomFeaturesKeepTheirWeights) {
  Case c{.name = "favor", .options = {.features = features::Favor(5, 32, 3), .normalize = true}};
  LinearArrays<float> a = converted<float>(arrays_of(c));
  for (float& x : a.query) x *= 30;  // e^(w . q - |q|^2 / 2) alone would be 0 in float32
  for (float x : run_forward(c, a).results.out) EXPECT_TRUE(std::isfinite(x));
}

TEST(LinearStructure, RefusesBadCalls) {
  const Case c = gated_delta();
  const LinearArrays<double> a = arrays_of(c);
  const LinearAttendInputs good = inputs_of(c, a);
  const auto message = [&](LinearAttendInputs in, LinearAttendOptions o) {
    return testing::message_of([&] { linear_shape(in, o); });
  };
  EXPECT_EQ(message(good, c.options), "no error");
  LinearAttendInputs in = good;
  in.key.shape = {2, 3, 37, 5};
  EXPECT_EQ(message(in, c.options), "linear_shape: query heads that are a multiple of key heads, got 4 and 3");
  in = good;
  in.decay = {};
  EXPECT_EQ(message(in, c.options), "linear_shape: decay [2, 2, 37, 5], got []");
  in = good;
  in.beta.dtype = DType::float32;
  EXPECT_EQ(message(in, c.options), "linear_shape: beta of float64, got float32");
  in = good;
  in.state.shape = {2, 2, 5, 4};
  EXPECT_EQ(message(in, c.options), "linear_shape: state [2, 2, 5, 3], got [2, 2, 5, 4]");
  EXPECT_EQ(message(good, {.rule = UpdateRule::delta}), "linear_shape: no decay for the rule delta, got [2, 2, 37, 5]");
  LinearAttendOptions o = c.options;
  o.normalize = true;
  EXPECT_EQ(message(good, o), "linear_shape: normalize with the rules linear and gated, got gated_delta");
  o = c.options;
  o.causal = false;
  EXPECT_EQ(message(good, o), "linear_shape: causal = true for every rule but linear, got gated_delta");
  o = c.options;
  o.chunk = 257;
  EXPECT_EQ(message(good, o), "linear_shape: a chunk of 0 to 256 tokens, got 257");
  o = c.options;
  o.valid_keys = {3, 38};
  EXPECT_EQ(message(good, o), "linear_shape: valid_keys of 0 to 37, got 38");
  o.valid_keys = {};
  o.features = features::Favor(6, 4, 1);
  EXPECT_EQ(message(good, o), "linear_shape: normalize = true with the features favor, got false");
  EXPECT_THROW(features::Favor(0, 4, 1), Error);
  EXPECT_THROW(update_rule_from_name("delta_gated"), Error);
  EXPECT_EQ(update_rule_from_name("gated_delta"), UpdateRule::gated_delta);
  std::vector<float> small(64);
  EXPECT_THROW(linear_attend_forward(good, {.out = View(small.data(), {1, 4, 4, 4})}, c.options), Error);
}

TEST(LinearStructure, EmptyCallsAreCalls) {
  Case c{.name = "linear", .state = true};
  c.queries = c.keys = 0;
  const LinearArrays<double> a = arrays_of(c);
  const LinearResults<double> r = run_forward(c, a).results;
  EXPECT_EQ(r.state, a.state);
  EXPECT_EQ(run_backward(c, a, r).state, a.state);
}

}  // namespace
}  // namespace attune::linear_cases
