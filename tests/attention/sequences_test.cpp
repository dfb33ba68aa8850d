// Sequences end to end on the token axis give what a padded batch gives: results, gradients, dropped pairs, statistics.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "attune/attention/attend_jvp.hpp"
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

/// Forward mode over all sequences at once, and over each alone: the same numbers, bit for bit.
struct Moved {
  Array query{kQueryBounds, kHeads, kWidth, 21}, key{kKeyBounds, kKeyHeads, kWidth, 22},
      value{kKeyBounds, kKeyHeads, kWidth, 23}, dout{kQueryBounds, kHeads, kWidth, 24},
      dlse{kQueryBounds, kHeads, 1, 25};
  std::vector<double> slope{1, -0.5, 0.25, 2}, sink{0.3, 0.2, -0.1, 1};
};
/// out, lse, entropy; dquery, dkey, dvalue; dslope, dsink.
struct Results {
  Array out{kQueryBounds, kHeads, kWidth, 0}, lse{kQueryBounds, kHeads, 1, 0}, entropy{kQueryBounds, kHeads, 1, 0},
      dquery{kQueryBounds, kHeads, kWidth, 0}, dkey{kKeyBounds, kKeyHeads, kWidth, 0},
      dvalue{kKeyBounds, kKeyHeads, kWidth, 0};
  std::vector<double> dslope = std::vector<double>(kHeads), dsink = dslope;
  Results() {
    for (Array* a : {&out, &lse, &entropy, &dquery, &dkey, &dvalue}) a->clear();
  }
  AttendOutputs outputs() { return {out.view(false), lse.view(false, true), entropy.view(false, true)}; }
  AttendGradients gradients() {
    return {dquery.view(false),
            dkey.view(false),
            dvalue.view(false),
            {View(dslope.data(), {kHeads}), View(dsink.data(), {kHeads})}};
  }
  std::vector<std::vector<double>> all() const {
    return {out.packed, lse.packed, entropy.packed, dquery.packed, dkey.packed, dvalue.packed, dslope, dsink};
  }
};
/// Rows of sequence i of [1, heads, total, width], as an array of its own; `back` writes them there.
void copy_rows(Array& whole, const std::vector<int>& bounds, std::size_t i, std::vector<double>& part, bool back) {
  const int n = bounds[i + 1] - bounds[i], w = whole.width;
  part.resize(std::size_t(whole.heads * n * w));
  for (int h = 0; h < whole.heads; ++h) {
    for (int k = 0; k < n * w; ++k) {
      double &one = part[std::size_t(h * n * w + k)],
             &all = whole.packed[std::size_t((h * whole.total + bounds[i]) * w + k)];
      back ? all = one : one = all;
    }
  }
}

TEST(Sequences, MoveAsEachAloneDoes) {
  Problem p;
  Moved m;
  AttendOptions o{
      .bias = Alibi{.learned = true}, .mask = Causal{}, .normalizer = SoftmaxWithSink{}, .dropout_p = 0.2, .seed = 4};
  const auto learned = [](std::vector<double>& slope, std::vector<double>& sink) {
    return std::vector<ConstView>{ConstView(slope.data(), {kHeads}), ConstView(sink.data(), {kHeads})};
  };
  const auto inputs = [&](auto& of) {
    return AttendInputs{of.query.view(false), of.key.view(false), of.value.view(false), learned(of.slope, of.sink)};
  };
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    Results value, tangent, single_value, single_tangent;
    o.sequences = {kQueryBounds, kKeyBounds};
    attend_jvp(inputs(p), inputs(m), {value.outputs(), tangent.outputs()}, o);
    attend_backward_jvp(inputs(p), inputs(m), {.dout = p.dout.view(false), .dlse = p.dlse.view(false, true)},
                        {.dout = m.dout.view(false), .dlse = m.dlse.view(false, true)},
                        {value.gradients(), tangent.gradients()}, o);
    o.sequences = {};
    for (std::size_t i = 0; i + 1 < kQueryBounds.size(); ++i) {
      o.first_batch = int(i);
      const std::int64_t tq = kQueryBounds[i + 1] - kQueryBounds[i], tk = kKeyBounds[i + 1] - kKeyBounds[i];
      const Shape queries{1, kHeads, tq, kWidth}, keys{1, kKeyHeads, tk, kWidth}, rows{1, kHeads, tq};
      std::vector<std::vector<double>> memory;
      memory.reserve(64);
      const auto part = [&](Array& a, bool of_queries, bool numbers) {
        std::vector<double>& own = memory.emplace_back();
        copy_rows(a, of_queries ? kQueryBounds : kKeyBounds, i, own, false);
        own.reserve(1);  // memory, also of no rows
        return View(own.data(), of_queries ? numbers ? rows : queries : keys);
      };
      const auto inputs_of = [&](auto& of) {
        return AttendInputs{part(of.query, true, false), part(of.key, false, false), part(of.value, false, false),
                            learned(of.slope, of.sink)};
      };
      const auto upstream_of = [&](auto& of) {
        return AttendUpstream{.dout = part(of.dout, true, false), .dlse = part(of.dlse, true, true)};
      };
      std::vector<std::pair<Array*, std::size_t>> written;
      const auto result = [&](Array& a, bool of_queries, bool numbers) {
        const View v = part(a, of_queries, numbers);
        written.emplace_back(&a, memory.size() - 1);
        return v;
      };
      const auto outputs_of = [&](Results& r) {
        return AttendOutputs{result(r.out, true, false), result(r.lse, true, true), result(r.entropy, true, true)};
      };
      const auto gradients_of = [&](Results& r) {
        return AttendGradients{result(r.dquery, true, false),
                               result(r.dkey, false, false),
                               result(r.dvalue, false, false),
                               {View(r.dslope.data(), {kHeads}), View(r.dsink.data(), {kHeads})}};
      };
      attend_jvp(inputs_of(p), inputs_of(m), {outputs_of(single_value), outputs_of(single_tangent)}, o);
      attend_backward_jvp(inputs_of(p), inputs_of(m), upstream_of(p), upstream_of(m),
                          {gradients_of(single_value), gradients_of(single_tangent)}, o);
      for (const auto& [array, at] : written)
        copy_rows(*array, array->total == kQueryBounds.back() ? kQueryBounds : kKeyBounds, i, memory[at], true);
    }
    o.first_batch = 0;
    EXPECT_EQ(value.all(), single_value.all()) << threads;
    EXPECT_EQ(tangent.all(), single_tangent.all()) << threads;
    // And what does not move is what attend_forward gives.
    p.run(false, o, true);
    for (std::size_t n = 0; n < value.out.packed.size(); ++n)
      ASSERT_NEAR(value.out.packed[n], p.out.packed[n], 1e-13) << n;
    EXPECT_GT(std::abs(tangent.dslope[0]), 1e-6);
  }
  set_num_threads(1);
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
