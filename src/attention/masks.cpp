// The bodies of the masks that know more than a window: which keys a block of queries can see, what a tile is, and the
// bits. `first` and `last` are the positions of an area's first and last query throughout.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "attune/attention/mask/all.hpp"
#include "attune/base/dropout.hpp"
#include "attune/base/error.hpp"
#include "kernels/dropout.hpp"

namespace attune {

namespace {

using Bits = std::uint64_t;
constexpr Bits kAllLanes = ~Bits(0);

int first_of(const Area& a) { return a.query + a.offset; }
int last_of(const Area& a) { return a.query + a.offset + a.queries - 1; }
int last_key_of(const Area& a) { return a.key + a.keys - 1; }

/// floor(x / n), n > 0.
std::int64_t floor_div(std::int64_t x, std::int64_t n) { return x >= 0 ? x / n : -((-x + n - 1) / n); }
std::int64_t modulo(std::int64_t x, std::int64_t n) { return x - floor_div(x, n) * n; }

Cover cover_of(bool any, bool all) { return !any ? Cover::none : all ? Cover::full : Cover::partial; }
bool is_empty(Range r) { return r.begin >= r.end; }
Range hull(Range a, Range b) {
  if (is_empty(a)) return b;
  if (is_empty(b)) return a;
  return {std::min(a.begin, b.begin), std::max(a.end, b.end)};
}

/// Rows of blocks that an area's queries lie in, and columns of its keys.
struct Blocks {
  int first_row, last_row, first_column, last_column;
};
Blocks blocks_of(const Area& a, int block_queries, int block_keys) {
  return {int(floor_div(first_of(a), block_queries)), int(floor_div(last_of(a), block_queries)), a.key / block_keys,
          last_key_of(a) / block_keys};
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
  return cover_of(any, all);
}
template <class F>
void visible_blocks(const Area& a, int block_queries, int block_keys, F sees, Bits* rows) {
  const Blocks b = blocks_of(a, block_queries, block_keys);
  std::fill(rows, rows + a.keys, Bits(0));
  for (int row = b.first_row; row <= b.last_row; ++row) {
    const auto column = sees(row);
    const std::int64_t begin = std::int64_t(row) * block_queries - first_of(a);
    const Bits lanes = detail::lane_bits(begin, begin + block_queries);
    for (int c = b.first_column; c <= b.last_column; ++c) {
      if (!column(c)) continue;
      const int from = std::max(0, c * block_keys - a.key);
      const std::int64_t to = std::min<std::int64_t>(a.keys, std::int64_t(c + 1) * block_keys - a.key);
      for (int j = from; j < to; ++j) rows[j] |= lanes;
    }
  }
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------- dilated

void Dilated::check(const AttendShape&) const {
  if (left < -1 || right < -1) {
    fail("dilated", "left and right of -1 (unbounded) or more", fmt::format("got {} and {}", left, right));
  }
  if (dilation < 1) fail("dilated", "a dilation of 1 or more", fmt::format("got {}", dilation));
}
Range Dilated::keys(const Area& a) const {
  const std::int64_t begin = first_of(a) - std::int64_t(left) * dilation,
                     end = last_of(a) + std::int64_t(right) * dilation + 1;
  const std::int64_t keys = a.shape->num_keys;
  return {left < 0 ? 0 : int(std::clamp<std::int64_t>(begin, 0, keys)),
          right < 0 ? int(keys) : int(std::clamp<std::int64_t>(end, 0, keys))};
}
Cover Dilated::cover(const Area& a) const {
  // Key minus position takes every value from low to high in the area.
  std::int64_t low = a.key - last_of(a), high = last_key_of(a) - first_of(a);
  const std::int64_t least = left < 0 ? low : -std::int64_t(left) * dilation,
                     most = right < 0 ? high : std::int64_t(right) * dilation;
  const bool all = least <= low && high <= most && (dilation == 1 || (low == high && modulo(low, dilation) == 0));
  low = std::max(low, least);
  high = std::min(high, most);
  return cover_of(floor_div(high, dilation) * dilation >= low, all);
}
void Dilated::visible(const Area& a, Bits* rows) const {
  const std::int64_t reach = std::int64_t(left) * dilation, ahead = std::int64_t(right) * dilation;
  Bits comb = 0;
  for (int i = 0; i < kLanes; i += dilation) comb |= Bits(1) << i;
  for (int j = 0; j < a.keys; ++j) {
    const std::int64_t k = a.key + j - first_of(a), phase = modulo(k, dilation);
    const Bits window = detail::lane_bits(right < 0 ? 0 : k - ahead, left < 0 ? kLanes : k + reach + 1);
    rows[j] = phase < kLanes ? window & comb << phase : 0;
  }
}

// -------------------------------------------------------------------------------------------------------- prefix LM

void PrefixLm::check(const AttendShape& s) const {
  if (prefix.size() > 1 && prefix.size() != std::size_t(s.batch_size)) {
    fail("prefix_lm", fmt::format("one prefix, or one for each of {} batch entries", s.batch_size),
         fmt::format("got {}", prefix.size()));
  }
  for (int n : prefix) {
    if (n < 0) fail("prefix_lm", "a prefix of 0 tokens or more", fmt::format("got {}", n));
  }
}
Range PrefixLm::keys(const Area& a) const { return {0, std::max(prefix_of(a), last_of(a) + 1)}; }
Cover PrefixLm::cover(const Area& a) const {
  return cover_of(a.key < std::max(prefix_of(a), last_of(a) + 1),
                  last_key_of(a) < std::max(prefix_of(a), first_of(a) + 1));
}
void PrefixLm::visible(const Area& a, Bits* rows) const {
  for (int j = 0; j < a.keys; ++j) {
    const int k = a.key + j;
    rows[j] = k < prefix_of(a) ? kAllLanes : detail::lane_bits(std::int64_t(k) - first_of(a), kLanes);
  }
}

// --------------------------------------------------------------------------------------------------------- document

namespace {
/// Positions of the document that p lies in; empty if it is padding.
Range document_of(const std::vector<int>& bounds, int p) {
  const auto next = std::upper_bound(bounds.begin(), bounds.end(), p);
  if (next == bounds.begin() || next == bounds.end()) return {0, 0};
  return {*(next - 1), *next};
}
const std::vector<int>& bounds_of(const Document& d, const Area& a) {
  return d.boundaries[d.boundaries.size() == 1 ? 0 : std::size_t(a.batch)];
}
}  // namespace

Document Document::from_ids(std::span<const int> ids, int batch_size) {
  if (batch_size < 1 || ids.size() % std::size_t(batch_size) != 0) {
    fail("document", fmt::format("ids for {} batch entries of one length", batch_size),
         fmt::format("got {} ids", ids.size()));
  }
  Document d;
  const std::size_t tokens = ids.size() / std::size_t(batch_size);
  for (std::size_t b = 0; b < std::size_t(batch_size); ++b) {
    const auto of = ids.subspan(b * tokens, tokens);
    std::vector<int> bounds, seen;
    std::size_t begin = 0, end = tokens;
    while (begin < end && of[begin] < 0) ++begin;
    while (end > begin && of[end - 1] < 0) --end;
    for (std::size_t t = begin; t < end; ++t) {
      if (t > begin && of[t] == of[t - 1]) continue;
      if (of[t] < 0) {
        fail("document", "padding (negative ids) at both ends alone",
             fmt::format("got it at token {} between documents", t));
      }
      bounds.push_back(int(t));
      seen.push_back(of[t]);
    }
    std::sort(seen.begin(), seen.end());
    if (const auto twice = std::adjacent_find(seen.begin(), seen.end()); twice != seen.end()) {
      fail("document", "the tokens of a document side by side", fmt::format("got id {} in two places", *twice));
    }
    if (end > begin) bounds.push_back(int(end));
    d.boundaries.push_back(std::move(bounds));
  }
  return d;
}
void Document::check(const AttendShape& s) const {
  if (boundaries.size() != 1 && boundaries.size() != std::size_t(s.batch_size)) {
    fail("document", fmt::format("boundaries once, or for each of {} batch entries", s.batch_size),
         fmt::format("got {}", boundaries.size()));
  }
  for (const auto& bounds : boundaries) {
    if (std::adjacent_find(bounds.begin(), bounds.end(), std::greater_equal<>()) != bounds.end()) {
      fail("document", "boundaries that rise", "got others");
    }
  }
}
Range Document::keys(const Area& a) const {
  const std::vector<int>& bounds = bounds_of(*this, a);
  if (bounds.size() < 2) return {0, 0};
  // Documents lie side by side, so those of the first and the last query enclose what all queries see.
  const int first = std::max(first_of(a), bounds.front()), last = std::min(last_of(a), bounds.back() - 1);
  if (first > last) return {0, 0};
  return {document_of(bounds, first).begin, document_of(bounds, last).end};
}
Cover Document::cover(const Area& a) const {
  const Range seen = keys(a), own = document_of(bounds_of(*this, a), first_of(a));
  return cover_of(a.key < seen.end && last_key_of(a) >= seen.begin,
                  last_of(a) < own.end && a.key >= own.begin && last_key_of(a) < own.end);
}
void Document::visible(const Area& a, Bits* rows) const {
  const std::vector<int>& bounds = bounds_of(*this, a);
  for (int j = 0; j < a.keys;) {
    const int key = a.key + j;
    const Range r = document_of(bounds, key);
    const Bits lanes = detail::lane_bits(std::int64_t(r.begin) - first_of(a), std::int64_t(r.end) - first_of(a));
    const int end = is_empty(r) ? j + 1 : std::min(a.keys, r.end - a.key);
    for (; j < end; ++j) rows[j] = is_empty(r) ? 0 : lanes;
  }
}

// ----------------------------------------------------------------------------------------------------- block sparse

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
    all = hull(all, columns_of_[std::size_t((heads_ ? a.head : 0) * rows_ + r)]);
  }
  const std::int64_t end = std::int64_t(all.end) * block_keys_;
  return {all.begin * block_keys_, int(std::min<std::int64_t>(end, a.shape->num_keys))};
}
Cover BlockSparse::cover(const Area& a) const {
  return cover_blocks(a, block_queries_, block_keys_,
                      [&](int r) { return [of = row(a, r)](int c) { return of && of[c] != 0; }; });
}
void BlockSparse::visible(const Area& a, Bits* rows) const {
  visible_blocks(
      a, block_queries_, block_keys_, [&](int r) { return [of = row(a, r)](int c) { return of && of[c] != 0; }; },
      rows);
}

// --------------------------------------------------------------------------------------------------------- BigBird

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
void BigBird::visible(const Area& a, Bits* rows) const {
  visible_blocks(
      a, block, block, [&](int row) { return BigBirdRow(*this, a, row); }, rows);
}

// ------------------------------------------------------------------------------------------------------- Longformer

namespace {
/// How many of the rising numbers lie in begin .. end-1.
int count_in(const std::vector<int>& rising, int begin, int end) {
  return int(std::lower_bound(rising.begin(), rising.end(), end) -
             std::lower_bound(rising.begin(), rising.end(), begin));
}
}  // namespace

void Longformer::check(const AttendShape&) const {
  if (half_window < 0) fail("longformer", "a half_window of 0 or more", fmt::format("got {}", half_window));
  if (dilation < 1) fail("longformer", "a dilation of 1 or more", fmt::format("got {}", dilation));
  const bool rises =
      std::adjacent_find(global_tokens.begin(), global_tokens.end(), std::greater_equal<>()) == global_tokens.end();
  if (!rises || (!global_tokens.empty() && global_tokens.front() < 0)) {
    fail("longformer", "global tokens at positions of 0 or more that rise", "got others");
  }
}
Range Longformer::keys(const Area& a) const {
  if (count_in(global_tokens, first_of(a), last_of(a) + 1) > 0) return {0, a.shape->num_keys};
  Range all = local().keys(a);
  if (!global_tokens.empty()) all = hull(all, {global_tokens.front(), global_tokens.back() + 1});
  return all;
}
Cover Longformer::cover(const Area& a) const {
  const int queries = count_in(global_tokens, first_of(a), last_of(a) + 1),
            keys = count_in(global_tokens, a.key, a.key + a.keys);
  const Cover near = local().cover(a);
  return cover_of(near != Cover::none || queries > 0 || keys > 0,
                  near == Cover::full || queries == a.queries || keys == a.keys);
}
void Longformer::visible(const Area& a, Bits* rows) const {
  local().visible(a, rows);
  Bits lanes = 0;
  for (auto t = std::lower_bound(global_tokens.begin(), global_tokens.end(), first_of(a));
       t != global_tokens.end() && *t <= last_of(a); ++t) {
    lanes |= Bits(1) << (*t - first_of(a));
  }
  if (lanes) {
    for (int j = 0; j < a.keys; ++j) rows[j] |= lanes;
  }
  for (auto t = std::lower_bound(global_tokens.begin(), global_tokens.end(), a.key);
       t != global_tokens.end() && *t <= last_key_of(a); ++t) {
    rows[*t - a.key] = kAllLanes;
  }
}

// ----------------------------------------------------------------------------------------------- Sparse Transformer

namespace {
void check_stride(const char* stage, int stride) {
  if (stride < 1) fail(stage, "a stride of 1 or more", fmt::format("got {}", stride));
}
bool has_local(SparsePart part, const Area& a) {
  return part == SparsePart::both || part == SparsePart::local || (part == SparsePart::by_head && a.head % 2 == 0);
}
bool has_summary(SparsePart part, const Area& a) {
  return part == SparsePart::both || part == SparsePart::summary || (part == SparsePart::by_head && a.head % 2 == 1);
}
Window strided_local(int stride) { return {stride, 0}; }
Dilated strided_summary(int stride) { return {-1, 0, stride}; }
}  // namespace

void SparseStrided::check(const AttendShape&) const { check_stride("sparse_strided", stride); }
Range SparseStrided::keys(const Area& a) const {
  return {has_summary(part, a) ? 0 : strided_local(stride).keys(a).begin, last_of(a) + 1};
}
Cover SparseStrided::cover(const Area& a) const {
  const Cover local = has_local(part, a) ? strided_local(stride).cover(a) : Cover::none;
  return has_summary(part, a) ? std::max(local, strided_summary(stride).cover(a)) : local;
}
void SparseStrided::visible(const Area& a, Bits* rows) const {
  const bool local = has_local(part, a);
  if (has_summary(part, a))
    strided_summary(stride).visible(a, rows);
  else
    std::fill(rows, rows + a.keys, Bits(0));
  for (int j = 0; local && j < a.keys; ++j) {
    const std::int64_t k = std::int64_t(a.key) + j - first_of(a);
    rows[j] |= detail::lane_bits(k, k + stride + 1);
  }
}

void SparseFixed::check(const AttendShape&) const {
  check_stride("sparse_fixed", stride);
  if (summary < 1 || summary > stride) {
    fail("sparse_fixed", fmt::format("a summary of 1 to {} keys", stride), fmt::format("got {}", summary));
  }
}
Range SparseFixed::keys(const Area& a) const {
  const std::int64_t own = floor_div(first_of(a), stride) * stride;
  return {has_summary(part, a) ? 0 : int(std::max<std::int64_t>(own, 0)), last_of(a) + 1};
}
Cover SparseFixed::cover(const Area& a) const {
  const std::int64_t first = first_of(a), last = last_of(a), last_key = last_key_of(a);
  const std::int64_t seen = std::min(last_key, last);  // no key behind it is visible to anybody
  const bool past = last_key <= first;                 // every key is to every query
  const auto block = [&](std::int64_t x) { return floor_div(x, stride); };
  // Summary keys are the last of their block: the area holds one unless it ends before the first of its own block.
  const bool meets = seen >= a.key && (modulo(seen, stride) >= stride - summary || block(seen) > block(a.key));
  const bool holds = modulo(a.key, stride) >= stride - summary && block(a.key) == block(last_key);
  const bool local = has_local(part, a), far = has_summary(part, a);
  return cover_of((local && a.key <= last && last_key >= block(first) * stride) || (far && meets),
                  past && ((local && block(a.key) == block(last)) || (far && (holds || summary == stride))));
}
void SparseFixed::visible(const Area& a, Bits* rows) const {
  const bool local = has_local(part, a), far = has_summary(part, a);
  for (int j = 0; j < a.keys; ++j) {
    const std::int64_t key = a.key + j, k = key - first_of(a);
    const bool summarises = far && modulo(key, stride) >= stride - summary;
    const std::int64_t block_end = (floor_div(key, stride) + 1) * stride - first_of(a);
    rows[j] = summarises ? detail::lane_bits(k, kLanes) : local ? detail::lane_bits(k, block_end) : 0;
  }
}

// ---------------------------------------------------------------------------------------------------------- local-m

void LocalM::check(const AttendShape&) const {
  if (half_width < 0) fail("local_m", "a half_width of 0 or more", fmt::format("got {}", half_width));
}
int LocalM::centre(const Area& a, int lane) const {
  if (!stretched) return first_of(a) + lane;
  return int(std::int64_t(a.query + lane) * a.shape->num_keys / a.shape->num_queries);
}
Range LocalM::keys(const Area& a) const {
  return {centre(a, 0) - half_width, centre(a, a.queries - 1) + half_width + 1};
}
Cover LocalM::cover(const Area& a) const {
  // Centres rise, so the first and the last say how far all of them reach. Between two of them there may be a gap.
  const std::int64_t low = centre(a, 0), high = centre(a, a.queries - 1), last_key = last_key_of(a);
  bool any = a.key <= high + half_width && last_key >= low - half_width;
  if (any && stretched) {
    any = false;
    for (int i = 0; i < a.queries && !any; ++i) {
      any = a.key <= centre(a, i) + half_width && last_key >= centre(a, i) - half_width;
    }
  }
  return cover_of(any, a.key >= high - half_width && last_key <= low + half_width);
}
void LocalM::visible(const Area& a, Bits* rows) const {
  if (!stretched) return Window{half_width, half_width}.visible(a, rows);
  std::fill(rows, rows + a.keys, Bits(0));
  for (int i = 0; i < a.queries; ++i) {
    const int c = centre(a, i);
    const int end = std::min(a.keys, c + half_width + 1 - a.key);
    for (int j = std::max(0, c - half_width - a.key); j < end; ++j) rows[j] |= Bits(1) << i;
  }
}

// --------------------------------------------------------------------------------------------------- random, lambda

void RandomMask::check(const AttendShape&) const {
  if (!(keep > 0 && keep <= 1)) fail("random", "keep above 0 and at most 1", fmt::format("got {}", keep));
}
void RandomMask::visible(const Area& a, Bits* rows) const {
  // What dropout would keep of ones.
  constexpr int kPiece = 32;
  const std::uint32_t threshold = dropout_threshold(1 - keep);
  float ones[kPiece * kLanes];
  for (int first = 0; first < a.keys; first += kPiece) {
    const int n = std::min(kPiece, a.keys - first);
    std::fill(ones, ones + n * kLanes, 1.f);
    kernels::drop(ones, kLanes, std::uint64_t(seed), 0, a.head, first_of(a), a.queries, a.key + first, n, threshold);
    for (int j = 0; j < n; ++j) {
      Bits word = 0;
      for (int i = 0; i < a.queries; ++i) word |= Bits(ones[j * kLanes + i] > 0) << i;
      rows[first + j] = word;
    }
  }
}

void VisibleIf::check(const AttendShape&) const {
  if (!bits) fail("visible_if", "a predicate", "got none");
}

}  // namespace attune
