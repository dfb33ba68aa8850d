// Masks made of blocks: block-sparse and BigBird.
#include <fmt/format.h>

#include <algorithm>

#include "attention/mask_areas.hpp"
#include "attune/attention/mask/all.hpp"
#include "attune/base/error.hpp"
#include "attune/base/rng.hpp"

namespace attune {
namespace {

/// Rows of blocks that an area's queries lie in, and columns of its keys.
struct Blocks {
  int first_row, last_row, first_column, last_column;
};
Blocks blocks_of(const Area& a, int block_queries, int block_keys) {
  return {int(areas::floor_div(areas::first_of(a), block_queries)),
          int(areas::floor_div(areas::last_of(a), block_queries)), a.key / block_keys,
          areas::last_key_of(a) / block_keys};
}
/// sees(row) gives what says whether a column is visible to it.
template <class F>
Cover cover_blocks(const Area& a, int block_queries, int block_keys, F sees) {
  const Blocks b = blocks_of(a, block_queries, block_keys);
  bool any = false, all = true;
  for (int row = b.first_row; row <= b.last_row; ++row) {
    const auto column = sees(row);
    for (int c = b.first_column; c <= b.last_column; ++c) {
      const bool on = column(c);
      any = any || on;
      all = all && on;
    }
  }
  return areas::cover_of(any, all);
}
template <class F>
void visible_blocks(const Area& a, int block_queries, int block_keys, F sees, std::uint64_t* rows) {
  const Blocks b = blocks_of(a, block_queries, block_keys);
  std::fill(rows, rows + a.keys, std::uint64_t(0));
  for (int row = b.first_row; row <= b.last_row; ++row) {
    const auto column = sees(row);
    const std::int64_t begin = std::int64_t(row) * block_queries - areas::first_of(a);
    const std::uint64_t lanes = detail::lane_bits(begin, begin + block_queries);
    for (int c = b.first_column; c <= b.last_column; ++c) {
      if (!column(c)) continue;
      const int from = std::max(0, c * block_keys - a.key);
      const std::int64_t to = std::min<std::int64_t>(a.keys, std::int64_t(c + 1) * block_keys - a.key);
      for (int j = from; j < to; ++j) rows[j] |= lanes;
    }
  }
}

}  // namespace

BlockSparse::BlockSparse(const std::uint8_t* seen, const Shape& blocks, int block_queries, int block_keys)
    : block_queries_(block_queries), block_keys_(block_keys) {
  if (blocks.rank() != 2 && blocks.rank() != 3) {
    fail("block_sparse", "blocks [rows, columns] or [heads, rows, columns]", "got " + blocks.text());
  }
  if (block_queries < 1 || block_keys < 1) {
    fail("block_sparse", "blocks of 1 or more queries and keys", fmt::format("got {} x {}", block_queries, block_keys));
  }
  heads_ = blocks.rank() == 3 ? int(blocks[0]) : 0;
  rows_ = int(blocks.back(1)), columns_ = int(blocks.back());
  blocks_.assign(seen, seen + blocks.size());
  for (int r = 0; r < std::max(1, heads_) * rows_; ++r) {
    const std::uint8_t* of = blocks_.data() + std::ptrdiff_t(r) * columns_;
    Range range{columns_, 0};
    for (int c = 0; c < columns_; ++c) {
      if (of[c]) range = {std::min(range.begin, c), c + 1};
    }
    columns_of_.push_back(range);
  }
}
void BlockSparse::check(const AttendShape& s) const {
  if (heads_ != 0 && heads_ != s.num_heads) {
    fail("block_sparse", fmt::format("one bitmap, or one for each of {} heads", s.num_heads),
         fmt::format("got {}", heads_));
  }
  if (std::int64_t(columns_) * block_keys_ < s.num_keys) {
    fail("block_sparse", fmt::format("blocks for all {} keys", s.num_keys),
         fmt::format("got {} of {}", columns_, block_keys_));
  }
}
const std::uint8_t* BlockSparse::row(const Area& a, int r) const {
  if (r < 0 || r >= rows_) return nullptr;
  return blocks_.data() + (std::ptrdiff_t(heads_ ? a.head : 0) * rows_ + r) * columns_;
}
Range BlockSparse::keys(const Area& a) const {
  const Blocks b = blocks_of(a, block_queries_, block_keys_);
  Range all{0, 0};
  for (int r = std::max(0, b.first_row); r <= std::min(rows_ - 1, b.last_row); ++r) {
    all = areas::hull(all, columns_of_[std::size_t((heads_ ? a.head : 0) * rows_ + r)]);
  }
  const std::int64_t end = std::int64_t(all.end) * block_keys_;
  return {all.begin * block_keys_, int(std::min<std::int64_t>(end, a.shape->num_keys))};
}
Cover BlockSparse::cover(const Area& a) const {
  return cover_blocks(a, block_queries_, block_keys_,
                      [&](int r) { return [of = row(a, r)](int c) { return of && of[c] != 0; }; });
}
void BlockSparse::visible(const Area& a, std::uint64_t* rows) const {
  visible_blocks(
      a, block_queries_, block_keys_, [&](int r) { return [of = row(a, r)](int c) { return of && of[c] != 0; }; },
      rows);
}

namespace {
/// What one row of blocks sees.
class BigBirdRow {
 public:
  BigBirdRow(const BigBird& m, const Area& a, int row) : row_(row), globals_(m.global_blocks), window_(m.window) {
    const int tokens = m.length ? m.length : a.shape->num_keys, blocks = (tokens + m.block - 1) / m.block;
    if (row < 0 || row < globals_) return;
    // What is left to draw from: blocks behind the global ones and outside of the window, by their number in line.
    const int begin = std::clamp(row - window_, globals_, std::max(globals_, blocks)),
              end = std::clamp(row + window_ + 1, begin, std::max(begin, blocks));
    const int others = std::max(0, blocks - globals_ - (end - begin));
    // Floyd: `count_` different ones of `others`, all sets equally likely.
    const int wanted = std::min(m.random_blocks, others);
    for (int n = 0; n < wanted; ++n) {
      const PhiloxCounter words = philox<7>({std::uint32_t(row), std::uint32_t(n / 4), std::uint32_t(a.head), 0x42},
                                            {std::uint32_t(m.seed), 0x42696742});
      const int top = others - wanted + n;
      int pick = int((std::uint64_t(words[std::size_t(n % 4)]) * std::uint64_t(top + 1)) >> 32);
      const auto block_at = [&](int number) {
        return globals_ + number + (globals_ + number >= begin ? end - begin : 0);
      };
      pick = block_at(pick);
      if (std::find(picks_, picks_ + count_, pick) != picks_ + count_) pick = block_at(top);
      picks_[count_++] = pick;
    }
  }
  bool operator()(int column) const {
    if (row_ < 0) return false;
    return row_ < globals_ || column < globals_ || std::abs(row_ - column) <= window_ ||
           std::find(picks_, picks_ + count_, column) != picks_ + count_;
  }

 private:
  int row_, globals_, window_, count_ = 0;
  int picks_[BigBird::kMostRandom];
};
}  // namespace

void BigBird::check(const AttendShape& s) const {
  if (block < 1) fail("big_bird", "blocks of 1 token or more", fmt::format("got {}", block));
  if (window < 0 || global_blocks < 0) {
    fail("big_bird", "a window and global blocks of 0 or more", fmt::format("got {} and {}", window, global_blocks));
  }
  if (random_blocks < 0 || random_blocks > kMostRandom) {
    fail("big_bird", fmt::format("0 to {} random blocks", kMostRandom), fmt::format("got {}", random_blocks));
  }
  if (length != 0 && length < s.num_keys) {
    fail("big_bird", fmt::format("a length of 0 (the keys') or at least {}", s.num_keys),
         fmt::format("got {}", length));
  }
}
Cover BigBird::cover(const Area& a) const {
  return cover_blocks(a, block, block, [&](int row) { return BigBirdRow(*this, a, row); });
}
void BigBird::visible(const Area& a, std::uint64_t* rows) const {
  visible_blocks(
      a, block, block, [&](int row) { return BigBirdRow(*this, a, row); }, rows);
}

}  // namespace attune
