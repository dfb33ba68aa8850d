// The decoding kernel against the float64 loop: every stored type, rows with ranges of their own, blocks in any order,
// widths that fill no vector, ranges in parts, NaN in what no row sees.
#include "kernels/decode.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "attune/base/dtype.hpp"
#include "kernels/compare.hpp"

namespace attune::kernels::decode_tests {
namespace {

struct Case {
  Stored stored = Stored::float32;
  int rows = 1, keys = 1, head_dim = 8, value_dim = 8;
  int block_tokens = 0;  // 0: one array
  int ragged = 0;        // row r sees keys from r * ragged / 2 on, and none of the last (rows - 1 - r) * ragged
  double size = 1;       // of the numbers in queries and keys
  std::string text() const {
    return "stored " + std::to_string(int(stored)) + ", " + std::to_string(rows) + " x " + std::to_string(keys) +
           ", D " + std::to_string(head_dim) + ", " + std::to_string(value_dim) + ", blocks of " +
           std::to_string(block_tokens) + ", ragged " + std::to_string(ragged);
  }
};

std::ptrdiff_t bytes_of(Stored s) {
  return s == Stored::float64 ? 8 : s == Stored::float32 ? 4 : s == Stored::int8 ? 1 : 2;
}

/// Keys and values in blocks that lie in falling order with a gap of NaN after each, and the numbers they stand for.
template <class T>
struct Memory {
  Case c;
  std::vector<std::vector<std::byte>> keys, values;  // a block each: rows, then int8's scales
  std::vector<const std::byte*> key_blocks, value_blocks;
  std::vector<double> key, value;  // [keys][dim] as stored
  DecodeRows rows;

  explicit Memory(const Case& chosen) : c(chosen) {
    const int tokens = c.block_tokens > 0 ? c.block_tokens : c.keys, blocks = (c.keys + tokens - 1) / tokens;
    key = fill(keys, key_blocks, c.head_dim, tokens, blocks, 2, c.size);
    value = fill(values, value_blocks, c.value_dim, tokens, blocks, 3, 1);
    rows.keys = key_blocks.data(), rows.values = value_blocks.data();
    rows.key_stride = c.head_dim * bytes_of(c.stored), rows.value_stride = c.value_dim * bytes_of(c.stored);
    rows.key_scales = (tokens * rows.key_stride + 63) / 64 * 64;
    rows.value_scales = (tokens * rows.value_stride + 63) / 64 * 64;
    rows.block_tokens = tokens;
    rows.stored = c.stored;
  }
  std::vector<double> fill(std::vector<std::vector<std::byte>>& memory, std::vector<const std::byte*>& place, int dim,
                           int tokens, int blocks, std::uint64_t seed, double size) {
    const std::ptrdiff_t bytes = bytes_of(c.stored), scales = (tokens * dim * bytes + 63) / 64 * 64;
    memory.assign(std::size_t(blocks), std::vector<std::byte>(std::size_t(scales + tokens * 4), std::byte(0xff)));
    std::vector<double> numbers = random_numbers<double>(std::int64_t(c.keys) * dim, seed, -size, size);
    for (int j = 0; j < c.keys; ++j) {
      std::byte* block = memory[std::size_t(j / tokens)].data();
      double* row = &numbers[std::size_t(j * dim)];
      const float scale = float(1 + j % 5) / 127;
      for (int d = 0; d < dim; ++d) put(block + (j % tokens * dim + d) * bytes, row[d], scale);
      std::memcpy(block + scales + j % tokens * 4, &scale, 4);
    }
    for (const auto& block : memory) place.push_back(block.data());
    return numbers;
  }
  /// Stores x and makes it what was stored.
  void put(std::byte* to, double& x, float scale) const {
    const auto keep = [&](auto number, double stands_for) {
      std::memcpy(to, &number, sizeof(number));
      x = stands_for;
    };
    switch (c.stored) {
      case Stored::float32:
        return keep(float(x), double(float(x)));
      case Stored::float64:
        return keep(x, x);
      case Stored::bfloat16:
        return keep(BFloat16(float(x)), double(float(BFloat16(float(x)))));
      case Stored::float16:
        return keep(Float16(float(x)), double(float(Float16(float(x)))));
      case Stored::int8: {
        const auto n = std::int8_t(std::clamp(std::nearbyint(x / double(scale)), -127.0, 127.0));
        return keep(n, double(n) * double(scale));
      }
    }
  }
  int first(int row) const { return row * c.ragged / 2; }
  int last(int row) const { return c.keys - (c.rows - 1 - row) * c.ragged; }
};

template <class T>
struct Result {
  std::vector<T> out, lse;
};

/// Over the parts that end at `cuts`, joined.
template <class T>
Result<T> run(const Memory<T>& m, const std::vector<double>& query, std::vector<std::int64_t> cuts,
              bool half_queries = false) {
  const Case& c = m.c;
  const std::size_t rows = std::size_t(c.rows), padded = std::size_t(decode_padded(c.value_dim));
  const T nan = std::numeric_limits<T>::quiet_NaN();
  std::vector<T> q(rows * std::size_t(c.head_dim)), sums(cuts.size() * rows * padded, nan), spare(padded, nan);
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = T(query[i] * 1.4426950408889634);
  std::vector<DecodeRow<T>> found(cuts.size() * rows);
  std::int64_t begin = 0;
  for (std::size_t p = 0; p < cuts.size(); ++p) {
    for (std::size_t r = 0; r < rows; ++r) {
      found[p * rows + r] = {.query = q.data() + r * std::size_t(c.head_dim),
                             .out = sums.data() + (p * rows + r) * padded,
                             .begin = m.first(int(r)),
                             .end = m.last(int(r))};
    }
    Decode<T> part{m.rows, c.head_dim, c.value_dim, begin, cuts[p], found.data() + p * rows, c.rows, spare.data()};
    part.half_queries = half_queries;
    if (p + 1 < cuts.size()) part.next = m.rows, part.next_begin = cuts[p], part.next_end = cuts[p + 1];
    decode(part);
    begin = cuts[p];
  }
  Result<T> result{std::vector<T>(rows * std::size_t(c.value_dim)), std::vector<T>(rows)};
  for (std::size_t r = 0; r < rows; ++r) {
    std::vector<const DecodeRow<T>*> parts;
    for (std::size_t p = 0; p < cuts.size(); ++p) parts.push_back(&found[p * rows + r]);
    result.lse[r] =
        merge_decoded(parts.data(), int(parts.size()), c.value_dim, result.out.data() + r * std::size_t(c.value_dim));
  }
  return result;
}

template <class T>
void check(const Case& c, bool half_queries = false) {
  SCOPED_TRACE(c.text());
  const Memory<T> m(c);
  std::vector<double> query = random_numbers<double>(std::int64_t(c.rows) * c.head_dim, 1, -c.size, c.size);
  for (double& x : query) x = double(T(x));
  std::vector<double> out(std::size_t(c.rows * c.value_dim), 0.0), lse(std::size_t(c.rows), 0.0);
  double largest = 0;
  for (int r = 0; r < c.rows; ++r) {
    std::vector<double> x;
    for (int j = m.first(r); j < m.last(r); ++j) {
      double dot = 0;
      for (int d = 0; d < c.head_dim; ++d)
        dot += query[std::size_t(r * c.head_dim + d)] * m.key[std::size_t(j * c.head_dim + d)];
      x.push_back(dot);
      largest = std::max(largest, std::abs(dot));
    }
    const double top = x.empty() ? 0 : *std::max_element(x.begin(), x.end());
    double sum = 0;
    for (double& e : x) sum += e = std::exp(e - top);
    lse[std::size_t(r)] = x.empty() ? -std::numeric_limits<double>::infinity() : top + std::log(sum);
    for (std::size_t j = 0; j < x.size(); ++j) {
      for (int d = 0; d < c.value_dim; ++d)
        out[std::size_t(r * c.value_dim + d)] +=
            x[j] / sum * m.value[(std::size_t(m.first(r)) + j) * std::size_t(c.value_dim) + std::size_t(d)];
    }
  }
  // Half queries: a twentieth of what their own rounding does.
  const double bound = sizeof(T) == 8 ? 1e-13 * (1 + largest) : (half_queries ? 2e-4 : 2e-6) * (1 + largest / 8);
  const auto compare = [&](const std::vector<T>& got, const std::vector<double>& want, const char* what) {
    double error = 0, size = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
      if (double(got[i]) == want[i]) continue;  // infinities
      ASSERT_TRUE(std::isfinite(got[i])) << what << " at " << i;
      error = std::max(error, std::abs(double(got[i]) - want[i]));
      size = std::max(size, std::abs(want[i]));
    }
    EXPECT_LE(error, bound * size) << what;
  };
  for (const std::vector<std::int64_t>& cuts :
       {std::vector<std::int64_t>{c.keys}, {c.keys / 3, c.keys / 3, c.keys}, {1, std::max(1, c.keys / 2), c.keys}}) {
    const Result<T> got = run(m, query, cuts, half_queries);
    compare(got.out, out, "out");
    compare(got.lse, lse, "lse");
  }
}

const std::vector<Case> kCases = {
    {.rows = 1, .keys = 1, .head_dim = 1, .value_dim = 1},
    {.rows = 1, .keys = 300, .head_dim = 128, .value_dim = 128, .block_tokens = 64},
    {.rows = 4, .keys = 517, .head_dim = 128, .value_dim = 64, .block_tokens = 16},
    {.rows = 3, .keys = 64, .head_dim = 20, .value_dim = 37},
    {.rows = 7, .keys = 333, .head_dim = 37, .value_dim = 20, .block_tokens = 48, .ragged = 3},
    {.rows = 9, .keys = 700, .head_dim = 64, .value_dim = 80, .block_tokens = 256, .ragged = 11},
    {.rows = 2, .keys = 15, .head_dim = 16, .value_dim = 16, .ragged = 15},  // row 0 sees no key
    {.rows = 5, .keys = 40, .head_dim = 16, .value_dim = 33, .block_tokens = 16, .ragged = 9, .size = 6},
    {.rows = 4, .keys = 150, .head_dim = 256, .value_dim = 200, .block_tokens = 32},
    {.rows = 4, .keys = 70, .head_dim = 272, .value_dim = 130, .size = 0.3},
};

TEST(Decode, MatchesTheLoopInFloat64ForEveryStoredType) {
  for (Case c : kCases) {
    for (Stored stored : {Stored::float32, Stored::bfloat16, Stored::float16, Stored::int8}) {
      c.stored = stored;
      check<float>(c);
    }
    c.stored = Stored::float64;
    check<double>(c);
  }
}

TEST(Decode, QueriesOfHalfTypesMayBeCutShorter) {
  for (Case c : kCases) {
    c.stored = Stored::int8;
    check<float>(c, true);
  }
}

// Numbers far apart in size, in the query and in the scales: what is cut off is relative to the largest.
TEST(Decode, Int8WithNumbersFarApart) {
  const Case c{.stored = Stored::int8, .rows = 4, .keys = 200, .head_dim = 64, .value_dim = 64};
  Memory<float> m(c);
  std::vector<double> query = random_numbers<double>(c.rows * c.head_dim, 1);
  for (int d = 0; d < c.head_dim; ++d) query[std::size_t(d)] *= std::pow(10.0, -d % 7);  // row 0
  for (int d = 0; d < c.head_dim; ++d) query[std::size_t(c.head_dim + d)] = 0;           // row 1: every key alike
  for (int d = 0; d < c.head_dim; ++d) query[std::size_t(2 * c.head_dim + d)] *= 1e-20;
  const float huge = 1e30f;
  std::memcpy(m.values[0].data() + m.rows.value_scales + 7 * 4, &huge, 4);
  const Result<float> got = run(m, query, {c.keys});
  double sum[4] = {}, top[4] = {};
  std::vector<std::vector<double>> weight(4);
  for (std::size_t r = 0; r < 4; ++r) {
    for (int j = 0; j < c.keys; ++j) {
      double dot = 0;
      for (int d = 0; d < c.head_dim; ++d)
        dot += double(float(query[r * 64 + std::size_t(d)])) * m.key[std::size_t(j * c.head_dim + d)];
      weight[r].push_back(dot);
    }
    top[r] = *std::max_element(weight[r].begin(), weight[r].end());
    for (double& w : weight[r]) sum[r] += w = std::exp(w - top[r]);
    EXPECT_NEAR(got.lse[r], top[r] + std::log(sum[r]), 5e-6 * (1 + std::abs(top[r])));
    for (std::size_t d = 0; d < 64; ++d) {  // one value outweighs all others
      const double want = weight[r][7] / sum[r] * m.value[7 * 64 + d] / (double(1 + 7 % 5) / 127) * double(huge);
      EXPECT_NEAR(got.out[r * 64 + d], want, 1e-5 * weight[r][7] / sum[r] * 127 * double(huge)) << r << ", " << d;
    }
  }
}

TEST(Decode, BlocksGiveTheBitsOfOneArray) {
  for (Stored stored : {Stored::float32, Stored::bfloat16, Stored::int8}) {
    Case c{.stored = stored, .rows = 6, .keys = 701, .head_dim = 48, .value_dim = 48, .ragged = 5};
    const std::vector<double> query = random_numbers<double>(c.rows * c.head_dim, 1);
    const Result<float> whole = run(Memory<float>(c), query, {c.keys});
    for (int tokens : {16, 48, 256}) {
      c.block_tokens = tokens;
      const Result<float> blocks = run(Memory<float>(c), query, {c.keys});
      EXPECT_EQ(whole.out, blocks.out) << tokens;
      EXPECT_EQ(whole.lse, blocks.lse) << tokens;
    }
  }
}

// Row 0 sees the first keys only; keys, values and even a whole query of NaN and infinity change none of its bits.
TEST(Decode, WhatARowDoesNotSeeChangesNoBitOfIt) {
  const Case c{.rows = 4, .keys = 100, .head_dim = 24, .value_dim = 24, .ragged = 20};
  Memory<float> m(c);
  std::vector<double> query = random_numbers<double>(c.rows * c.head_dim, 1);
  const Result<float> before = run(m, query, {c.keys});
  const float poison[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  for (int j = m.last(0); j < c.keys; ++j) {
    for (auto* memory : {&m.keys, &m.values})
      std::memcpy((*memory)[0].data() + (j * 24 + j % 24) * 4, &poison[j % 2], sizeof(float));
  }
  query.back() = poison[0];
  const Result<float> after = run(m, query, {c.keys});
  for (int d = 0; d < 24; ++d) EXPECT_EQ(before.out[std::size_t(d)], after.out[std::size_t(d)]);
  EXPECT_EQ(before.lse[0], after.lse[0]);
  EXPECT_TRUE(std::isnan(after.out[3 * 24]));
}

TEST(Decode, WhatARowDoesNotSeeChangesNoBitOfItInt8) {
  const Case c{.stored = Stored::int8, .rows = 4, .keys = 100, .head_dim = 24, .value_dim = 24, .ragged = 20};
  Memory<float> m(c);
  std::vector<double> query = random_numbers<double>(c.rows * c.head_dim, 1);
  const Result<float> before = run(m, query, {c.keys});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (int j = m.last(2); j < c.keys; ++j) {  // seen by row 3 only
    std::memcpy(m.keys[0].data() + m.rows.key_scales + j * 4, &nan, sizeof(nan));
    std::memcpy(m.values[0].data() + m.rows.value_scales + j * 4, &nan, sizeof(nan));
  }
  query.back() = std::numeric_limits<double>::infinity();
  const Result<float> after = run(m, query, {c.keys});
  for (std::size_t i = 0; i < 3 * 24; ++i) EXPECT_EQ(before.out[i], after.out[i]) << i;
  for (std::size_t r = 0; r < 3; ++r) EXPECT_EQ(before.lse[r], after.lse[r]) << r;
  for (std::size_t i = 3 * 24; i < 4 * 24; ++i) EXPECT_TRUE(std::isnan(after.out[i])) << i;
  query.back() = 0;
  for (float strange :
       {nan, std::numeric_limits<float>::infinity()}) {  // in a value's scale alone: out is NaN, no less
    Memory<float> clean(c);
    std::memcpy(clean.values[0].data() + clean.rows.value_scales + 50 * 4, &strange, sizeof(strange));
    EXPECT_FALSE(std::isfinite(run(clean, query, {c.keys}).out[3 * 24 + 1]));
  }
}

}  // namespace
}  // namespace attune::kernels::decode_tests
