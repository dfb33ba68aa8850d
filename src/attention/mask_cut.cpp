#include "attention/mask_cut.hpp"

#include <algorithm>
#include <bit>

namespace attune::engine {
namespace {

constexpr int kStrip = kernels::kPieceStrip, kStrips = kLanes / kStrip;
/// Keys that a mask is asked about at a time: masks made of blocks mostly have blocks that divide this, or are divided.
constexpr int kAsked = 64;
/// Fewer keys side by side are gathered with others: a product over so few has hardly begun before it ends.
constexpr int kRun = 32;
constexpr int kFew = 8;
/// Keys of one kind: strips first .. last, and whether all of their queries see the key.
constexpr int kKinds = 2 * kStrips * kStrips;
int kind_of(int first, int last, bool whole) { return 2 * (first * kStrips + last) + (whole ? 0 : 1); }

std::uint64_t lanes_from(int first, int n) {
  return n >= kLanes ? ~std::uint64_t(0) : ((std::uint64_t(1) << n) - 1) << first;
}

}  // namespace

void MaskCut::bind(const Mask& mask, const AttendShape& shape, int b, int h, int first_query, int offset) {
  mask_ = &mask;
  head_ = {&shape, b, h, h / shape.group(), 0, 0, 0, 0, offset};
  first_query_ = first_query;
}

std::span<const kernels::PlainPiece> MaskCut::pieces(int head, int query, int queries, int first_key, int end_key,
                                                     int most) {
  Area a = head_;
  a.head += head, a.query = first_query_ + query, a.queries = queries;
  whole_.clear();
  found_.clear();
  pieces_.clear();
  const std::uint64_t all = lanes_from(0, queries);
  int of_kind[kKinds + 1] = {};
  const Range range = mask_->keys(a);
  const int begin = std::max(range.begin, first_key), end = std::min(range.end, end_key);
  std::uint64_t words[kAsked];
  for (int key = begin; key < end; key = a.key + a.keys) {
    a.key = key, a.keys = std::min(end, (key / kAsked + 1) * kAsked) - key;
    const Cover cover = mask_->cover(a);
    if (cover == Cover::none) continue;
    if (cover == Cover::full) {
      add_whole(key, a.keys);
      continue;
    }
    mask_->visible(a, words);
    for (int j = 0; j < a.keys; ++j) {
      const std::uint64_t seen = words[j] & all;
      if (seen == 0) continue;
      if (seen == all) {
        add_whole(key + j, 1);
        continue;
      }
      const int first = std::countr_zero(seen) / kStrip, last = (kLanes - 1 - std::countl_zero(seen)) / kStrip;
      const std::uint64_t strips = lanes_from(first * kStrip, (last + 1 - first) * kStrip) & all;
      const int kind = kind_of(first, last, seen == strips);
      found_.push_back({key + j, kind, seen | ~all});
      ++of_kind[kind + 1];
    }
  }
  std::size_t whole = 0;
  for (const Range& r : whole_) whole += std::size_t(r.end - r.begin);
  rows_.resize(whole + found_.size());
  bits_.resize(found_.size());
  take_whole(most);
  // A few whole keys go with those that need bits: a piece of their own costs more.
  for (int kind = 0; kind < kKinds; kind += 2) {
    if (of_kind[kind + 1] >= kFew || of_kind[kind + 2] == 0) continue;
    of_kind[kind + 2] += of_kind[kind + 1];
    of_kind[kind + 1] = 0;
  }
  for (Key& k : found_) k.kind |= of_kind[k.kind + 1] == 0;
  // Sorted by kind, in order within.
  for (int k = 0; k < kKinds; ++k) of_kind[k + 1] += of_kind[k];
  int next[kKinds];
  std::copy(of_kind, of_kind + kKinds, next);
  std::int32_t* const rows = rows_.data() + whole;
  for (const Key& k : found_) {
    const int at = next[k.kind]++;
    rows[at] = k.key;
    bits_[std::size_t(at)] = k.bits;
  }
  for (int kind = 0; kind < kKinds; ++kind) {
    const int first = kind / 2 / kStrips * kStrip, past = (kind / 2 % kStrips + 1) * kStrip;
    for (int at = of_kind[kind]; at < of_kind[kind + 1];) {
      const int n = std::min(most, of_kind[kind + 1] - at);
      kernels::PlainPiece p{.key = rows[at], .keys = n, .first = first, .end = past};
      if (rows[at + n - 1] != rows[at] + n - 1) p.rows = rows + at;
      if (kind % 2) p.bits = &bits_[std::size_t(at)];
      pieces_.push_back(p);
      at += n;
    }
  }
  return pieces_;
}

void MaskCut::add_whole(int key, int keys) {
  if (!whole_.empty() && whole_.back().end == key)
    whole_.back().end += keys;
  else
    whole_.push_back({key, key + keys});
}

void MaskCut::take_whole(int most) {
  std::int32_t *rows = rows_.data(), *gathered = rows;
  for (const Range& r : whole_) {
    const int n = r.end - r.begin;
    if (n < kRun) {
      for (int key = r.begin; key < r.end; ++key) *rows++ = key;
      continue;
    }
    // Even pieces, of whole strips.
    const int count = (n + most - 1) / most,
              keys = std::min(most, ((n + count - 1) / count + kStrip - 1) / kStrip * kStrip);
    for (int key = r.begin; key < r.end; key += keys)
      pieces_.push_back({.key = key, .keys = std::min(keys, r.end - key), .end = kLanes});
  }
  for (; gathered < rows; gathered += most) {
    const int n = int(std::min<std::ptrdiff_t>(most, rows - gathered));
    const bool side_by_side = gathered[n - 1] == gathered[0] + n - 1;
    pieces_.push_back({.key = gathered[0], .keys = n, .rows = side_by_side ? nullptr : gathered, .end = kLanes});
  }
}

void count_visible(const Mask& mask, const AttendShape& shape, int b, int h, int offset, int* counts) {
  std::fill(counts, counts + shape.num_queries, 0);
  Area a{&shape, b, h, h / shape.group(), 0, 0, 0, 0, offset};
  std::uint64_t words[kAsked];
  for (; a.query < shape.num_queries; a.query += kLanes) {
    a.queries = std::min(kLanes, shape.num_queries - a.query);
    const Range range = mask.keys(a);
    const int end = std::min(range.end, shape.num_keys);
    int* of = counts + a.query;
    for (int key = std::max(0, range.begin); key < end; key += a.keys) {
      a.key = key, a.keys = std::min(kAsked, end - key);
      const Cover cover = mask.cover(a);
      if (cover == Cover::none) continue;
      if (cover == Cover::full)
        std::fill(words, words + a.keys, ~std::uint64_t(0));
      else
        mask.visible(a, words);
      detail::on_cpu<float>([&] {
        for (int j = 0; j < a.keys; ++j) {
          for (int i = 0; i < a.queries; ++i) of[i] += int(words[j] >> i & 1);
        }
      });
    }
  }
}

}  // namespace attune::engine
