// A cache gives what arrays give: decoding and chunked prefill for every stored type against the float64 loop, the bits
// of the contiguous call, every option through the copy; and forks, truncation, the pool and its errors.
#include "attune/attention/kv_cache.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "attune/attention/attention.hpp"
#include "attune/base/parallel.hpp"
#include "attune/base/rng.hpp"
#include "kernels/reference.hpp"
#include "message_of.hpp"

namespace attune::kv_cache_tests {
namespace {

using attune::testing::message_of;

constexpr int kHeads = 6, kKeyHeads = 2, kWidth = 24, kValueWidth = 20;
constexpr CacheType kTypes[] = {CacheType::float32, CacheType::bfloat16, CacheType::float16, CacheType::int8};

std::vector<float> numbers(std::int64_t n, std::uint64_t seed) {
  Generator g(seed);
  std::vector<float> v(static_cast<std::size_t>(n));
  for (float& x : v) x = float(g.uniform(-1, 1));
  return v;
}

/// Keys and values of one sequence, [1, Hkv, T, D] and [1, Hkv, T, Dv].
struct Tokens {
  int count;
  std::vector<float> key, value;
  Tokens(int n, std::uint64_t seed)
      : count(n),
        key(numbers(std::int64_t(kKeyHeads) * n * kWidth, seed)),
        value(numbers(std::int64_t(kKeyHeads) * n * kValueWidth, seed + 1)) {}
  /// Tokens from .. to - 1 as views into the whole.
  ConstView keys(int from, int to) const { return part(key, kWidth, from, to); }
  ConstView values(int from, int to) const { return part(value, kValueWidth, from, to); }
  void append_to(KvCache& cache, int sequence, int from, int to) const {
    cache.append({sequence}, keys(from, to), values(from, to));
  }

 private:
  ConstView part(const std::vector<float>& v, int dim, int from, int to) const {
    return {v.data() + from * dim, DType::float32, Shape{1, kKeyHeads, to - from, dim},
            Strides{std::int64_t(v.size()), std::int64_t(count) * dim, dim, 1}};
  }
};

KvCacheOptions options(CacheType type, int block_tokens = 16) {
  return {.num_kv_heads = kKeyHeads,
          .head_dim = kWidth,
          .value_dim = kValueWidth,
          .block_tokens = block_tokens,
          .type = type};
}

struct Result {
  std::vector<float> out, lse;
  Result(int batch, int queries)
      : out(std::size_t(batch * kHeads * queries * kValueWidth), 7.f),
        lse(std::size_t(batch * kHeads * queries), 7.f) {}
  AttendOutputs outputs(int batch, int queries) {
    return {.out = View(out.data(), {batch, kHeads, queries, kValueWidth}),
            .lse = View(lse.data(), {batch, kHeads, queries})};
  }
};

/// What the cache holds of a sequence, as numbers.
struct Held {
  std::vector<float> key, value;
  Held(const KvCache& cache, int sequence) {
    const std::int64_t n = cache.length(sequence);
    key.resize(std::size_t(kKeyHeads * n * kWidth));
    value.resize(std::size_t(kKeyHeads * n * kValueWidth));
    cache.read(sequence, 0, View(key.data(), {kKeyHeads, n, kWidth}), View(value.data(), {kKeyHeads, n, kValueWidth}));
  }
};

/// Sequences of these lengths, appended in chunks.
struct Filled {
  KvCache cache;
  std::vector<int> ids;
  std::vector<Tokens> tokens;
  Filled(const KvCacheOptions& o, std::vector<int> lengths) : cache(o) {
    for (int n : lengths) {
      tokens.emplace_back(n, 10 * tokens.size() + 5);
      ids.push_back(cache.add());
    }
    for (int from = 0; from < *std::max_element(lengths.begin(), lengths.end());
         from += 7) {  // in turns, so that blocks lie mixed
      for (std::size_t i = 0; i < ids.size(); ++i) {
        const int to = std::min(from + 7, lengths[i]);
        if (from < to) tokens[i].append_to(cache, ids[i], from, to);
      }
    }
  }
};

void expect_matches_reference(const Filled& f, int queries, int left) {
  const int batch = int(f.ids.size());
  const std::vector<float> query = numbers(std::int64_t(batch) * kHeads * queries * kWidth, 99);
  Result got(batch, queries);
  AttendOptions o;
  if (left >= 0) o.mask = Window{.left = left};
  attend_forward(ConstView(query.data(), {batch, kHeads, queries, kWidth}), f.cache, f.ids, got.outputs(batch, queries),
                 o);
  const std::size_t rows = std::size_t(kHeads * queries);
  for (int b = 0; b < batch; ++b) {
    const Held held(f.cache, f.ids[std::size_t(b)]);
    const int length = int(f.cache.length(f.ids[std::size_t(b)])), past = length - queries;
    kernels::ReferenceProblem p;
    p.shape = {1, kHeads, kKeyHeads, queries, length, kWidth, kWidth, kValueWidth};
    p.visible = [=](int, int, int i, int j) { return j <= i + past && (left < 0 || j >= i + past - left); };
    const auto first = query.begin() + std::ptrdiff_t(std::size_t(b) * rows * kWidth);
    const auto want = kernels::reference_forward(p, {std::vector<double>(first, first + std::ptrdiff_t(rows * kWidth)),
                                                     std::vector<double>(held.key.begin(), held.key.end()),
                                                     std::vector<double>(held.value.begin(), held.value.end())});
    double largest = 0, size = 0, error = 0, lse_error = 0, lse_size = 0;
    for (double x : want.scores) largest = std::max(largest, std::abs(x));
    for (std::size_t i = 0; i < want.out.size(); ++i) {
      size = std::max(size, std::abs(want.out[i]));
      error = std::max(error, std::abs(want.out[i] - double(got.out[std::size_t(b) * want.out.size() + i])));
    }
    for (std::size_t i = 0; i < rows; ++i) {
      const double lse = got.lse[std::size_t(b) * rows + i];
      if (lse == want.stat[i]) continue;  // -infinity
      lse_size = std::max(lse_size, std::abs(want.stat[i]));
      lse_error = std::max(lse_error, std::abs(want.stat[i] - lse));
    }
    EXPECT_LE(error, 2e-6 * (1 + largest / 8) * size) << "sequence " << b;
    EXPECT_LE(lse_error, 2e-6 * (1 + largest / 8) * (1 + lse_size)) << "sequence " << b;
  }
}

TEST(KvCache, MatchesTheReferenceForEveryTypeDecodingAndPrefill) {
  for (CacheType type : kTypes) {
    for (int block : {16, 48}) {
      const Filled f(options(type, block), {1, 37, 130, 64, 2});
      for (int queries : {1, 2, 5, 40}) {  // 5 and 40: over the copy; more queries than tokens: rows that see no key
        for (int left : {-1, 20}) {
          SCOPED_TRACE(std::string(name_of(type)) + ", blocks of " + std::to_string(block) + ", " +
                       std::to_string(queries) + " queries, window " + std::to_string(left));
          expect_matches_reference(f, queries, left);
        }
      }
    }
  }
}

TEST(KvCache, DecodingHasTheBitsOfTheContiguousCall) {
  for (int length : {5, 64, 1500}) {
    const Filled f(options(CacheType::float32), {length, 33});
    const Tokens& t = f.tokens[0];
    const std::vector<float> query = numbers(kHeads * 2 * kWidth, 3);
    const ConstView q(query.data(), {1, kHeads, 2, kWidth});
    Result cached(1, 2), whole(1, 2);
    attend_forward(q, f.cache, {f.ids[0]}, cached.outputs(1, 2));
    attend_forward({q, t.keys(0, length), t.values(0, length), {}}, whole.outputs(1, 2),
                   {.mask = Causal{}, .alignment = Alignment::bottom_right});
    EXPECT_EQ(cached.out, whole.out) << length;
    EXPECT_EQ(cached.lse, whole.lse) << length;
  }
}

TEST(KvCache, EqualBitsForAnyNumberOfThreads) {
  const Filled f(options(CacheType::int8), {2500, 700});
  const std::vector<float> query = numbers(2 * kHeads * kWidth, 3);
  const int before = num_threads();
  std::vector<float> first;
  for (int threads : {1, 2, 5}) {
    set_num_threads(threads);
    Result r(2, 1);
    attend_forward(ConstView(query.data(), {2, kHeads, 1, kWidth}), f.cache, f.ids, r.outputs(2, 1));
    if (first.empty()) first = r.out;
    EXPECT_EQ(first, r.out) << threads << " threads";
  }
  set_num_threads(before);
}

// Options that no decoding kernel knows go over a copy: each sequence gets what a call of its own gets.
TEST(KvCache, EveryOptionWorks) {
  const std::vector<int> lengths{50, 21};
  const Filled f(options(CacheType::float32), lengths);
  const std::vector<float> sink = numbers(kHeads, 8), table = numbers(12 * kWidth, 9);
  struct Variant {
    AttendOptions options;
    std::vector<ConstView> parameters;
  };
  const std::vector<Variant> variants = {
      {{.bias = SoftCap{.cap = 2}}, {}},
      {{.bias = Alibi{}}, {}},
      {{.position = Rotary{}}, {}},
      {{.position = Rotary{.scaling = RotaryScaling::yarn, .factor = 4, .original_length = 16}}, {}},
      {{.position = Rotary2d{.grid_width = 7, .prefix_tokens = 1}}, {}},
      {{.position = XPos{.scale_base = 64}}, {}},
      {{.position = Sinusoidal2d{.grid_width = 6}}, {}},
      {{.position = LearnedGrid{3, 4, 8, 7}}, {ConstView(table.data(), {12, kWidth})}},
      {{.mask = Document{{{0, 19, 50}}}}, {}},
      {{.mask = Longformer{.half_window = 3, .global_tokens = {0, 20}}}, {}},
      {{.mask = BigBird{.block = 3, .length = 50}}, {}},
      {{.mask = SparseFixed{.stride = 5, .summary = 1}}, {}},
      {{.mask = RandomMask{.keep = 0.7}}, {}},
      {{.normalizer = SoftmaxWithSink{}}, {ConstView(sink.data(), {kHeads})}}};
  for (std::size_t v = 0; v < variants.size(); ++v) {
    for (int queries : {1, 6}) {
      const std::vector<float> query = numbers(std::int64_t(2) * kHeads * queries * kWidth, 4);
      Result got(2, queries);
      Statistics statistics;
      AttendOutputs outputs = got.outputs(2, queries);
      outputs.statistics = &statistics;
      attend_forward(ConstView(query.data(), {2, kHeads, queries, kWidth}), f.cache, f.ids, outputs,
                     variants[v].options, variants[v].parameters);
      EXPECT_EQ(statistics.rows.size(), std::size_t(2 * kHeads));
      for (std::size_t b = 0; b < 2; ++b) {
        const Tokens& t = f.tokens[b];
        Result want(1, queries);
        AttendOptions o = variants[v].options;
        o.mask = Causal{} & o.mask;
        o.alignment = Alignment::bottom_right;
        attend_forward({ConstView(query.data() + b * query.size() / 2, {1, kHeads, queries, kWidth}),
                        t.keys(0, t.count), t.values(0, t.count), variants[v].parameters},
                       want.outputs(1, queries), o);
        for (std::size_t i = 0; i < want.out.size(); ++i)
          ASSERT_NEAR(want.out[i], got.out[b * want.out.size() + i], 2e-6) << "variant " << v << ", " << queries;
      }
    }
  }
}

TEST(KvCache, HalfQueriesAndResults) {
  const Filled f(options(CacheType::bfloat16), {40, 90});
  for (int queries : {1, 9}) {
    const std::vector<float> query = numbers(std::int64_t(2) * kHeads * queries * kWidth, 4);
    std::vector<BFloat16> half(query.size()), out(std::size_t(2 * kHeads * queries * kValueWidth));
    std::vector<float> rounded(query.size());
    for (std::size_t i = 0; i < query.size(); ++i) half[i] = BFloat16(query[i]), rounded[i] = float(half[i]);
    Result want(2, queries);
    attend_forward(ConstView(rounded.data(), {2, kHeads, queries, kWidth}), f.cache, f.ids, want.outputs(2, queries));
    attend_forward(ConstView(half.data(), {2, kHeads, queries, kWidth}), f.cache, f.ids,
                   {.out = View(out.data(), {2, kHeads, queries, kValueWidth})});
    for (std::size_t i = 0; i < out.size(); ++i) ASSERT_EQ(float(out[i]), float(BFloat16(want.out[i]))) << i;
  }
}

TEST(KvCache, Int8IsWithinHalfAScale) {
  Tokens t(30, 1);
  for (int i = 0; i < kWidth; ++i) t.key[std::size_t(i)] = 0;  // a row of zeros stays one
  KvCache cache(options(CacheType::int8));
  const int id = cache.add();
  t.append_to(cache, id, 0, 30);
  const Held held(cache, id);
  for (std::size_t row = 0; row < std::size_t(kKeyHeads * 30); ++row) {
    float largest = 0;
    for (int d = 0; d < kWidth; ++d) largest = std::max(largest, std::abs(t.key[row * kWidth + std::size_t(d)]));
    for (int d = 0; d < kWidth; ++d) {
      const std::size_t i = row * kWidth + std::size_t(d);
      ASSERT_LE(std::abs(t.key[i] - held.key[i]), largest / 127 * 0.5001f);
    }
  }
  t.value[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(message_of([&] { t.append_to(cache, id, 0, 30); }),
            "KvCache::append: finite numbers where int8 is stored, got NaN or infinity");
  EXPECT_EQ(cache.length(id), 30);
}

TEST(KvCache, ForksShareUntilOneWrites) {
  KvCache cache(options(CacheType::float32));
  const Tokens t(40, 1), other(40, 50);
  const int a = cache.add();
  t.append_to(cache, a, 0, 20);  // a whole block and four tokens
  const int b = cache.fork(a);
  EXPECT_EQ(cache.blocks_in_use(), 2);
  other.append_to(cache, b, 20, 25);
  EXPECT_EQ(cache.blocks_in_use(), 3) << "the full block is shared still";
  t.append_to(cache, a, 20, 40);
  EXPECT_EQ(cache.blocks_in_use(), 4);
  const Held of_a(cache, a), of_b(cache, b);
  EXPECT_EQ(of_a.key, t.key);
  for (int i = 0; i < 25 * kWidth; ++i)
    ASSERT_EQ(of_b.key[std::size_t(i)], (i < 20 * kWidth ? t : other).key[std::size_t(i)]) << i;
  cache.remove(a);
  EXPECT_EQ(cache.blocks_in_use(), 2);
  EXPECT_EQ(Held(cache, b).value, of_b.value);
  cache.remove(b);
  EXPECT_EQ(cache.blocks_in_use(), 0);
  EXPECT_EQ(cache.num_sequences(), 0);
}

TEST(KvCache, TruncatedTokensAreReplaced) {
  KvCache cache(options(CacheType::float32));
  const Tokens t(40, 1), wrong(40, 50);
  const int a = cache.add();
  t.append_to(cache, a, 0, 18);
  const int b = cache.fork(a);
  wrong.append_to(cache, a, 18, 40);
  cache.truncate(a, 18);
  EXPECT_EQ(cache.blocks_in_use(), 3);
  cache.truncate(a, 17);
  t.append_to(cache, a, 17, 40);
  EXPECT_EQ(Held(cache, a).key, t.key);
  cache.truncate(b, 0);
  EXPECT_EQ(cache.length(b), 0);
  EXPECT_EQ(Held(cache, a).value, t.value);
}

/// Positions that the cache applies to keys as they come against the same ones applied to all keys in every call.
TEST(KvCache, KeepsKeysThatHaveTheirPosition) {
  const AnyPosition positions[] = {Rotary{}, Rotary{.rotary_dim = 8, .interleaved = true}, Sinusoidal{},
                                   XPos{.scale_base = 40},
                                   Rotary{.scaling = RotaryScaling::llama3, .factor = 4, .original_length = 16}};
  for (const AnyPosition& position : positions) {
    KvCacheOptions with = options(CacheType::float32);
    with.position = position;
    const Filled kept(with, {40, 23}), raw(options(CacheType::float32), {40, 23});
    for (const int queries : {1, 30}) {  // decoding; over a copy, some queries before the first token
      const std::vector<float> query = numbers(std::int64_t(2) * kHeads * queries * kWidth, 98);
      const ConstView view(query.data(), {2, kHeads, queries, kWidth});
      Result got(2, queries), want(2, queries);
      attend_forward(view, kept.cache, kept.ids, got.outputs(2, queries));
      attend_forward(view, raw.cache, raw.ids, want.outputs(2, queries), {.position = position});
      for (std::size_t i = 0; i < want.out.size(); ++i) EXPECT_NEAR(got.out[i], want.out[i], 2e-6) << position.name();
      for (std::size_t i = 0; i < want.lse.size(); ++i) {
        if (got.lse[i] == want.lse[i]) continue;  // -infinity
        EXPECT_NEAR(got.lse[i], want.lse[i], 5e-6) << position.name();
      }
    }
  }
}

TEST(KvCache, ItsPositionServesHalfQueriesAndStoredInt8) {
  for (const CacheType type : {CacheType::bfloat16, CacheType::int8}) {
    KvCacheOptions with = options(type);
    with.position = Rotary{};
    const Filled kept(with, {33});
    const Filled exact(
        [&] {
          KvCacheOptions o = with;
          o.type = CacheType::float32;
          return o;
        }(),
        {33});
    const std::vector<float> query = numbers(std::int64_t(kHeads) * kWidth, 97);
    std::vector<std::uint16_t> half(query.size()), out(std::size_t(kHeads) * kValueWidth);
    convert(DType::float32, query.data(), DType::bfloat16, half.data(), std::int64_t(half.size()));
    attend_forward(ConstView(half.data(), DType::bfloat16, {1, kHeads, 1, kWidth}), kept.cache, kept.ids,
                   {.out = View(out.data(), DType::bfloat16, {1, kHeads, 1, kValueWidth})});
    Result want(1, 1);
    attend_forward(ConstView(query.data(), {1, kHeads, 1, kWidth}), exact.cache, exact.ids, want.outputs(1, 1));
    std::vector<float> got(out.size());
    convert(DType::bfloat16, out.data(), DType::float32, got.data(), std::int64_t(out.size()));
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want.out[i], 0.02);
  }
}

TEST(KvCache, SaysWhichPositionsItCannotKeep) {
  const auto with = [](AnyPosition position) {
    KvCacheOptions o = options(CacheType::float32);
    o.position = std::move(position);
    return o;
  };
  EXPECT_EQ(message_of([&] {
              KvCache cache(with(Rotary{.scaling = RotaryScaling::dynamic, .factor = 2, .original_length = 8}));
            }),
            "KvCache: a position that stays what it is when tokens come, got rotary with scaling dynamic");
  EXPECT_EQ(message_of([&] { KvCache cache(with(Learned{.num_positions = 64})); }),
            "KvCache: a position without learned arrays, got learned");
  EXPECT_THROW(KvCache(with(Rotary{.rotary_dim = 7})), Error);
  const Filled f(with(Rotary{}), {5});
  const std::vector<float> query = numbers(std::int64_t(kHeads) * kWidth, 96);
  Result r(1, 1);
  EXPECT_EQ(message_of([&] {
              attend_forward(ConstView(query.data(), {1, kHeads, 1, kWidth}), f.cache, f.ids, r.outputs(1, 1),
                             {.position = Rotary{}});
            }),
            "attend_forward over a cache: no position beside the cache's own, rotary, got rotary");
}

TEST(KvCache, CountsItsBytes) {
  KvCache cache(options(CacheType::int8, 32));
  EXPECT_EQ(cache.bytes(), 0);
  // 2 heads of 32 tokens: keys 1536 bytes, values 1280, two scales a token and head 512.
  EXPECT_EQ(cache.block_bytes(), 1536 + 1280 + 512);
  const int id = cache.add();
  Tokens(33, 1).append_to(cache, id, 0, 33);
  EXPECT_EQ(cache.bytes_in_use(), 2 * cache.block_bytes());
  const std::int64_t taken = cache.bytes();
  EXPECT_GE(taken, cache.bytes_in_use());
  cache.remove(id);
  EXPECT_EQ(cache.bytes_in_use(), 0);
  EXPECT_EQ(cache.bytes(), taken) << "the pool keeps its memory";
}

TEST(KvCache, SaysWhatIsWrong) {
  KvCacheOptions o = options(CacheType::float32);
  o.max_blocks = 3;
  KvCache cache(o);
  const Tokens t(64, 1);
  const int a = cache.add();
  t.append_to(cache, a, 0, 40);
  EXPECT_EQ(message_of([&] { t.append_to(cache, a, 0, 10); }), "KvCache::append: 1 free blocks, 3 of 3 are in use");
  EXPECT_EQ(cache.length(a), 40);
  t.append_to(cache, a, 40, 48);
  EXPECT_EQ(message_of([&] { cache.truncate(a, 49); }), "KvCache::truncate: 0 to 48 tokens, got 49");
  EXPECT_EQ(message_of([&] { cache.length(7); }),
            "KvCache::length: the number of a sequence that add() or fork() made, got 7");
  EXPECT_EQ(message_of([&] {
              cache.append({a, a}, ConstView(t.key.data(), {2, kKeyHeads, 0, kWidth}),
                           ConstView(t.value.data(), {2, kKeyHeads, 0, kValueWidth}));
            }),
            "KvCache::append: sequences that differ, got 0 twice");
  cache.remove(a);
  EXPECT_EQ(message_of([&] { cache.fork(a); }),
            "KvCache::fork: the number of a sequence that add() or fork() made, got 0");
  const int b = cache.add();
  const std::vector<float> query = numbers(kHeads * kWidth, 1);
  Result r(1, 1);
  const auto attend = [&](const AttendOptions& with, int heads = kHeads) {
    return message_of([&] {
      attend_forward(ConstView(query.data(), {1, heads, 1, kWidth}), cache, {b}, r.outputs(1, 1), with);
    });
  };
  EXPECT_EQ(attend({}, 5), "attend_forward over a cache: query [1, a multiple of 2, tokens, 24], got [1, 5, 1, 24]");
  EXPECT_EQ(attend({.dropout_p = 0.5}), "attend_forward over a cache: no dropout, got 0.5");
  EXPECT_EQ(attend({.offset = {3}}),
            "attend_forward over a cache: positions that follow from the lengths of the sequences, got an offset or an "
            "alignment");
  EXPECT_EQ(attend({}), "no error");  // an empty sequence
  EXPECT_EQ(r.out, std::vector<float>(r.out.size(), 0.f));
  EXPECT_EQ(r.lse, std::vector<float>(r.lse.size(), -std::numeric_limits<float>::infinity()));
  EXPECT_EQ(message_of([] { KvCache({.head_dim = 8, .block_tokens = 20}); }),
            "KvCache: blocks of 16 to 256 tokens, a multiple of 16, got 20");
}

}  // namespace
}  // namespace attune::kv_cache_tests
