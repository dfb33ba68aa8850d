// The two calls as a user meets them: layouts, dtypes, errors, maps, statistics, explanations. Exactness of every stage
// is the business of tests/contract.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "attune/attention/attention.hpp"
#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"
#include "attune/base/rng.hpp"

namespace attune::attend_tests {
namespace {

template <class T>
std::vector<T> randoms(std::int64_t n, std::uint64_t seed, double scale = 1) {
  Generator g(seed);
  std::vector<T> v(static_cast<std::size_t>(n));
  for (T& x : v) x = T(float(scale * g.uniform(-1, 1)));
  return v;
}

/// One attention problem in memory of its own, [B, H, T, D] layout.
template <class T>
struct Fixture {
  int batch_size = 2, num_heads = 4, num_kv_heads = 2, num_queries = 37, num_keys = 51, dim = 12, value_dim = 9;
  std::vector<T> query, key, value, out;
  std::vector<float> lse;
  Fixture() {
    query = randoms<T>(std::int64_t(batch_size) * num_heads * num_queries * dim, 1);
    key = randoms<T>(std::int64_t(batch_size) * num_kv_heads * num_keys * dim, 2);
    value = randoms<T>(std::int64_t(batch_size) * num_kv_heads * num_keys * value_dim, 3);
    out.resize(std::size_t(batch_size) * num_heads * num_queries * value_dim);
    lse.resize(std::size_t(batch_size) * num_heads * num_queries);
  }
  AttendInputs inputs() const {
    return {ConstView(query.data(), {batch_size, num_heads, num_queries, dim}),
            ConstView(key.data(), {batch_size, num_kv_heads, num_keys, dim}),
            ConstView(value.data(), {batch_size, num_kv_heads, num_keys, value_dim}),
            {}};
  }
  View out_view() { return View(out.data(), {batch_size, num_heads, num_queries, value_dim}); }
  View lse_view() { return View(lse.data(), {batch_size, num_heads, num_queries}); }
};

std::string error_of(const AttendInputs& in, const AttendOutputs& out, const AttendOptions& options = {}) {
  try {
    attend_forward(in, out, options);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Attend, ReadsTokenMajorMemoryWithoutACopy) {
  Fixture<float> f;
  attend_forward(f.inputs(), {.out = f.out_view()}, {.mask = Causal{}});
  // The same numbers as [B, T, H, D].
  auto token_major = [](const std::vector<float>& v, int b, int h, int t, int d) {
    std::vector<float> r(v.size());
    for (int i = 0; i < b; ++i)
      for (int j = 0; j < h; ++j)
        for (int k = 0; k < t; ++k)
          for (int l = 0; l < d; ++l)
            r[std::size_t(((i * t + k) * h + j) * d + l)] = v[std::size_t(((i * h + j) * t + k) * d + l)];
    return r;
  };
  const auto q = token_major(f.query, 2, 4, 37, 12), k = token_major(f.key, 2, 2, 51, 12),
             v = token_major(f.value, 2, 2, 51, 9);
  std::vector<float> out(f.out.size());
  const AttendInputs in{ConstView(q.data(), {2, 37, 4, 12}).transposed(1, 2),
                        ConstView(k.data(), {2, 51, 2, 12}).transposed(1, 2),
                        ConstView(v.data(), {2, 51, 2, 9}).transposed(1, 2),
                        {}};
  attend_forward(in, {.out = View(out.data(), {2, 37, 4, 9}).transposed(1, 2)}, {.mask = Causal{}});
  EXPECT_EQ(out, token_major(f.out, 2, 4, 37, 9));
}

TEST(Attend, ThePlainPathAndTheStagesAgree) {
  Fixture<float> plain, staged;
  for (const bool causal : {false, true}) {
    const AnyMask mask = causal ? AnyMask(Causal{}) : AnyMask();
    attend_forward(plain.inputs(), {.out = plain.out_view(), .lse = plain.lse_view()}, {.mask = mask});
    // A window without bounds hides nothing and is no part of the plain path.
    attend_forward(staged.inputs(), {.out = staged.out_view(), .lse = staged.lse_view()}, {.mask = mask & Window{}});
    for (std::size_t i = 0; i < plain.out.size(); ++i) ASSERT_NEAR(plain.out[i], staged.out[i], 2e-6);
    for (std::size_t i = 0; i < plain.lse.size(); ++i) ASSERT_NEAR(plain.lse[i], staged.lse[i], 5e-6);
  }
}

template <class T>
void expect_half_is_close(double tolerance) {
  Fixture<T> half;
  Fixture<float> wide;
  for (std::size_t i = 0; i < half.query.size(); ++i) wide.query[i] = float(half.query[i]);
  for (std::size_t i = 0; i < half.key.size(); ++i) wide.key[i] = float(half.key[i]);
  for (std::size_t i = 0; i < half.value.size(); ++i) wide.value[i] = float(half.value[i]);
  attend_forward(half.inputs(), {.out = half.out_view(), .lse = half.lse_view()});
  attend_forward(wide.inputs(), {.out = wide.out_view(), .lse = wide.lse_view()});
  EXPECT_EQ(half.lse, wide.lse);
  for (std::size_t i = 0; i < half.out.size(); ++i) ASSERT_NEAR(float(half.out[i]), wide.out[i], tolerance);
}
TEST(Attend, HalfTypesComputeInFloat32) {
  expect_half_is_close<BFloat16>(1.0 / 256);
  expect_half_is_close<Float16>(1.0 / 2048);
}

TEST(Attend, BottomRightMovesTheDiagonal) {
  Fixture<float> f;
  std::vector<float> map(std::size_t(2 * 4 * 37 * 51));
  const AttendOptions options{.mask = Causal{}, .alignment = Alignment::bottom_right};
  attend_forward(f.inputs(), {.out = f.out_view(), .lse = f.lse_view()}, options);
  attend_map(f.inputs(), f.lse_view(), View(map.data(), {2, 4, 37, 51}), {}, options);
  for (int row = 0; row < 2 * 4 * 37; ++row) {
    double sum = 0;
    for (int j = 0; j < 51; ++j) {
      const float p = map[std::size_t(row * 51 + j)];
      if (j <= row % 37 + (51 - 37))
        EXPECT_GT(p, 0);
      else
        EXPECT_EQ(p, 0);
      sum += p;
    }
    EXPECT_NEAR(sum, 1, 1e-5);
  }
}

TEST(Attend, MapsAnyRectangleOfHeadsAndRows) {
  Fixture<float> f;
  attend_forward(f.inputs(), {.out = f.out_view(), .lse = f.lse_view()}, {.bias = SoftCap{.cap = 2}, .mask = Causal{}});
  std::vector<float> all(std::size_t(2 * 4 * 37 * 51)), part(std::size_t(2 * 2 * 5 * 51));
  for (const Exposed exposed : {Exposed::scores, Exposed::logits, Exposed::masked, Exposed::probs}) {
    const AttendOptions options{.bias = SoftCap{.cap = 2}, .mask = Causal{}};
    attend_map(f.inputs(), f.lse_view(), View(all.data(), {2, 4, 37, 51}), {.exposed = exposed}, options);
    attend_map(f.inputs(), f.lse_view(), View(part.data(), {2, 2, 5, 51}),
               {.exposed = exposed, .first_head = 1, .num_heads = 2, .first_query = 30, .num_queries = 5}, options);
    for (int b = 0; b < 2; ++b)
      for (int h = 0; h < 2; ++h)
        for (int i = 0; i < 5 * 51; ++i)
          ASSERT_FLOAT_EQ(part[std::size_t((b * 2 + h) * 255 + i)],
                          all[std::size_t(((b * 4 + h + 1) * 37 + 30) * 51 + i)]);
  }
}

void expect_statistics_describe_the_map(const AttendOptions& options) {
  Fixture<float> f, g;
  Statistics s;
  attend_forward(f.inputs(), {.out = f.out_view(), .lse = f.lse_view()}, options);
  attend_forward(g.inputs(), {.out = g.out_view(), .lse = g.lse_view(), .statistics = &s}, options);
  EXPECT_EQ(f.out, g.out);
  EXPECT_EQ(f.lse, g.lse);
  std::vector<float> probs(std::size_t(2 * 4 * 37 * 51)), scores(probs.size());
  attend_map(f.inputs(), f.lse_view(), View(probs.data(), {2, 4, 37, 51}), {}, options);
  attend_map(f.inputs(), {}, View(scores.data(), {2, 4, 37, 51}), {.exposed = Exposed::scores}, options);
  for (int head = 0; head < 8; ++head) {
    double entropy = 0, largest_prob = 0, score = -1e30, low = 1e30;
    for (int i = 0; i < 37; ++i) {
      double largest = 0;
      for (int j = 0; j <= i; ++j) {
        const std::size_t at = std::size_t((head * 37 + i) * 51 + j);
        if (i > 0)
          entropy -= double(probs[at]) * std::log(double(probs[at])) / 36;  // the first row sees one key: not counted
        largest = std::max(largest, double(probs[at]));
        score = std::max(score, double(scores[at]));
        low = std::min(low, double(scores[at]));
      }
      largest_prob += largest / 37;
    }
    EXPECT_EQ(s.rows[std::size_t(head)], 37);
    EXPECT_NEAR(s.entropy[std::size_t(head)], entropy, 1e-5);
    EXPECT_NEAR(s.largest_prob[std::size_t(head)], largest_prob, 1e-6);
    EXPECT_NEAR(s.largest_score[std::size_t(head)], score, 1e-6);
    EXPECT_NEAR(s.smallest_score[std::size_t(head)], low, 1e-6);
    EXPECT_LT(s.largest_logit[std::size_t(head)], options.bias.empty() ? score + 1e-6 : 1.5);
    EXPECT_EQ(s.non_finite[std::size_t(head)], 0);
    EXPECT_EQ(s.sink_mass[std::size_t(head)], 0);
  }
}

TEST(Attend, StatisticsDescribeTheMapAndChangeNoBit) {
  expect_statistics_describe_the_map({.bias = SoftCap{.cap = 1.5}, .mask = Causal{}});  // by the stages
  expect_statistics_describe_the_map({.mask = Causal{}});                               // on the plain path
}

TEST(Attend, StatisticsCountVisibleLogitsThatAreNotFinite) {
  Fixture<float> f;
  f.key[0] =
      std::numeric_limits<float>::infinity();  // key 0 of head 0 of entry 0: seen by all 37 queries of heads 0 and 1
  Statistics s;
  attend_forward(f.inputs(), {.out = f.out_view(), .statistics = &s}, {.mask = Causal{}});
  EXPECT_EQ(s.non_finite[0], 37);
  EXPECT_EQ(s.non_finite[1], 37);
  EXPECT_EQ(s.non_finite[2], 0);
}

TEST(Attend, SaysWhatIsWrong) {
  Fixture<float> f;
  const AttendOutputs out{.out = f.out_view()};
  auto in = f.inputs();
  in.key.shape = in.key.shape.with(3, 11);
  EXPECT_EQ(error_of(in, out), "scaled_dot: query and key of one width, got 12 and 11");
  in = f.inputs();
  in.value.shape = in.value.shape.with(2, 50);
  EXPECT_NE(
      error_of(in, out).find("attend_forward: query [B, H, Tq, D], key [B, Hkv, Tk, D], value [B, Hkv, Tk, Dv], got"),
      std::string::npos);
  in = f.inputs();
  in.query.shape = in.query.shape.with(1, 3);
  EXPECT_EQ(error_of(in, out),
            "attend_forward: a number of query heads that the key heads divide, got 3 query heads and 2 key heads");
  in = f.inputs();
  in.query.strides[3] = 2;
  EXPECT_EQ(error_of(in, out), "attend_forward: query with a contiguous last dimension, got stride 2");
  in = f.inputs();
  in.value.dtype = DType::float64;
  EXPECT_EQ(error_of(in, out), "attend_forward: value in float32, got float64");
  in = f.inputs();
  in.query.shape = Shape{2, 4, 37};
  EXPECT_EQ(error_of(in, out), "attend_forward: query [batch, heads, tokens, width], got [2, 4, 37]");
  in = f.inputs();
  EXPECT_EQ(error_of(in, out, {.mask = Window{.left = -2}}),
            "window: left and right of -1 (unbounded) or more, got -2 and -1");
  EXPECT_EQ(error_of(in, out, {.bias = SoftCap{.cap = -1}}), "soft_cap: a cap of 0 (off) or more, got -1");
  EXPECT_EQ(error_of(in, out, {.mask = Padding{{1}}}), "padding: valid_keys for each of 2 batch entries, got 1");
  EXPECT_EQ(error_of(in, out, {.mask = Padding{{1, 52}}}), "padding: valid_keys of 0 to 51, got 52");
  EXPECT_EQ(error_of(in, out, {.bias = Alibi{.learned = true}}), "attend_forward: 1 parameters (slope [4]), got 0");
  EXPECT_EQ(error_of(in, out, {.dropout_p = 1}), "attend_forward: dropout_p of at least 0 and less than 1, got 1");
  EXPECT_EQ(error_of(in, out, {.offset = {1, 2, 3}}),
            "attend_forward: one offset, or one for each of 2 batch entries, got 3");
  EXPECT_EQ(error_of(in, {.out = f.out_view(), .entropy = f.lse_view()}, {.normalizer = Sparsemax{}}),
            "attend_forward: softmax or softmax_with_sink for an entropy, got sparsemax");
  const std::uint8_t byte[60] = {};
  EXPECT_NE(error_of(in, out, {.mask = DenseMask(byte, {60})}).find("dense mask: a shape that broadcasts"),
            std::string::npos);
  EXPECT_EQ(error_of(in, out, {.position = Learned{.num_positions = 50}}),
            "learned: a table for all 51 keys, got 50 positions");
  EXPECT_EQ(error_of(in, {}), "attend_forward: out [2, 4, 37, 9], got []");
}

TEST(Attend, ExplainsItself) {
  const AttendShape shape{1, 8, 8, 1024, 1024, 64, 64, 64};
  const Explanation plain = explain(shape, DType::float32, {.mask = Causal{}});
  EXPECT_EQ(plain.path, "plain");
  const Explanation staged = explain(shape, DType::float32, {.bias = Alibi{}, .mask = Causal{}});
  EXPECT_EQ(staged.path, "stages");
  EXPECT_NE(staged.why.find("alibi"), std::string::npos);
  EXPECT_GT(staged.forward_bytes, 0);
  EXPECT_NE(staged.text().find(std::string(name_of(cpu_target()))), std::string::npos);
}

}  // namespace
}  // namespace attune::attend_tests
