// Masks against their predicates: every bit of random areas, no key outside of keys(), and a cover() that tells hidden
// and full areas from others. Then: hidden tiles are not visited, and what is wrong is said.
#include "attune/attention/mask/all.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "attune/attention/attention.hpp"
#include "attune/base/dropout.hpp"
#include "attune/base/rng.hpp"
#include "message_of.hpp"

namespace attune::masks_tests {
namespace {

using attune::testing::message_of;

constexpr int kBatch = 2, kHeads = 3, kQueries = 150, kKeys = 210;
const AttendShape kShape{kBatch, kHeads, kHeads, kQueries, kKeys, 4, 4, 4};

/// (area, index of the query, key): the definition. Positions are index + a.offset.
using Predicate = std::function<bool(const Area&, int, int)>;

std::vector<Area> random_areas(std::uint64_t seed, int count) {
  Generator g(seed);
  const auto below = [&](int n) { return int(g.below(std::uint64_t(n))); };
  std::vector<Area> areas;
  for (int n = 0; n < count; ++n) {
    Area a{&kShape, below(kBatch), below(kHeads)};
    a.kv_head = a.head;
    a.query = below(kQueries);
    a.queries = 1 + below(std::min(n % 3 == 0 ? 4 : kLanes, kQueries - a.query));
    a.key = below(kKeys);
    a.keys = 1 + below(std::min(n % 2 == 0 ? 5 : 128, kKeys - a.key));
    constexpr int kOffsets[] = {0, 0, 60, -20};
    a.offset = kOffsets[below(4)];
    areas.push_back(a);
  }
  return areas;
}

/// exact: cover() says none and full wherever it may; else it must only never be wrong.
void expect_is(const AnyMask& mask, const Predicate& sees, bool exact = true) {
  mask->check(kShape);
  int wrong_bits = 0, wrong_keys = 0, wrong_cover = 0, vague = 0, seen = 0, hidden = 0;
  for (const Area& a : random_areas(11, 1500)) {
    std::vector<std::uint64_t> rows(std::size_t(a.keys), 0x5555);
    mask->visible(a, rows.data());
    const Range keys = mask->keys(a);
    int visible = 0;
    for (int j = 0; j < a.keys; ++j) {
      for (int i = 0; i < a.queries; ++i) {
        const bool want = sees(a, a.query + i, a.key + j);
        wrong_bits += want != bool(rows[std::size_t(j)] >> i & 1);
        wrong_keys += want && (a.key + j < keys.begin || a.key + j >= keys.end);
        visible += want;
      }
    }
    const Cover true_cover = visible == 0 ? Cover::none : visible == a.keys * a.queries ? Cover::full : Cover::partial;
    const Cover said = mask->cover(a);
    vague += said != true_cover;
    wrong_cover += said != true_cover && said != Cover::partial;
    seen += visible;
    hidden += a.keys * a.queries - visible;
  }
  EXPECT_EQ(wrong_bits, 0) << mask.name();
  EXPECT_EQ(wrong_keys, 0) << mask.name();
  EXPECT_EQ(wrong_cover, 0) << mask.name();
  if (exact) {
    EXPECT_EQ(vague, 0) << mask.name();
  }
  EXPECT_GT(seen, 100) << mask.name();  // or nothing was tested
  EXPECT_GT(hidden, 100) << mask.name();
}

int floor_of(int x, int n) { return int(std::floor(double(x) / n)); }

TEST(Masks, Dilated) {
  for (const auto& [left, right, dilation] : {std::array{3, 2, 5}, {-1, 0, 7}, {4, -1, 3}, {9, 9, 1}, {1, 1, 90}}) {
    expect_is(Dilated{left, right, dilation},
              [=, left = left, right = right, d = dilation](const Area& a, int i, int j) {
                const int far = j - i - a.offset;
                return far % d == 0 && (left < 0 || far >= -left * d) && (right < 0 || far <= right * d);
              });
  }
}

TEST(Masks, PrefixLm) {
  const std::vector<int> prefix{40, 0};
  expect_is(PrefixLm{prefix},
            [&](const Area& a, int i, int j) { return j < prefix[std::size_t(a.batch)] || j <= i + a.offset; });
  expect_is(PrefixLm{{25}}, [](const Area& a, int i, int j) { return j < 25 || j <= i + a.offset; });
}

TEST(Masks, Document) {
  const std::vector<std::vector<int>> bounds{{0, 17, 18, 90, 200}, {5, 100, 164}};
  const auto of = [&](const Area& a, int p) {
    const auto& b = bounds[std::size_t(a.batch)];
    for (int n = 0; n + 1 < int(b.size()); ++n) {
      if (p >= b[std::size_t(n)] && p < b[std::size_t(n) + 1]) return n;
    }
    return -1;
  };
  const auto sees = [&](const Area& a, int i, int j) { return of(a, j) >= 0 && of(a, j) == of(a, i + a.offset); };
  expect_is(Document{bounds}, sees);
  std::vector<int> ids;
  for (int b = 0; b < kBatch; ++b) {
    for (int t = 0; t < kKeys; ++t) ids.push_back(of({&kShape, b}, t) < 0 ? -1 : 7 * of({&kShape, b}, t) + 3);
  }
  EXPECT_EQ(Document::from_ids(ids, kBatch).boundaries, bounds);
}

TEST(Masks, BlockSparse) {
  Generator g(5);
  for (const bool per_head : {false, true}) {
    const int rows = 10, columns = 15, block_queries = 16, block_keys = 14;
    std::vector<std::uint8_t> bits;
    for (int n = 0; n < (per_head ? kHeads : 1) * rows * columns; ++n) bits.push_back(g.uniform() < 0.3);
    const Shape shape = per_head ? Shape{kHeads, rows, columns} : Shape{rows, columns};
    expect_is(BlockSparse(bits.data(), shape, block_queries, block_keys), [&](const Area& a, int i, int j) {
      const int r = floor_of(i + a.offset, block_queries);
      return r >= 0 && r < rows && bits[std::size_t(((per_head ? a.head : 0) * rows + r) * columns + j / block_keys)];
    });
  }
}

TEST(Masks, BigBird) {
  // The random blocks are taken from the mask itself, one pair at a time, and must be what the paper asks for.
  const BigBird mask{.block = 10, .window = 1, .global_blocks = 2, .random_blocks = 3, .seed = 4};
  const auto asked = [&](const Area& a, int position, int j) {
    Area one = a;
    one.query = position, one.offset = 0, one.queries = 1, one.key = j, one.keys = 1;
    std::uint64_t row = 0;
    mask.visible(one, &row);
    return (row & 1) != 0;
  };
  std::vector<int> drawn(std::size_t(kKeys / 10));
  for (int head = 0; head < kHeads; ++head) {
    const Area a{&kShape, 0, head, head};
    for (int row = 2; row < 15; ++row) {
      int others = 0;
      for (int c = 2; c < kKeys / 10; ++c) {
        const bool on = asked(a, row * 10 + 3, c * 10);
        if (std::abs(row - c) <= 1) {
          EXPECT_TRUE(on);
        } else {
          others += on;
          drawn[std::size_t(c)] += on;
        }
        EXPECT_EQ(on, asked(a, row * 10, c * 10 + 9));
      }
      EXPECT_EQ(others, 3) << head << " " << row;
    }
  }
  for (int c = 2; c < kKeys / 10; ++c) EXPECT_GT(drawn[std::size_t(c)], 0) << c;  // of 39 draws of 3 of about 16
  expect_is(mask, [&](const Area& a, int i, int j) {
    const int p = i + a.offset, r = floor_of(p, 10), c = j / 10;
    return p >= 0 && (r < 2 || c < 2 || std::abs(r - c) <= 1 || asked(a, p, j));
  });
  // All that there are, and no more: 21 blocks less two global ones and three of the window.
  const BigBird all{.block = 10, .window = 1, .global_blocks = 2, .random_blocks = 40};
  const Area rest{&kShape, 0, 0, 0, 70, 10, 0, kKeys, 0};
  EXPECT_EQ(all.cover(rest), Cover::full);
}

TEST(Masks, BigBirdDrawsTheSameBlocksWhileACacheGrows) {
  const BigBird mask{.block = 4, .random_blocks = 2, .length = 300, .seed = 9};
  AttendShape small = kShape;
  small.num_keys = 100;
  for (int p = 0; p < 100; ++p) {
    const Area a{&kShape, 0, 1, 1, p, 1, 0, 100, 0}, b{&small, 0, 1, 1, 0, 1, 0, 100, p};
    std::vector<std::uint64_t> x(100), y(100);
    mask.visible(a, x.data());
    mask.visible(b, y.data());
    EXPECT_EQ(x, y) << p;
  }
}

TEST(Masks, Longformer) {
  const std::vector<int> global{0, 1, 77, 150};
  for (const auto& [window, dilation] : {std::pair{6, 1}, {5, 4}, {0, 1}}) {
    expect_is(
        Longformer{window, dilation, global},
        [&, w = window, d = dilation](const Area& a, int i, int j) {
          const int far = std::abs(j - i - a.offset);
          const auto is_global = [&](int t) { return std::find(global.begin(), global.end(), t) != global.end(); };
          return is_global(j) || is_global(i + a.offset) || (far % d == 0 && far <= w * d);
        },
        false);  // a window and a global token together may fill an area
  }
}

TEST(Masks, SparseTransformer) {
  for (const SparsePart part : {SparsePart::both, SparsePart::local, SparsePart::summary, SparsePart::by_head}) {
    const auto local = [=](const Area& a) {
      return part == SparsePart::both || part == SparsePart::local || (part == SparsePart::by_head && a.head % 2 == 0);
    };
    const auto summary = [=](const Area& a) {
      return part == SparsePart::both || part == SparsePart::summary ||
             (part == SparsePart::by_head && a.head % 2 == 1);
    };
    for (const int l : {9, 70}) {
      expect_is(
          SparseStrided{l, part},
          [=](const Area& a, int i, int j) {
            const int p = i + a.offset;
            return j <= p && ((local(a) && j >= p - l) || (summary(a) && (p - j) % l == 0));
          },
          false);
      for (const int c : {1, 4, 9}) {
        expect_is(
            SparseFixed{l, c, part},
            [=](const Area& a, int i, int j) {
              const int p = i + a.offset;
              return j <= p && ((local(a) && floor_of(j, l) == floor_of(p, l)) || (summary(a) && j % l >= l - c));
            },
            false);
      }
    }
  }
}

TEST(Masks, LocalM) {
  expect_is(LocalM{.half_width = 8}, [](const Area& a, int i, int j) { return std::abs(j - i - a.offset) <= 8; });
  expect_is(LocalM{.half_width = 4, .stretched = true},
            [](const Area&, int i, int j) { return std::abs(j - i * kKeys / kQueries) <= 4; });
}

TEST(Masks, RandomIsDropoutsBits) {
  expect_is(
      RandomMask{.keep = 0.3, .seed = 8},
      [](const Area& a, int i, int j) {
        const auto bits = dropout_bits(8, 0, std::uint32_t(a.head), std::uint32_t(i + a.offset), std::uint32_t(j));
        return bits < std::uint32_t(std::lround(0.3 * 65536));
      },
      false);
}

TEST(Masks, APredicateOfYourOwn) {
  expect_is(
      visible_if([](auto at) { return (at.query + 2 * at.key + at.head) % 5 < 2 && at.batch == 0; }),
      [](const Area& a, int i, int j) { return (i + a.offset + 2 * j + a.head) % 5 < 2 && a.batch == 0; }, false);
}

TEST(Masks, AndOrNot) {
  const auto near = [](const Area& a, int i, int j) { return std::abs(j - i - a.offset) <= 9; };
  const auto past = [](const Area& a, int i, int j) { return j <= i + a.offset; };
  const auto padded = [](const Area& a, int, int j) { return j < (a.batch ? 30 : 170); };
  const Window window{9, 9};
  const Padding padding{{170, 30}};
  expect_is(
      window | padding, [&](const Area& a, int i, int j) { return near(a, i, j) || padded(a, i, j); }, false);
  expect_is(!window, [&](const Area& a, int i, int j) { return !near(a, i, j); });
  expect_is((!(window & Causal{})) & padding,
            [&](const Area& a, int i, int j) { return !(near(a, i, j) && past(a, i, j)) && padded(a, i, j); }, false);
  expect_is(
      Causal{} & (padding | !AnyMask(window)),
      [&](const Area& a, int i, int j) { return past(a, i, j) && (padded(a, i, j) || !near(a, i, j)); }, false);
  // A missing mask hides nothing.
  EXPECT_FALSE(bool(AnyMask{} | window));
  EXPECT_EQ((AnyMask{} & window).name(), "window");
  EXPECT_EQ((!AnyMask{}).cover({&kShape, 0, 0, 0, 0, 5, 0, 5, 0}), Cover::none);
}

/// Counts the logits that a call computes: a bias that changes nothing.
struct Counts {
  std::shared_ptr<std::atomic<long>> logits = std::make_shared<std::atomic<long>>(0);
  template <class T>
  void apply(Tile<T>& x, Tile<T>*, Call<T>&) const {
    *logits += long(x.area.queries) * x.area.keys;
  }
  template <class T>
  void backward(const Tile<T>*, Tile<T>& dx, Call<T>&) const {
    *logits += long(dx.area.queries) * dx.area.keys;
  }
};

struct Visited {
  double forward, backward;  // logits computed by each pass, per visible pair
};
Visited visited(const AnyMask& mask, int tokens) {
  const AttendShape shape{1, 1, 1, tokens, tokens, 4, 4, 4};
  Generator g(3);
  std::vector<float> x(std::size_t(tokens) * 4), out(x.size()), lse(std::size_t(tokens), 0), dx(x.size(), 0);
  for (float& v : x) v = float(g.uniform(-1, 1));
  const Shape rows{1, 1, tokens, 4};
  const ConstView in(x.data(), rows);
  Counts counts;
  const AttendOptions options{.bias = AnyBias(counts), .mask = mask};
  attend_forward({in, in, in, {}}, {.out = View(out.data(), rows), .lse = View(lse.data(), {1, 1, tokens})}, options);
  const double forward = double(*counts.logits);
  *counts.logits = 0;
  const View d(dx.data(), rows);
  attend_backward({in, in, in, {}},
                  {.out = ConstView(out.data(), rows), .lse = ConstView(lse.data(), {1, 1, tokens}), .dout = in},
                  {d, d, d, {}}, options);
  // Applied once more in the backward, and then differentiated.
  const double backward = double(*counts.logits) / 2;
  double pairs = 0;
  for (int q = 0; q < tokens; q += kLanes) {
    const Area a{&shape, 0, 0, 0, q, std::min(kLanes, tokens - q), 0, tokens, 0};
    std::vector<std::uint64_t> bits(static_cast<std::size_t>(tokens));
    mask->visible(a, bits.data());
    const std::uint64_t all = ~std::uint64_t(0) >> (kLanes - a.queries);
    for (const std::uint64_t word : bits) pairs += double(std::popcount(word & all));
  }
  return {forward / pairs, backward / pairs};
}

/// Cost follows what is visible: only tiles at the rim are computed beyond it.
TEST(Masks, HiddenTilesAreNotVisited) {
  const int tokens = 2048;
  std::vector<std::uint8_t> blocks(32 * 32);
  for (int r = 0; r < 32; ++r) {
    for (int c = 0; c < 32; ++c) blocks[std::size_t(r * 32 + c)] = (r * 7 + c * 3) % 8 == 0;
  }
  const std::tuple<const char*, AnyMask, double> cases[] = {
      {"block sparse 128", BlockSparse(blocks.data(), {32, 32}, 128, 128), 1.0},
      {"block sparse 64", BlockSparse(blocks.data(), {32, 32}, 64, 64), 1.0},
      {"document", Document{{{0, 256, 832, 1024, 2048}}}, 1.0},
      {"big bird", BigBird{}, 1.1},
      {"longformer", Longformer{.half_window = 128, .global_tokens = {0}}, 1.5},
      {"prefix", PrefixLm{{512}}, 1.1},
      {"sparse fixed, local", SparseFixed{.part = SparsePart::local}, 1.5},
      {"local-m", LocalM{.half_width = 128}, 1.3},
      {"a lambda", visible_if([](auto at) { return at.query / 64 == at.key / 64; }), 1.0},
      {"or", Window{.left = 64, .right = 0} | Padding{{64}}, 1.7},
      {"not", !Causal{}, 1.1}};
  for (const auto& [name, mask, most] : cases) {
    const Visited v = visited(mask, name == std::string("block sparse 128") ? 2 * tokens : tokens);
    EXPECT_LE(v.forward, most) << name;
    EXPECT_LE(v.backward, most) << name;
    EXPECT_GE(v.forward, 0.999) << name;
  }
}

TEST(Masks, WhatIsWrongIsSaid) {
  const auto says = [](const AnyMask& m) { return message_of([&] { m->check(kShape); }); };
  EXPECT_EQ(says(Dilated{.dilation = 0}), "dilated: a dilation of 1 or more, got 0");
  EXPECT_EQ(says(PrefixLm{{1, 2, 3}}), "prefix_lm: one prefix, or one for each of 2 batch entries, got 3");
  EXPECT_EQ(says(Document{}), "document: boundaries once, or for each of 2 batch entries, got 0");
  EXPECT_EQ(says(Document{{{0, 5, 5}}}), "document: boundaries that rise, got others");
  const std::uint8_t one = 1;
  EXPECT_EQ(says(BlockSparse(&one, {1, 1})), "block_sparse: blocks for all 210 keys, got 1 of 64");
  EXPECT_EQ(says(BlockSparse(&one, {1, 1, 1}, 64, 256)), "block_sparse: one bitmap, or one for each of 3 heads, got 1");
  EXPECT_EQ(message_of([&] { BlockSparse(&one, {1}); }),
            "block_sparse: blocks [rows, columns] or [heads, rows, columns], got [1]");
  EXPECT_EQ(says(BigBird{.random_blocks = 65}), "big_bird: 0 to 64 random blocks, got 65");
  EXPECT_EQ(says(BigBird{.length = 50}), "big_bird: a length of 0 (the keys') or at least 210, got 50");
  EXPECT_EQ(says(Longformer{.global_tokens = {3, 3}}),
            "longformer: global tokens at positions of 0 or more that rise, got others");
  EXPECT_EQ(says(SparseFixed{.stride = 4, .summary = 5}), "sparse_fixed: a summary of 1 to 4 keys, got 5");
  EXPECT_EQ(says(LocalM{-1}), "local_m: a half_width of 0 or more, got -1");
  EXPECT_EQ(says(RandomMask{.keep = 0}), "random: keep above 0 and at most 1, got 0");
  EXPECT_EQ(says(VisibleIf{}), "visible_if: a predicate, got none");
  EXPECT_EQ(message_of([] {
              Document::from_ids(std::vector<int>{1, 2, 1});
            }),
            "document: the tokens of a document side by side, got id 1 in two places");
  EXPECT_EQ(message_of([] {
              Document::from_ids(std::vector<int>{1, -1, 2});
            }),
            "document: padding (negative ids) at both ends alone, got it at token 1 between documents");
}

}  // namespace
}  // namespace attune::masks_tests
