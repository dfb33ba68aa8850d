// What must hold to the last bit: hidden numbers, empty rows, threads, statistics, saved slopes. And what follows from
// the equation: rows of dlogits sum to 0, a shared key head gets the sum over its group, two paths agree.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attune/attention/formulas/normalizers.hpp"
#include "attune/base/parallel.hpp"
#include "contract/covering.hpp"
#include "contract/measure.hpp"
#include "contract/run.hpp"
#include "contract/variants/biases.hpp"

namespace attune::contract {
namespace {

/// Random combinations: a covering set is more than is needed here.
std::vector<Case> some_cases(std::uint64_t seed, int count) {
  Generator g(seed);
  std::vector<Case> cases;
  for (int n = 0; n < count; ++n) cases.push_back(random_case(g));
  return cases;
}

/// A scaled dot under softmax over many tiles of the default size; everything else as asked.
Scenario long_scenario(int num_queries, int num_keys, std::uint64_t seed, const std::function<void(Scenario&)>& add) {
  Scenario s;
  s.random = Generator(seed);
  s.shape = {2, 4, 2, num_queries, num_keys, 10, 10, 7};
  add(s);
  draw_numbers(s);
  return s;
}

bool row_is_empty(const Scenario& s, int b, int h, int i) {
  for (int j = 0; j < s.shape.num_keys; ++j) {
    if (s.reference.sees(b, h, i, j)) return false;
  }
  return true;
}

/// The same call with NaN in every key and value row that no query sees, and in query and dout of rows that see
/// nothing.
template <class T>
void poison_hidden(const Scenario& s, Arrays<T>& in, Upstream<T>& up) {
  const AttendShape& a = s.shape;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  auto fill = [&](std::vector<T>& v, std::size_t row, int width) {
    std::fill_n(v.begin() + std::ptrdiff_t(row) * width, width, nan);
  };
  for (int b = 0; b < a.batch_size; ++b) {
    for (int kv = 0; kv < a.num_kv_heads; ++kv) {
      for (int j = 0; j < a.num_keys; ++j) {
        bool seen = false;
        for (int h = kv * a.group(); h < (kv + 1) * a.group(); ++h) {
          for (int i = 0; i < a.num_queries; ++i) seen = seen || s.reference.sees(b, h, i, j);
        }
        if (seen) continue;
        const std::size_t row = (std::size_t(b) * a.num_kv_heads + kv) * a.num_keys + j;
        fill(in[1], row, a.key_dim);
        fill(in[2], row, a.value_dim);
      }
    }
    for (int h = 0; h < a.num_heads; ++h) {
      for (int i = 0; i < a.num_queries; ++i) {
        if (!row_is_empty(s, b, h, i)) continue;
        const std::size_t row = (std::size_t(b) * a.num_heads + h) * a.num_queries + i;
        fill(in[0], row, a.query_dim);
        fill(up.dout, row, a.value_dim);
        if (!up.dlse.empty()) up.dlse[row] = nan;
        if (!up.dentropy.empty()) up.dentropy[row] = nan;
      }
    }
  }
}

template <class T>
void expect_same(const Result<T>& a, const Result<T>& b, const std::string& what) {
  EXPECT_TRUE(same_bits(a.out, b.out)) << what << ": out differs by " << error_of(a.out, b.out);
  EXPECT_TRUE(same_bits(a.lse, b.lse)) << what << ": lse";
  EXPECT_TRUE(same_bits(a.entropy, b.entropy)) << what << ": entropy";
  for (std::size_t n = 0; n < a.gradient.size(); ++n) {
    EXPECT_TRUE(same_bits(a.gradient[n], b.gradient[n]))
        << what << ": gradient " << n << " differs by " << error_of(a.gradient[n], b.gradient[n]);
  }
}

template <class T>
void hidden_numbers_change_nothing(const Scenario& s) {
  const auto in = converted<T>(s.in);
  const auto up = upstream_of<T>(s);
  auto poisoned_in = in;
  auto poisoned_up = up;
  poison_hidden(s, poisoned_in, poisoned_up);
  expect_same(run_public<T>(s, in, &up), run_public<T>(s, poisoned_in, &poisoned_up), s.text());
  expect_same(run_tiles<T>(s, in, &up), run_tiles<T>(s, poisoned_in, &poisoned_up), s.text() + " (small tiles)");
}

TEST(Structure, HiddenNaNChangesNoBit) {
  for (const Case& c : some_cases(21, 120)) {
    const Scenario s = make_scenario(c);
    hidden_numbers_change_nothing<double>(s);
    hidden_numbers_change_nothing<float>(s);
  }
  for (const bool causal : {false, true}) {  // the plain path, several tiles
    const Scenario s = long_scenario(90, 150, 5, [&](Scenario& to) {
      if (causal) detail::add_window(to, Causal{}, -1, 0);
      detail::add_padding(to);
    });
    hidden_numbers_change_nothing<double>(s);
    hidden_numbers_change_nothing<float>(s);
  }
}

/// NaN in one key and value row of every head.
template <class T>
void poison_key(const Scenario& s, Arrays<T>& in, int key) {
  const AttendShape& a = s.shape;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  for (int g = 0; g < a.batch_size * a.num_kv_heads; ++g) {
    const std::ptrdiff_t row = std::ptrdiff_t(g) * a.num_keys + key;
    std::fill_n(in[1].begin() + row * a.key_dim, a.key_dim, nan);
    std::fill_n(in[2].begin() + row * a.value_dim, a.value_dim, nan);
  }
}

/// NaN in a key that some queries see: the others must not notice, in their results or their gradients.
template <class T>
void others_do_not_notice(const Scenario& s, int key) {
  const AttendShape& a = s.shape;
  const auto in = converted<T>(s.in);
  const auto up = upstream_of<T>(s);
  auto poisoned = in;
  poison_key(s, poisoned, key);
  const Result<T> clean = run_public<T>(s, in, &up), run = run_public<T>(s, poisoned, &up);
  int noticed = 0;
  for (std::size_t row = 0; row < s.rows(); ++row) {
    const int b = int(row) / a.num_queries / a.num_heads, h = int(row) / a.num_queries % a.num_heads;
    if (s.reference.sees(b, h, int(row) % a.num_queries, key)) continue;
    auto same = [&](const std::vector<T>& x, const std::vector<T>& y, int width) {
      return std::memcmp(&x[row * width], &y[row * width], std::size_t(width) * sizeof(T)) == 0;
    };
    noticed += !same(clean.out, run.out, a.value_dim) + !same(clean.lse, run.lse, 1) +
               !same(clean.gradient[0], run.gradient[0], a.query_dim);
  }
  EXPECT_EQ(noticed, 0) << s.text() << " key " << key;
}

TEST(Structure, ANaNThatSomeSeeIsUnseenByTheOthers) {
  for (const Case& c : some_cases(22, 80)) {
    const Scenario s = make_scenario(c);
    others_do_not_notice<double>(s, s.shape.num_keys / 2);
    others_do_not_notice<float>(s, s.shape.num_keys / 2);
  }
  const Scenario s = long_scenario(90, 150, 6, [](Scenario& to) {
    detail::add_window(to, Window{.right = 0}, -1, 0);
    to.options.mask = to.options.mask & Window{};  // the plain path does not know it
  });
  others_do_not_notice<float>(s, 60);
  others_do_not_notice<double>(s, 60);
}

/// The plain path keeps such a NaN away from the other rows too, but sums their tile in another order then.
template <class T>
void others_hardly_notice(const Scenario& s, int key) {
  const AttendShape& a = s.shape;
  const auto in = converted<T>(s.in);
  const auto up = upstream_of<T>(s);
  auto poisoned = in;
  poison_key(s, poisoned, key);
  Result<T> clean = run_public<T>(s, in, &up), run = run_public<T>(s, poisoned, &up);
  auto blank_rows_that_see = [&](Result<T>& r) {
    for (std::size_t row = 0; row < s.rows(); ++row) {
      const int b = int(row) / a.num_queries / a.num_heads, h = int(row) / a.num_queries % a.num_heads;
      if (!s.reference.sees(b, h, int(row) % a.num_queries, key)) continue;
      std::fill_n(r.out.begin() + std::ptrdiff_t(row) * a.value_dim, a.value_dim, T(0));
      std::fill_n(r.gradient[0].begin() + std::ptrdiff_t(row) * a.query_dim, a.query_dim, T(0));
    }
  };
  blank_rows_that_see(clean);
  blank_rows_that_see(run);
  EXPECT_LE(error_of(run.out, clean.out), forward_bar(T(), 1));
  EXPECT_LE(error_of(run.gradient[0], clean.gradient[0]), 5 * forward_bar(T(), 1));
}
TEST(Structure, ANaNThatSomeSeeIsUnseenByTheOthersOnThePlainPath) {
  const Scenario s = long_scenario(90, 150, 6, [](Scenario& to) { detail::add_window(to, Causal{}, -1, 0); });
  others_hardly_notice<float>(s, 60);
  others_hardly_notice<double>(s, 60);
}

TEST(Structure, RowsThatSeeNothing) {
  int empty = 0;
  for (const Case& c : some_cases(23, 80)) {
    const Scenario s = make_scenario(c);
    const auto up = upstream_of<float>(s);
    const Result<float> r = run_public<float>(s, converted<float>(s.in), &up);
    for (std::size_t row = 0; row < s.rows(); ++row) {
      const int b = int(row) / s.shape.num_queries / s.shape.num_heads;
      const int h = int(row) / s.shape.num_queries % s.shape.num_heads;
      if (!row_is_empty(s, b, h, int(row) % s.shape.num_queries)) continue;
      ++empty;
      for (int d = 0; d < s.shape.value_dim; ++d) EXPECT_EQ(r.out[row * s.shape.value_dim + d], 0) << s.text();
      for (int d = 0; d < s.shape.query_dim; ++d) EXPECT_EQ(r.gradient[0][row * s.shape.query_dim + d], 0) << s.text();
      EXPECT_EQ(r.lse[row], -std::numeric_limits<float>::infinity()) << s.text();
      if (!r.entropy.empty()) {
        EXPECT_EQ(r.entropy[row], 0) << s.text();
      }
    }
  }
  EXPECT_GT(empty, 50);  // or nothing was tested
}

TEST(Structure, EqualBitsForAnyNumberOfThreads) {
  const int before = num_threads();
  std::vector<Scenario> scenarios;
  for (const Case& c : some_cases(24, 25)) scenarios.push_back(make_scenario(c));
  scenarios.push_back(long_scenario(150, 200, 7, [](Scenario& s) { detail::add_window(s, Causal{}, -1, 0); }));
  scenarios.push_back(
      long_scenario(70, 300, 8, [](Scenario& s) { detail::add_dense(s, Per::call), detail::add_alibi(s, true); }));
  // Few heads and many keys: threads share the backward of a head.
  scenarios.push_back(long_scenario(70, 600, 9, [](Scenario&) {}));
  scenarios.push_back(long_scenario(560, 600, 10, [](Scenario& s) { detail::add_window(s, Causal{}, -1, 0); }));
  scenarios.push_back(long_scenario(300, 600, 11, [](Scenario& s) {
    detail::add_window(s, Window{100, 260}, 100, 260);
  }));
  for (const Scenario& s : scenarios) {
    const auto in = converted<float>(s.in);
    const auto up = upstream_of<float>(s);
    set_num_threads(1);
    const Result<float> one = run_public<float>(s, in, &up);
    for (const int threads : {2, 3, 8}) {
      set_num_threads(threads);
      expect_same(one, run_public<float>(s, in, &up), s.text() + " threads " + std::to_string(threads));
    }
  }
  set_num_threads(before);
}

/// Statistics and entropies on request change no bit, and are right.
TEST(Structure, StatisticsChangeNoBitAndAreRight) {
  std::vector<Scenario> scenarios;
  for (const Case& c : some_cases(25, 80)) scenarios.push_back(make_scenario(c));
  scenarios.push_back(long_scenario(70, 300, 9, [](Scenario&) {}));
  scenarios.push_back(long_scenario(150, 200, 10, [](Scenario& s) {
    detail::add_window(s, Causal{}, -1, 0);
    s.options.normalizer = SoftmaxWithSink{};
    s.reference.normalizer = kernels::ReferenceNormalizer::softmax_with_sink;
    s.plain.normalizer = formula::softmax_with_sink();
  }));
  for (const Scenario& s : scenarios) {
    Statistics t;
    const Result<double> bare = run_public<double>(s, s.in, nullptr, {.entropy = false});
    const Result<double> full = run_public<double>(s, s.in, nullptr, {.entropy = true, .statistics = &t});
    EXPECT_TRUE(same_bits(bare.out, full.out)) << s.text();
    EXPECT_TRUE(same_bits(bare.lse, full.lse)) << s.text();
    const auto want = reference_statistics(s.reference, expected_forward(s, s.in));
    EXPECT_LE(error_of(t.rows, want.rows), 0) << s.text();
    EXPECT_LE(error_of(t.largest_score, want.largest_score, 1.0), 1e-13) << s.text();
    EXPECT_LE(error_of(t.smallest_score, want.smallest_score, 1.0), 1e-13) << s.text();
    EXPECT_LE(error_of(t.largest_logit, want.largest_logit, 1.0), 1e-13) << s.text();
    if (!s.gives_lse()) {
      EXPECT_TRUE(t.entropy.empty());
      continue;
    }
    const std::pair<const std::vector<double>*, const std::vector<double>*> pairs[] = {
        {&t.lse, &want.lse},
        {&t.entropy, &want.entropy},
        {&t.entropy_normalized, &want.entropy_normalized},
        {&t.entropy_min, &want.entropy_min},
        {&t.variance, &want.variance},
        {&t.largest_prob, &want.largest_prob},
        {&t.sink_mass, &want.sink_mass}};
    for (const auto& [x, y] : pairs) EXPECT_LE(error_of(*x, *y, 1.0), 1e-12) << s.text() << " " << (x - &t.lse);
    // In float32, given the same logits: entropy within 1e-6 max(1, H).
    const Result<float> narrow = run_public<float>(s, converted<float>(s.in));
    for (std::size_t n = 0; n < narrow.entropy.size(); ++n) {
      EXPECT_NEAR(narrow.entropy[n], full.entropy[n], 3e-6 * std::max(1.0, full.entropy[n])) << s.text();
    }
  }
}

/// apply must leave the same bits with and without `saved`: what makes recomputing exact.
template <class T>
void recompute_is_exact(const AnyBias& bias) {
  const AttendShape shape{1, 2, 2, 40, 30, 4, 4, 4};
  const Area area{&shape, 0, 1, 1, 3, 37, 2, 21, 0};
  Generator g(31);
  std::vector<T> forward(21 * kLanes), backward, saved(21 * kLanes), numbers(40 * 30);
  for (T& x : forward) x = T(g.uniform(-4, 4));
  for (T& x : numbers) x = T(g.uniform(0, 1));
  backward = forward;
  const std::vector<Parameter<T>> parameters(bias.on<T>()->parameters(shape).size(), {numbers.data(), nullptr});
  std::vector<T> memory;
  Call<T> call{parameters, &memory};
  Tile<T> x{forward.data(), kLanes, area}, y{backward.data(), kLanes, area}, save{saved.data(), kLanes, area};
  bias.on<T>()->apply(x, nullptr, call);
  bias.on<T>()->apply(y, &save, call);
  for (int j = 0; j < area.keys; ++j) {
    EXPECT_EQ(std::memcmp(x[j], y[j], std::size_t(area.queries) * sizeof(T)), 0) << bias.name() << " key " << j;
  }
}
TEST(Structure, ApplyLeavesTheSameBitsWithAndWithoutSaved) {
  for (const Variant& v : biases()) {
    Scenario s;
    v.add(s);
    for (const AnyBias& bias : s.options.bias) {
      recompute_is_exact<float>(bias);
      recompute_is_exact<double>(bias);
    }
  }
}

/// Forward and backward in both types, as called and through the stages, against the oracle.
void expect_exact(const Scenario& s) {
  AttendOptions staged = s.options;
  staged.mask = staged.mask & Window{};  // hides nothing, and the plain path does not know it
  const auto forward = reference_forward(s.reference, s.in);
  const auto gradient = reference_backward(s.reference, s.in, s.dout, s.dlse);
  const double logit = largest_logit(s.reference, forward);
  auto check = [&](auto zero, const AttendOptions& options, const char* path) {
    using T = decltype(zero);
    const auto in = converted<T>(s.in);
    const auto up = upstream_of<T>(s);
    const Result<T> r = run_public<T>(s.shape, options, in, &up);
    const double bar = forward_bar(zero, logit);
    const std::string what = std::string(path) + ", mask " + std::string(s.options.mask.name()) + ", " +
                             std::to_string(s.shape.num_queries) + " queries, logits up to " + std::to_string(logit);
    EXPECT_LE(error_of(r.out, forward.out), bar) << what;
    EXPECT_LE(error_of(r.lse, forward.stat, 1.0), bar) << what;
    for (std::size_t a = 0; a < 3; ++a) {
      EXPECT_LE(error_of(r.gradient[a], gradient[a]), 5 * bar) << what << ", gradient " << a;
    }
  };
  check(double(), s.options, "as called, float64");
  check(double(), staged, "stages, float64");
  check(float(), s.options, "as called, float32");
  check(float(), staged, "stages, float32");
}

const std::function<void(Scenario&)> kMasks[] = {
    [](Scenario&) {}, [](Scenario& s) { detail::add_window(s, Causal{}, -1, 0); },
    [](Scenario& s) { detail::add_window(s, Causal{}, -1, 0), detail::add_padding(s); },
    [](Scenario& s) { detail::add_window(s, Window{.left = 30, .right = 5}, 30, 5); }};

/// Many default tiles, ragged at both ends; logits up to 40 among them.
TEST(Structure, LongSequencesOnBothPathsAgreeWithTheOracle) {
  std::uint64_t seed = 40;
  for (const auto& mask : kMasks) {
    for (const double scale : {0.3, 4.0}) {
      expect_exact(long_scenario(131, 197, ++seed, [&](Scenario& to) {
        to.options.score = ScaledDot{.scale = scale};
        to.reference.scale = scale;
        mask(to);
        to.wants_dlse = true;
      }));
    }
  }
}

/// As in decoding: the last few tokens of a long sequence ask.
TEST(Structure, FewQueriesBehindManyKeysAgreeWithTheOracle) {
  std::uint64_t seed = 70;
  for (const auto& mask : kMasks) {
    for (const int queries : {1, 2, 5}) {
      expect_exact(long_scenario(queries, 300, ++seed, [&](Scenario& to) {
        to.options.alignment = Alignment::bottom_right;
        to.reference.offset = {300 - queries, 300 - queries};
        mask(to);
        to.wants_dlse = true;
      }));
    }
  }
}

/// Logits of 1e4 and more overflow any exp that is not shifted by the maximum.
TEST(Structure, HugeLogitsStayFinite) {
  for (const double scale : {1e4, -1e4}) {
    const Scenario s = long_scenario(70, 140, 50, [&](Scenario& to) { to.options.score = ScaledDot{.scale = scale}; });
    const auto up = upstream_of<float>(s);
    Statistics t;
    const Result<float> r = run_public<float>(s, converted<float>(s.in), &up, {.statistics = &t});
    for (const float x : r.out) ASSERT_TRUE(std::isfinite(x));
    for (const auto& array : r.gradient) {
      for (const float x : array) ASSERT_TRUE(std::isfinite(x));
    }
    for (const double x : t.entropy) EXPECT_TRUE(x >= 0 && x < 0.2);
  }
}

TEST(Structure, RowsOfDlogitsSumToZeroUnderSoftmax) {
  for (const bool causal : {false, true}) {
    // The gradient of a bias of its own for each logit is dlogits.
    const Scenario s = long_scenario(20, 33, 60, [&](Scenario& to) {
      detail::add_dense(to, Per::batch_head);
      if (causal) detail::add_window(to, Causal{}, -1, 0);
    });
    const auto up = upstream_of<double>(s);
    const std::vector<double> dlogits = run_public<double>(s, s.in, &up).gradient[3];
    for (std::size_t row = 0; row < s.rows(); ++row) {
      double sum = 0, size = 0;
      for (int j = 0; j < 33; ++j) {
        const double x = dlogits[row * 33 + std::size_t(j)];
        sum += x;
        size += std::abs(x);
        if (causal && j > int(row) % 20) {
          EXPECT_EQ(x, 0);
        }
      }
      EXPECT_LE(std::abs(sum), 1e-14 * std::max(size, 1.0));
    }
  }
}

TEST(Structure, ASharedKeyHeadGetsTheSumOverItsGroup) {
  const Scenario s = long_scenario(30, 45, 61, [](Scenario& to) { detail::add_window(to, Causal{}, -1, 0); });
  Scenario copied = s;  // every query head with a copy of its key head
  copied.shape.num_kv_heads = 4;
  for (const std::size_t a : {1u, 2u}) {
    const std::size_t head = s.in[a].size() / 4;
    copied.in[a].clear();
    for (int n = 0; n < 8; ++n) {
      const auto first = s.in[a].begin() + std::ptrdiff_t(std::size_t(n / 2) * head);
      copied.in[a].insert(copied.in[a].end(), first, first + std::ptrdiff_t(head));
    }
  }
  const auto up = upstream_of<double>(s);
  const Result<double> shared = run_public<double>(s, s.in, &up), own = run_public<double>(copied, copied.in, &up);
  EXPECT_TRUE(same_bits(shared.out, own.out));
  for (const std::size_t a : {1u, 2u}) {
    const std::size_t head = s.in[a].size() / 4;
    std::vector<double> sum(s.in[a].size());
    for (std::size_t n = 0; n < sum.size(); ++n) {
      const std::size_t at = n / head * 2 * head + n % head;
      sum[n] = own.gradient[a][at] + own.gradient[a][at + head];
    }
    EXPECT_LE(error_of(shared.gradient[a], sum), 1e-14);
  }
}

TEST(Structure, GradientsAreAddedToWhatIsThere) {
  for (const Case& c : some_cases(62, 20)) {
    const Scenario s = make_scenario(c);
    const auto up = upstream_of<double>(s);
    const Views<double> views(s.shape, s.options);
    const Result<double> r = run_public<double>(s, s.in, &up);
    Arrays<double> g = r.gradient;
    attend_backward(views.inputs(s.in),
                    {.out = ConstView(r.out.data(), views.out),
                     .lse = ConstView(r.lse.data(), views.row),
                     .entropy = views.rows(r.entropy),
                     .dout = ConstView(up.dout.data(), views.out),
                     .dlse = views.rows(up.dlse),
                     .dentropy = views.rows(up.dentropy)},
                    views.gradients(g), s.options);
    double largest = 0;
    for (auto& array : g) {
      for (double& x : array) largest = std::max(largest, std::abs(x)), x /= 2;
    }
    EXPECT_LE(error_of(g, r.gradient, largest), 1e-14) << s.text();
  }
}

/// Half types: at most twice the error of the plain formula that rounds its result to that type.
template <class T>
void half_type_is_close(const Scenario& s) {
  Scenario rounded = s;
  for (auto& array : rounded.in) {
    for (double& x : array) x = double(float(T(float(x))));
  }
  const auto want = expected_forward(rounded, rounded.in);
  const formula::Result<float> plain = formula::run(rounded.plain, converted<float>(rounded.in));
  const Views<T> views(s.shape, s.options);
  Arrays<T> in;
  for (const auto& array : rounded.in) {
    auto& to = in.emplace_back();
    for (const double x : array) to.push_back(T(float(x)));
  }
  std::vector<T> out(want.out.size());
  attend_forward(views.inputs(in), {.out = View(out.data(), views.out)}, s.options);
  double ours = 0, theirs = 0;
  for (std::size_t n = 0; n < out.size(); ++n) {
    ours = std::max(ours, std::abs(double(float(out[n])) - want.out[n]));
    theirs = std::max(theirs, std::abs(double(float(T(plain.out[n]))) - want.out[n]));
  }
  EXPECT_LE(ours, 2 * theirs) << s.text();
}
TEST(Structure, HalfTypesAreAsExactAsTheirFormat) {
  for (const Case& c : some_cases(63, 30)) {
    half_type_is_close<BFloat16>(make_scenario(c));
    half_type_is_close<Float16>(make_scenario(c));
  }
}

TEST(Structure, MapsShowWhatTheOracleComputes) {
  for (const Case& c : some_cases(64, 60)) {
    const Scenario s = make_scenario(c);
    const Views<double> views(s.shape, s.options);
    const auto want = expected_forward(s, s.in);
    const Result<double> r = run_public<double>(s, s.in);
    std::vector<double> masked = want.logits, map(want.logits.size());
    for (std::size_t n = 0; n < masked.size(); ++n) {
      const int j = int(n) % s.shape.num_keys, i = int(n) / s.shape.num_keys % s.shape.num_queries;
      const int head = int(n) / s.shape.num_keys / s.shape.num_queries;
      if (!s.reference.sees(head / s.shape.num_heads, head % s.shape.num_heads, i, j)) {
        masked[n] = -std::numeric_limits<double>::infinity();
      }
    }
    const std::pair<Exposed, const std::vector<double>*> maps[] = {{Exposed::scores, &want.scores},
                                                                   {Exposed::logits, &want.logits},
                                                                   {Exposed::masked, &masked},
                                                                   {Exposed::probs, &want.probs}};
    for (const auto& [exposed, expected] : maps) {
      const View view(map.data(), {s.shape.batch_size, s.shape.num_heads, s.shape.num_queries, s.shape.num_keys});
      attend_map(views.inputs(s.in), ConstView(r.lse.data(), views.row), view, {.exposed = exposed}, s.options);
      EXPECT_LE(error_of(map, *expected), 1e-13) << s.text() << " map " << int(exposed);
    }
  }
}

}  // namespace
}  // namespace attune::contract
