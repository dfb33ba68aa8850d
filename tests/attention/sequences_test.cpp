// Sequences end to end on the token axis give what a padded batch gives: results, gradients, dropped pairs, statistics.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "attune/attention/attention.hpp"
#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"
#include "attune/base/rng.hpp"
#include "message_of.hpp"

namespace attune::sequences_tests {
namespace {

using attune::testing::message_of;

constexpr int kHeads = 4, kKeyHeads = 2, kWidth = 6;
const std::vector<int> kQueryBounds{0, 5, 5, 22, 23, 90}, kKeyBounds{0, 7, 11, 28, 28, 98};

/// One [B, heads, tokens, width] array as it is packed and as it is padded.
struct Array {
  std::vector<double> packed, padded;
  int heads, width, longest, total;
  Array(const std::vector<int>& bounds, int num_heads, int columns, std::uint64_t seed)
      : heads(num_heads), width(columns), longest(0), total(bounds.back()) {
    Generator g(seed);
    packed.resize(std::size_t(heads) * std::size_t(total) * std::size_t(width));
    for (double& x : packed) x = g.uniform(-1, 1);
    for (std::size_t i = 0; i + 1 < bounds.size(); ++i) longest = std::max(longest, bounds[i + 1] - bounds[i]);
    padded.resize((bounds.size() - 1) * std::size_t(heads) * std::size_t(longest) * std::size_t(width));
    each(bounds, [&](std::size_t a, std::size_t b) { padded[b] = packed[a]; });
  }
  /// f(place in packed, place in padded) of every number that is not padding.
  template <class F>
  void each(const std::vector<int>& bounds, F f) const {
    for (int i = 0; i + 1 < int(bounds.size()); ++i)
      for (int h = 0; h < heads; ++h)
        for (int t = bounds[std::size_t(i)]; t < bounds[std::size_t(i) + 1]; ++t)
          for (int d = 0; d < width; ++d)
            f(std::size_t((h * total + t) * width + d),
              std::size_t(((i * heads + h) * longest + t - bounds[std::size_t(i)]) * width + d));
  }
  Shape shape(bool pads, std::size_t batch, bool rows) const {
    const Shape s{pads ? std::int64_t(batch) : 1, heads, pads ? longest : total, width};
    return rows ? Shape{s[0], s[1], s[2]} : s;
  }
  View view(bool pads, bool rows = false) {
    auto& memory = pads ? padded : packed;
    return View(memory.data(), shape(pads, kQueryBounds.size() - 1, rows));
  }
  void clear() {
    std::fill(packed.begin(), packed.end(), 0.0);
    std::fill(padded.begin(), padded.end(), 0.0);
  }
  double difference(const std::vector<int>& bounds) const {
    double worst = 0;
    each(bounds, [&](std::size_t a, std::size_t b) {
      if (packed[a] != padded[b]) worst = std::max(worst, std::abs(packed[a] - padded[b]));
    });
    return worst;
  }
};

struct Problem {
  Array query{kQueryBounds, kHeads, kWidth, 1}, key{kKeyBounds, kKeyHeads, kWidth, 2},
      value{kKeyBounds, kKeyHeads, kWidth, 3}, out{kQueryBounds, kHeads, kWidth, 4},
      dout{kQueryBounds, kHeads, kWidth, 5}, lse{kQueryBounds, kHeads, 1, 6}, entropy{kQueryBounds, kHeads, 1, 7},
      dlse{kQueryBounds, kHeads, 1, 8}, dentropy{kQueryBounds, kHeads, 1, 9}, dquery{kQueryBounds, kHeads, kWidth, 10},
      dkey{kKeyBounds, kKeyHeads, kWidth, 11}, dvalue{kKeyBounds, kKeyHeads, kWidth, 12};
  std::vector<double> slope{0.5, 0.25, 0.125, 0.0625}, sink{0.1, -1, 0.5, 0}, dslope[2], dsink[2];
  Statistics statistics;

  void run(bool pads, AttendOptions o, bool learned) {
    if (pads) {
      std::vector<int> keys;
      for (std::size_t i = 0; i + 1 < kKeyBounds.size(); ++i) keys.push_back(kKeyBounds[i + 1] - kKeyBounds[i]);
      o.mask = o.mask ? o.mask & Padding{keys} : AnyMask(Padding{keys});
    } else {
      o.sequences = {kQueryBounds, kKeyBounds};
    }
    dslope[pads].assign(kHeads, 0);
    dsink[pads].assign(kHeads, 0);
    AttendInputs in{query.view(pads), key.view(pads), value.view(pads), {}};
    AttendGradients g{dquery.view(pads), dkey.view(pads), dvalue.view(pads), {}};
    if (learned) {
      in.parameters = {ConstView(slope.data(), {kHeads}), ConstView(sink.data(), {kHeads})};
      g.parameters = {View(dslope[pads].data(), {kHeads}), View(dsink[pads].data(), {kHeads})};
    }
    attend_forward(in, {out.view(pads), lse.view(pads, true), entropy.view(pads, true), pads ? nullptr : &statistics},
                   o);
    attend_backward(in,
                    {out.view(pads), lse.view(pads, true), entropy.view(pads, true), dout.view(pads),
                     dlse.view(pads, true), dentropy.view(pads, true)},
                    g, o);
  }
  void expect_equal(const AttendOptions& o, bool learned) {
    for (Array* a : {&dquery, &dkey, &dvalue}) a->clear();
    run(true, o, learned);
    run(false, o, learned);
    // The order of sums follows the tiles, which begin elsewhere in a padded batch only where a mask says so.
    for (const Array* a : {&out, &lse, &entropy, &dquery}) EXPECT_LT(a->difference(kQueryBounds), 1e-13);
    for (const Array* a : {&dkey, &dvalue}) EXPECT_LT(a->difference(kKeyBounds), 1e-13);
    for (std::size_t h = 0; h < kHeads; ++h) {
      EXPECT_NEAR(dslope[0][h], dslope[1][h], 1e-12);
      EXPECT_NEAR(dsink[0][h], dsink[1][h], 1e-12);
    }
  }
};

TEST(Sequences, GiveWhatAPaddedBatchGives) {
  for (const int threads : {1, 2, 8}) {
    set_num_threads(threads);
    Problem p;
    p.expect_equal({}, false);
    p.expect_equal({.mask = Causal{}, .dropout_p = 0.3, .seed = 9}, false);
    p.expect_equal({.mask = Causal{}, .offset = {2, 0, -3, 1, 3}}, false);
    p.expect_equal({.bias = Alibi{.learned = true}, .normalizer = SoftmaxWithSink{}, .dropout_p = 0.2, .seed = 3},
                   true);
  }
  set_num_threads(1);
}

TEST(Sequences, AlignEachToItsOwnEnd) {
  Problem p;
  AttendOptions o{.mask = Causal{}, .alignment = Alignment::bottom_right};
  p.run(false, o, false);
  const std::vector<double> out = p.out.packed;
  o.alignment = Alignment::top_left;
  for (std::size_t i = 0; i + 1 < kQueryBounds.size(); ++i)
    o.offset.push_back(kKeyBounds[i + 1] - kKeyBounds[i] - (kQueryBounds[i + 1] - kQueryBounds[i]));
  p.run(false, o, false);
  EXPECT_EQ(out, p.out.packed);
}

TEST(Sequences, ThreadsChangeNoBit) {
  std::vector<double> all[2];
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    Problem p;
    for (Array* a : {&p.dquery, &p.dkey, &p.dvalue}) a->clear();
    p.run(false, {.bias = Alibi{.learned = true}, .mask = Causal{}, .normalizer = SoftmaxWithSink{}}, true);
    for (const auto* v :
         {&p.out.packed, &p.lse.packed, &p.dquery.packed, &p.dkey.packed, &p.dvalue.packed, &p.dslope[0]})
      all[threads - 1].insert(all[threads - 1].end(), v->begin(), v->end());
  }
  set_num_threads(1);
  EXPECT_EQ(all[0], all[1]);
}

TEST(Sequences, StatisticsAreOfAllRowsTogether) {
  Problem p;
  p.run(false, {.mask = Causal{}}, false);
  const Statistics& s = p.statistics;
  ASSERT_EQ(s.batch_size, 1);
  for (int h = 0; h < kHeads; ++h) {
    double lse = 0, entropy = 0, least = 1e300;
    int rows = 0, choosing = 0;
    for (std::size_t i = 0; i + 1 < kQueryBounds.size(); ++i) {
      const int keys = kKeyBounds[i + 1] - kKeyBounds[i];
      for (int t = kQueryBounds[i]; t < kQueryBounds[i + 1]; ++t) {
        const std::size_t at = std::size_t(h) * 90 + std::size_t(t);
        if (keys == 0) continue;
        ++rows;
        lse += p.lse.packed[at];
        if (std::min(keys, t - kQueryBounds[i] + 1) < 2) continue;
        ++choosing;
        entropy += p.entropy.packed[at];
        least = std::min(least, p.entropy.packed[at]);
      }
    }
    const auto i = std::size_t(h);
    EXPECT_EQ(s.rows[i], rows);
    EXPECT_EQ(s.choosing_rows[i], choosing);
    EXPECT_NEAR(s.lse[i], lse / rows, 1e-12);
    EXPECT_NEAR(s.entropy[i], entropy / choosing, 1e-12);
    EXPECT_NEAR(s.entropy_min[i], least, 1e-12);
  }
}

TEST(Sequences, SaysWhatIsWrong) {
  Problem p;
  const AttendInputs in{p.query.view(false), p.key.view(false), p.value.view(false), {}};
  const auto says = [&](const AttendOptions& o) {
    return message_of([&] { attend_forward(in, {.out = p.out.view(false)}, o); });
  };
  EXPECT_EQ(says({.sequences = {{0, 5, 89}, {}}}),
            "attend_forward: sequences.queries that rise from 0 to 90, got 3 numbers from 0 to 89");
  EXPECT_EQ(says({.sequences = {{0, 9, 5, 90}, kKeyBounds}}).find("attend_forward: sequences.queries"), 0u);
  EXPECT_EQ(says({.sequences = {{0, 90}, kKeyBounds}}), "attend_forward: 2 boundaries of keys, as of queries, got 6");
  EXPECT_NE(says({.bias = Dense{}, .sequences = {kQueryBounds, kKeyBounds}}).find("one shape for all sequences"),
            std::string::npos);
  EXPECT_NE(says({.mask = Padding{{1, 2, 3, 4, 5}}, .sequences = {kQueryBounds, kKeyBounds}}).find("padding"),
            std::string::npos);
  EXPECT_NE(says({.offset = {1, 2}, .sequences = {kQueryBounds, kKeyBounds}}).find("each of 5 sequences"),
            std::string::npos);
}

}  // namespace
}  // namespace attune::sequences_tests
