// Masks on the plain path, cut into pieces or into residue classes, and cut into pieces on the stages' walk: output,
// lse, gradients and statistics against loops over visible pairs, with several tiles, super-blocks, grouped heads,
// offsets, padding and rows that see nothing; what is hidden may be NaN.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "attune/attention/attention.hpp"
#include "attune/attention/mask/all.hpp"
#include "attune/base/parallel.hpp"
#include "attune/base/rng.hpp"

namespace attune::mask_pieces_tests {
namespace {

struct Extents {
  int batch, heads, kv_heads, queries, keys, dim, value_dim;
  AttendShape attend() const { return {batch, heads, kv_heads, queries, keys, dim, dim, value_dim}; }
  Shape query() const { return {batch, heads, queries, dim}; }
  Shape key() const { return {batch, kv_heads, keys, dim}; }
  Shape value() const { return {batch, kv_heads, keys, value_dim}; }
  Shape out() const { return {batch, heads, queries, value_dim}; }
  Shape rows() const { return {batch, heads, queries}; }
};

template <class T>
struct Numbers {
  std::vector<T> query, key, value, dout, dlse;
  Numbers(const Extents& e, std::uint64_t seed) {
    Generator g(seed);
    const auto draw = [&](std::vector<T>& v, const Shape& s, double most) {
      v.resize(std::size_t(s.size()));
      for (T& x : v) x = T(float(g.uniform(-most, most)));
    };
    draw(query, e.query(), 1.5), draw(key, e.key(), 1.5), draw(value, e.value(), 1), draw(dout, e.out(), 1);
    draw(dlse, e.rows(), 1);
  }
};

template <class T>
struct Results {
  std::vector<T> out, lse, entropy, dquery, dkey, dvalue;
  std::vector<double> visible;  // of a head: rows that see a key; entropy and variance in Statistics are means
  Statistics statistics;
};

template <class T>
Results<T> run(const Extents& e, const Numbers<T>& n, const AttendOptions& options, bool describes = true,
               const std::vector<ConstView>& parameters = {}) {
  Results<T> r;
  r.out.resize(std::size_t(e.out().size())), r.lse.resize(std::size_t(e.rows().size()));
  r.entropy.resize(r.lse.size());
  r.dquery.assign(n.query.size(), T(0)), r.dkey.assign(n.key.size(), T(0)), r.dvalue.assign(n.value.size(), T(0));
  const AttendInputs in{ConstView(n.query.data(), e.query()), ConstView(n.key.data(), e.key()),
                        ConstView(n.value.data(), e.value()), parameters};
  AttendOutputs out{.out = View(r.out.data(), e.out()), .lse = View(r.lse.data(), e.rows())};
  if (describes) out.entropy = View(r.entropy.data(), e.rows()), out.statistics = &r.statistics;
  attend_forward(in, out, options);
  AttendGradients into;
  into.query = View(r.dquery.data(), e.query()), into.key = View(r.dkey.data(), e.key());
  into.value = View(r.dvalue.data(), e.value());
  AttendUpstream up;
  up.out = ConstView(r.out.data(), e.out()), up.lse = ConstView(r.lse.data(), e.rows());
  up.dout = ConstView(n.dout.data(), e.out());
  if (describes) up.dlse = ConstView(n.dlse.data(), e.rows());
  attend_backward(in, up, into, options);
  return r;
}

/// The same, pair by pair, in float64.
template <class T>
Results<double> reference(const Extents& e, const Numbers<T>& n, const AnyMask& mask, const std::vector<int>& offset) {
  Results<double> r;
  r.out.assign(std::size_t(e.out().size()), 0), r.lse.assign(std::size_t(e.rows().size()), 0);
  r.entropy = r.lse;
  r.dquery.assign(n.query.size(), 0), r.dkey.assign(n.key.size(), 0), r.dvalue.assign(n.value.size(), 0);
  r.visible.assign(std::size_t(e.batch * e.heads), 0);
  const AttendShape shape = e.attend();
  const double scale = 1 / std::sqrt(double(e.dim));
  std::vector<double> p(std::size_t(e.keys), 0);
  std::vector<int> seen;
  for (int b = 0; b < e.batch; ++b) {
    for (int h = 0; h < e.heads; ++h) {
      const int kv = h / shape.group();
      for (int i = 0; i < e.queries; ++i) {
        const std::size_t row = (std::size_t(b) * e.heads + h) * e.queries + i;
        const T *q = &n.query[row * e.dim], *dout = &n.dout[row * e.value_dim];
        const T* keys = &n.key[(std::size_t(b) * e.kv_heads + kv) * e.keys * e.dim];
        const T* values = &n.value[(std::size_t(b) * e.kv_heads + kv) * e.keys * e.value_dim];
        seen.clear();
        double top = -std::numeric_limits<double>::infinity(), sum = 0;
        for (int j = 0; j < e.keys; ++j) {
          std::uint64_t word = 0;
          mask->visible({&shape, b, h, kv, i, 1, j, 1, offset[std::size_t(b)]}, &word);
          if (!(word & 1)) continue;
          seen.push_back(j);
          double x = 0;
          for (int d = 0; d < e.dim; ++d) x += double(q[d]) * double(keys[j * e.dim + d]);
          p[std::size_t(j)] = x * scale;
          top = std::max(top, x * scale);
        }
        r.lse[row] = top;
        if (seen.empty()) continue;
        r.visible[std::size_t(b * e.heads + h)] += 1;
        for (int j : seen) sum += std::exp(p[std::size_t(j)] - top);
        r.lse[row] = top + std::log(sum);
        double delta = -double(n.dlse[row]);
        for (int j : seen) {
          double& w = p[std::size_t(j)];
          r.entropy[row] -= std::exp(w - r.lse[row]) * (w - r.lse[row]);
          w = std::exp(w - r.lse[row]);
          for (int d = 0; d < e.value_dim; ++d) {
            r.out[row * e.value_dim + d] += w * double(values[j * e.value_dim + d]);
            delta += w * double(values[j * e.value_dim + d]) * double(dout[d]);
          }
        }
        double* dkeys = &r.dkey[(std::size_t(b) * e.kv_heads + kv) * e.keys * e.dim];
        double* dvalues = &r.dvalue[(std::size_t(b) * e.kv_heads + kv) * e.keys * e.value_dim];
        for (int j : seen) {
          const double w = p[std::size_t(j)];
          double dp = 0;
          for (int d = 0; d < e.value_dim; ++d) {
            dp += double(values[j * e.value_dim + d]) * double(dout[d]);
            dvalues[j * e.value_dim + d] += w * double(dout[d]);
          }
          const double dx = w * (dp - delta) * scale;
          for (int d = 0; d < e.dim; ++d) {
            r.dquery[row * e.dim + d] += dx * double(keys[j * e.dim + d]);
            dkeys[j * e.dim + d] += dx * double(q[d]);
          }
        }
      }
    }
  }
  return r;
}

template <class T>
void expect_close(const char* name, const std::vector<T>& got, const std::vector<double>& want, double bar) {
  double largest = 0.05;
  for (double x : want) largest = std::isfinite(x) ? std::max(largest, std::abs(x)) : largest;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (double(got[i]) == want[i]) continue;  // infinities too
    ASSERT_NEAR(double(got[i]) / largest, want[i] / largest, bar) << name << " at " << i;
  }
}

template <class T>
void expect_all(const Results<T>& got, const Results<double>& want, double bar) {
  expect_close("out", got.out, want.out, bar);
  expect_close("lse", got.lse, want.lse, bar);
  expect_close("entropy", got.entropy, want.entropy, 5 * bar);
  expect_close("dquery", got.dquery, want.dquery, 2 * bar);
  expect_close("dkey", got.dkey, want.dkey, 2 * bar);
  expect_close("dvalue", got.dvalue, want.dvalue, 2 * bar);
  for (std::size_t h = 0; h < want.visible.size(); ++h) EXPECT_EQ(double(got.statistics.rows[h]), want.visible[h]);
}

struct Named {
  std::string name;
  AnyMask mask;
};
std::vector<Named> some_masks(const Extents& e) {
  std::vector<std::uint8_t> checks;
  for (int n = 0; n < 8 * 8; ++n) checks.push_back((n + n / 8) % 3 != 0);
  const auto holes = visible_if([](auto at) { return at.key % 5 != at.query % 3 && at.key != 7; });
  std::vector<int> valid;
  for (int b = 0; b < e.batch; ++b) valid.push_back(b == 0 ? e.keys - 9 : e.keys / 3);
  return {{"window", Window{.left = 20, .right = 3}},
          {"local_m", LocalM{.half_width = 21}},
          {"dilated", Dilated{.left = 9, .right = 2, .dilation = 3}},
          {"dilated without bounds", Dilated{.dilation = 7}},
          {"dilated more than there are", Dilated{.left = 1, .right = 1, .dilation = 500}},
          {"dilated & causal & padding", (Dilated{.left = 30, .right = 4, .dilation = 2} & Causal{}) & Padding{valid}},
          {"prefix_lm", PrefixLm{.prefix = {e.keys / 3}}},
          {"document", Document{{{3, 40, 41, e.keys - 20}}}},
          {"block_sparse", BlockSparse(checks.data(), {8, 8}, 40, 40)},
          {"big_bird", BigBird{.block = 20, .window = 1, .global_blocks = 1, .random_blocks = 2, .seed = 5}},
          {"longformer", Longformer{.half_window = 19, .global_tokens = {0, 33, 100}}},
          {"longformer, dilated", Longformer{.half_window = 7, .dilation = 2, .global_tokens = {5}}},
          {"longformer, no globals", Longformer{.half_window = 7, .dilation = 3}},
          {"sparse_strided", SparseStrided{.stride = 17}},
          {"sparse_fixed", SparseFixed{.stride = 24, .summary = 3}},
          {"sparse_fixed by head", SparseFixed{.stride = 24, .summary = 3, .part = SparsePart::by_head}},
          {"random", RandomMask{.keep = 0.4, .seed = 2}},
          {"random, few", RandomMask{.keep = 0.01, .seed = 3}},
          {"a lambda", holes},
          {"a lambda & padding", holes & Padding{valid}},
          {"either", Window{.left = 5, .right = 0} | Padding{std::vector<int>(std::size_t(e.batch), 4)}},
          {"not", AnyMask(!Window{.left = 30, .right = 30})}};
}

/// The mask on the plain path, and beside a stage that changes nothing.
std::vector<AttendOptions> both_paths(const AnyMask& mask, const std::vector<int>& offset = {0}) {
  return {{.mask = mask, .offset = offset}, {.bias = SoftCap{.cap = 0}, .mask = mask, .offset = offset}};
}

template <class T>
void expect_right(const Extents& e, const std::vector<int>& offset, double bar) {
  const Numbers<T> n(e, 3);
  for (const Named& m : some_masks(e)) {
    SCOPED_TRACE(m.name);
    const auto want = reference(e, n, m.mask, offset);
    const auto paths = both_paths(m.mask, offset);
    ASSERT_EQ(explain(e.attend(), dtype_of<T>(), paths[0]).path, "plain");
    ASSERT_EQ(explain(e.attend(), dtype_of<T>(), paths[1]).path, "stages");
    for (const AttendOptions& options : paths) expect_all(run(e, n, options), want, bar);
  }
}

TEST(MaskPieces, AreExactInFloat64) { expect_right<double>({2, 2, 1, 150, 210, 5, 3}, {0, 0}, 1e-13); }
TEST(MaskPieces, AreExactInFloat32) { expect_right<float>({2, 2, 2, 150, 210, 24, 20}, {0, 0}, 2e-6); }
TEST(MaskPieces, AreExactWithOffsets) { expect_right<double>({2, 1, 1, 70, 210, 4, 3}, {140, -13}, 1e-13); }
TEST(MaskPieces, AreExactForOneQuery) { expect_right<double>({2, 4, 2, 1, 210, 4, 3}, {209, 100}, 1e-13); }

/// Several super-blocks, and parts of one head that wait for each other.
TEST(MaskPieces, AreExactOverManyKeys) {
  const Extents e{1, 1, 1, 130, 2400, 8, 8};
  const Numbers<double> n(e, 4);
  for (const AnyMask& mask :
       {AnyMask(Longformer{.half_window = 100, .global_tokens = {1, 1500}}), AnyMask(RandomMask{.keep = 0.3}),
        AnyMask(Dilated{.left = 300, .right = 300, .dilation = 2}),
        AnyMask(Window{.left = 900, .right = 30} | SparseStrided{.stride = 40})}) {
    SCOPED_TRACE(mask.name());
    const std::vector<int> offset{1200};
    const auto want = reference(e, n, mask, offset);
    for (const AttendOptions& options : both_paths(mask, offset)) {
      const auto one = run(e, n, options);
      expect_all(one, want, 1e-13);
      const int threads = num_threads();
      set_num_threads(3);
      const auto several = run(e, n, options);
      set_num_threads(threads);
      EXPECT_EQ(one.out, several.out);
      EXPECT_EQ(one.dquery, several.dquery);
      EXPECT_EQ(one.dkey, several.dkey);
      EXPECT_EQ(one.dvalue, several.dvalue);
    }
  }
}

TEST(MaskPieces, StatisticsChangeNoBit) {
  const Extents e{1, 2, 1, 150, 210, 16, 16};
  const Numbers<float> n(e, 5);
  for (const Named& m : some_masks(e)) {
    for (const AttendOptions& options : both_paths(m.mask)) {
      const auto with = run(e, n, options), without = run(e, n, options, false);
      EXPECT_EQ(with.out, without.out) << m.name;
      EXPECT_EQ(with.lse, without.lse) << m.name;
    }
  }
}

/// Logits of thousands of nats, so that the reference of a row must change from piece to piece.
TEST(MaskPieces, LogitsFarFromZero) {
  const Extents e{1, 1, 1, 150, 210, 4, 3};
  Numbers<double> n(e, 6);
  for (double& x : n.key) x *= 900;
  for (const Named& m : some_masks(e)) {
    SCOPED_TRACE(m.name);
    const auto want = reference(e, n, m.mask, {0});
    for (const AttendOptions& options : both_paths(m.mask)) {
      const auto got = run(e, n, options);
      expect_close("out", got.out, want.out, 1e-11);
      expect_close("lse", got.lse, want.lse, 1e-12);
      expect_close("dkey", got.dkey, want.dkey, 1e-10);
    }
  }
}

/// NaN in keys and values that hardly anybody sees reaches nobody else, forward and backward; NaN in queries and dout
/// of rows likewise.
void expect_hidden(bool plain) {
  const Extents e{1, 1, 1, 150, 210, 16, 16};
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const AttendShape shape = e.attend();
  for (const Named& m : some_masks(e)) {
    SCOPED_TRACE(m.name);
    const Numbers<double> clean(e, 7);
    const auto sees = [&](int i, int j) {
      std::uint64_t word = 0;
      m.mask->visible({&shape, 0, 0, 0, i, 1, j, 1, 0}, &word);
      return (word & 1) != 0;
    };
    constexpr int kBadKey = 120, kBadQuery = 77;
    Numbers<double> dirty = clean;
    for (int d = 0; d < e.dim; ++d) {
      dirty.key[std::size_t(kBadKey * e.dim + d)] = dirty.value[std::size_t(kBadKey * e.value_dim + d)] = nan;
      dirty.query[std::size_t(kBadQuery * e.dim + d)] = dirty.dout[std::size_t(kBadQuery * e.value_dim + d)] = nan;
    }
    const AttendOptions options = both_paths(m.mask)[plain ? 0 : 1];
    const auto a = run(e, clean, options), b = run(e, dirty, options);
    std::vector<char> bad_key(std::size_t(e.keys), 0);  // keys of queries that became NaN
    int good_rows = 0, good_keys = 0;
    for (int i = 0; i < e.queries; ++i) {
      const bool bad = i == kBadQuery || sees(i, kBadKey);
      for (int j = 0; bad && j < e.keys; ++j) bad_key[std::size_t(j)] |= sees(i, j);
      if (bad) continue;
      ++good_rows;
      for (int d = 0; d < e.dim; ++d) {
        const std::size_t at = std::size_t(i * e.dim + d);
        ASSERT_NEAR(b.out[at], a.out[at], 1e-13) << "row " << i;
        ASSERT_NEAR(b.dquery[at], a.dquery[at], 1e-12) << "row " << i;
      }
    }
    for (int j = 0; j < e.keys; ++j) {
      if (bad_key[std::size_t(j)] || j == kBadKey) continue;
      ++good_keys;
      for (int d = 0; d < e.dim; ++d) {
        const std::size_t at = std::size_t(j * e.dim + d);
        ASSERT_NEAR(b.dkey[at], a.dkey[at], 1e-12) << "key " << j;
        ASSERT_NEAR(b.dvalue[at], a.dvalue[at], 1e-12) << "key " << j;
      }
    }
    EXPECT_GT(good_rows, 0);
    if (m.name == "local_m" || m.name == "dilated") {
      EXPECT_GT(good_keys, 50);
    }
  }
}

TEST(MaskPieces, AHiddenNaNStaysHidden) { expect_hidden(true); }
TEST(MaskPieces, AHiddenNaNStaysHiddenFromStages) { expect_hidden(false); }

/// A mask hides what a bias of -infinity hides, which cuts nothing; normalizers that see whole rows, the last key first
/// or few weights.
template <class T>
void expect_normalizers(double bar) {
  const Extents e{1, 2, 1, 150, 210, 16, 12};
  const AttendShape shape = e.attend();
  const Numbers<T> n(e, 8);
  const std::vector<AnyNormalizer> normalizers = {Softmax{}, Sparsemax{}, Entmax15{}, Hard{}, StickBreaking{}, Relu{}};
  for (const Named& m : some_masks(e)) {
    std::vector<T> hidden(std::size_t(e.heads * e.queries * e.keys), T(0));
    for (int h = 0; h < e.heads; ++h) {
      for (int i = 0; i < e.queries; ++i) {
        for (int j = 0; j < e.keys; ++j) {
          std::uint64_t word = 0;
          m.mask->visible({&shape, 0, h, 0, i, 1, j, 1, 0}, &word);
          if (!(word & 1)) hidden[std::size_t((h * e.queries + i) * e.keys + j)] = kHidden<T>;
        }
      }
    }
    const std::vector<ConstView> bias{ConstView(hidden.data(), Shape{e.heads, e.queries, e.keys})};
    for (const AnyNormalizer& normalizer : normalizers) {
      SCOPED_TRACE(m.name + ", " + std::string(normalizer.name()));
      const AttendOptions cut{.bias = Alibi{}, .mask = m.mask, .normalizer = normalizer},
          whole{.bias = {Alibi{}, Dense{.per = Per::head}}, .normalizer = normalizer};
      const Results<T> a = run(e, n, cut, false), b = run(e, n, whole, false, bias);
      const auto same = [&](const char* name, const std::vector<T>& got, const std::vector<T>& want) {
        expect_close(name, got, std::vector<double>(want.begin(), want.end()), bar);
      };
      same("out", a.out, b.out), same("dquery", a.dquery, b.dquery), same("dkey", a.dkey, b.dkey);
      same("dvalue", a.dvalue, b.dvalue);
    }
  }
}
TEST(MaskPieces, SuitNormalizersInFloat64) { expect_normalizers<double>(1e-13); }
TEST(MaskPieces, SuitNormalizersInFloat32) { expect_normalizers<float>(4e-6); }

}  // namespace
}  // namespace attune::mask_pieces_tests
