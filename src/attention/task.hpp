// What the forward, the backward and the map share: a thread's memory, rows on their way through position and score,
// the walk over tiles, logits, hiding, dropping. A Task belongs to one (batch entry, key head) at a time.
#pragma once
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "attention/problem.hpp"
#include "attention/steps.hpp"
#include "attention/workspace.hpp"
#include "attune/base/parallel.hpp"
#include "kernels/plain_cut.hpp"

namespace attune::engine {

/// Keys after position and score, mapped once for the whole call; no memory where no stage maps them.
template <class T>
struct KeyRows {
  int mid_width = 0, out_width = 0;  // 0: not mapped by that stage
  Numbers<T> mid_memory, out_memory;
  const Problem<T>* p = nullptr;

  // Up to 32 MiB stay with the thread that calls: fresh pages cost a rotary call of 1024 tokens some hundredths.
  KeyRows() : mid_memory(std::move(kept(0))), out_memory(std::move(kept(1))) {}
  KeyRows(KeyRows&&) = default;
  ~KeyRows() {
    keep(mid_memory, 0);
    keep(out_memory, 1);
  }

  Matrix<const T> in(int b, int kv) const { return p->key.matrix(b, kv, 0, p->shape.num_keys, p->shape.key_dim); }
  Matrix<const T> mid(int b, int kv) const { return mid_width ? room(mid_memory, mid_width, b, kv) : in(b, kv); }
  Matrix<const T> out(int b, int kv) const { return out_width ? room(out_memory, out_width, b, kv) : mid(b, kv); }

 private:
  static Numbers<T>& kept(int which) {
    thread_local Numbers<T> memory[2];
    return memory[which];
  }
  static void keep(Numbers<T>& memory, int which) {
    if (memory.capacity() > kept(which).capacity() && memory.capacity() * sizeof(T) <= std::size_t(32) << 20)
      kept(which) = std::move(memory);
  }
  Matrix<const T> room(const Numbers<T>& memory, int width, int b, int kv) const {
    const std::ptrdiff_t task = std::ptrdiff_t(b) * p->shape.num_kv_heads + kv;
    return {memory.data() + task * p->shape.num_keys * width, p->shape.num_keys, width, width};
  }
};

/// Queries of a block are cut into strips of so many, as the plain path's are.
constexpr int kStrip = kernels::kPieceStrip;

template <class T>
class Task {
 public:
  /// Of a block: what Rows points at, and two more that the backward may want.
  static constexpr std::size_t kRowNumbers = 10;
  const Problem<T>* p = nullptr;
  const AttendShape* s = nullptr;
  bool grad = false;
  Area head;                        // of the bound head; query and key ranges are set by who uses it
  std::vector<std::uint64_t> bits;  // [tile_keys], of the tile at hand
  Numbers<T> x, dp;                 // tiles
  Numbers<T> kept;                  // logits of a score that keeps them, in a backward
  std::vector<Numbers<T>> saved;
  kernels::Upcoming ahead;  // what the products of the tile at hand fetch for later

  /// Begins another call. A thread keeps one Task, so that memory is taken once and not per block.
  void reset(const Problem<T>& problem, bool backward) {
    p = &problem;
    s = &p->shape;
    grad = backward;
    const std::size_t tile = std::size_t(p->tile_keys) * kLanes;
    bits.resize(std::size_t(p->tile_keys));
    x.resize(tile);
    dp.resize(grad ? tile : 0);
    kept.resize(grad && p->score.stage->keeps_logits() ? tile : 0);
    saved.resize(p->bias.size());
    for (std::size_t k = 0; k < saved.size(); ++k) saved[k].resize(grad && p->bias[k].stage->saves() ? tile : 0);
  }

  /// Points at head h of batch entry b. slot: where this head's parameter gradients go (null in a forward pass).
  void bind(int b, int h, T* slot) {
    head = {s, b, h, h / s->group(), 0, 0, 0, s->num_keys, p->offset[std::size_t(b)]};
    std::size_t stage = 0;
    p->each_bound([&](const auto& arrays) {
      if (parts_.size() <= stage) parts_.emplace_back();
      auto& part = parts_[stage++];
      part.clear();
      for (const auto& a : arrays) {
        T* g = nullptr;
        if (grad) {
          if (a.spec.in_place) {
            g = a.grad + a.at(head);
          } else {
            g = slot;
            slot += a.spec.size();
          }
        }
        part.push_back({a.value + a.at(head), g});
      }
    });
  }
  Call<T> position_call() { return call(0); }
  Call<T> score_call() { return call(1); }
  Call<T> bias_call(std::size_t k) { return call(2 + k); }
  Call<T> normalizer_call() { return call(2 + p->bias.size()); }

  /// A block of queries on its way: input -> position -> score. Copies exist only where a stage asks for them.
  struct QueryRows {
    Matrix<const T> in, mid, out;
    Numbers<T> mid_memory, out_memory, lanes;  // lanes: `out` as [F][kLanes]
    bool mid_mapped = false, out_mapped = false;
  };
  void map_queries(const Area& block, QueryRows& r) {
    r.in = r.mid = p->query.matrix(block.batch, block.head, block.query, block.queries, s->query_dim);
    const int w = p->position.stage ? p->position.stage->width(Side::query, s->query_dim) : 0;
    r.mid_mapped = w > 0;
    if (w) {
      auto m = room(r.mid_memory, block.queries, w);
      auto c = position_call();
      p->position.stage->map(Side::query, r.in, m, block, c);
      r.mid = m;
    }
    r.out = r.mid;
    const int f = p->score.stage->width(Side::query, r.mid.cols);
    r.out_mapped = f > 0;
    if (f) {
      auto m = room(r.out_memory, block.queries, f);
      auto c = score_call();
      p->score.stage->map(Side::query, r.mid, m, block, c);
      r.out = m;
    }
    r.lanes.resize(std::size_t(r.out.cols) * kLanes);
    transpose_rows(r.out, r.lanes.data(), kLanes);
  }

  /// [rows][cols] of memory that keeps its size between blocks; not initialised.
  static Matrix<T> room(Numbers<T>& memory, int rows, int cols) {
    if (memory.size() < std::size_t(rows) * cols) memory.resize(std::size_t(rows) * cols);
    return {memory.data(), rows, cols, cols};
  }
  /// Row numbers of one block in kRowNumbers * kLanes numbers of memory.
  static Rows<T> row_numbers(T* r, int n, bool statistics) {
    const auto row = [&](int i) { return r + std::ptrdiff_t(i) * kLanes; };
    return {n, row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7), nullptr, nullptr, statistics};
  }
  /// Those of n queries from `lane` on.
  static Rows<T> part(Rows<T> r, int lane, int n) {
    for (T** row : {&r.max, &r.sum, &r.first, &r.second, &r.factor, &r.stat, &r.delta, &r.mass}) *row += lane;
    if (r.dentropy) r.entropy += lane, r.dentropy += lane;
    r.queries = n;
    return r;
  }
  /// The block's row numbers, all 0.
  Rows<T> row_numbers(int n, bool statistics) {
    rows_.assign(kRowNumbers * kLanes, T(0));
    return row_numbers(rows_.data(), n, statistics);
  }

  void score(const Features<T>& f, Tile<T>& t) {
    auto c = score_call();
    p->score.stage->logits(f, t, c);
  }
  void biases(Tile<T>& t, int how_many = -1) {
    const std::size_t n = how_many < 0 ? p->bias.size() : std::min(p->bias.size(), std::size_t(how_many));
    for (std::size_t k = 0; k < n; ++k) {
      Tile<T> save{saved[k].data(), kLanes, t.area};
      auto c = bias_call(k);
      p->bias[k].stage->apply(t, saved[k].empty() ? nullptr : &save, c);
    }
  }
  /// What the mask says; fills `bits` if it says partial.
  Cover look(const Area& a) {
    const Cover c = p->mask ? p->mask->cover(a) : Cover::full;
    if (c == Cover::partial) p->mask->visible(a, bits.data());
    return c;
  }
  void drop(Tile<T>& t) const {
    if (p->drops()) drop_tile(t, p->seed, p->first_batch, p->keep_threshold);
  }
  /// The keys that the block's queries may see, out of `within`.
  Range visible_keys(const Area& block, Range within) const {
    const Range r = p->mask ? p->mask->keys(block) : within;
    return {std::max(r.begin, within.begin), std::min(r.end, within.end)};
  }
  /// Tile `index` of the walk over the block's keys out of `within`; past the last, one without keys.
  Area tile_at(const Area& block, Range within, int index) const {
    const Range r = visible_keys(block, within);
    const int tiles = count_tiles(r), at = walks_back() ? tiles - 1 - index : index;
    Area a = block;
    a.key = r.begin + at * p->tile_keys;
    a.keys = index < tiles ? std::min(p->tile_keys, r.end - a.key) : 0;
    return a;
  }
  /// Where a walk stands: tile `index` of `count`; `begins`: at the first piece of it.
  struct Walked {
    int index, count;
    bool begins;
  };
  /// Calls f(area, bits, walked) for what the block's queries see of the keys `within`, piece by piece in the order of
  /// the walk: tiles that all of them see, bits null, and pieces of the others (see `cut`). No two pieces share a key.
  /// A piece's first query is the block's or a multiple of kStrip after it, and bit 0 is that query's; it has all of
  /// the block's queries in the forward of a normalizer that wants whole rows.
  template <class F>
  void each_piece(const Area& block, Range within, F f) {
    const int tiles = count_tiles(visible_keys(block, within));
    for (int t = 0; t < tiles; ++t) {
      const Area a = tile_at(block, within, t);
      const Cover c = look(a);
      if (c == Cover::none) continue;
      if (c == Cover::full) {
        f(a, static_cast<const std::uint64_t*>(nullptr), Walked{t, tiles, true});
        continue;
      }
      cut(a);
      const std::size_t count = pieces_.size();
      for (std::size_t n = 0; n < count; ++n) {
        const Piece& piece = pieces_[walks_back() ? count - 1 - n : n];
        Area part = a;
        part.key += piece.key, part.keys = piece.end - piece.key;
        part.query += piece.strip * kStrip;
        part.queries = std::min(piece.past * kStrip, a.queries) - piece.strip * kStrip;
        f(part, bits_of(piece, part.queries), Walked{t, tiles, n == 0});
      }
    }
  }
  /// Fetches what the tile after the next will read, and in a backward write, of arrays with a number for every pair;
  /// that tile may be one of `next`, the block to come (no queries: there is none). One tile ahead is too late where
  /// the rows lie in pages of their own: a backward with a dense bias took 4 % longer.
  void fetch_pairs(const Area& block, const Area& next, Range within, const Walked& w) {
    constexpr int kTilesAhead = 2;
    if (p->bias.empty()) return;
    const bool here = w.index + kTilesAhead < w.count;
    if (!here && next.queries == 0) return;
    const Area a = tile_at(here ? block : next, within, w.index + kTilesAhead - (here ? 0 : w.count));
    if (a.keys == 0) return;
    for (const auto& b : p->bias) {
      for (const auto& array : b.arrays) {
        if (!array.per_pair(*s)) continue;
        const std::ptrdiff_t first = array.at(a) + std::ptrdiff_t(a.query) * s->num_keys + a.key;
        ahead.add(array.value + first, s->num_keys, a.queries, a.keys);
        if (grad) ahead.add(array.grad + first, s->num_keys, a.queries, a.keys);
      }
    }
  }
  /// Fetches all of them.
  void fetch_rows(Matrix<const T> rows) { ahead.add(rows.data, rows.stride, rows.rows, rows.cols); }
  /// Fetches the share of `rows` that falls to this tile, so that a walk fetches all of them.
  void fetch_share(Matrix<const T> rows, const Walked& w) {
    if (!rows.data) return;
    const int begin = rows.rows * w.index / w.count, end = rows.rows * (w.index + 1) / w.count;
    ahead.add(rows[begin], rows.stride, end - begin, rows.cols);
  }
  /// Notes which rows of the block and, if used is given, which keys take part in a piece that begins at query `lane`.
  static void see(const Area& a, int lane, const std::uint64_t* bits, std::uint64_t& seen, char* used) {
    const std::uint64_t all = ~std::uint64_t(0) >> (kLanes - a.queries);
    if (!bits) {
      seen |= all << lane;
      if (used) std::memset(used + a.key, 1, std::size_t(a.keys));
      return;
    }
    for (int j = 0; j < a.keys; ++j) {
      const std::uint64_t b = bits[j] & all;
      seen |= b << lane;
      if (used && b) used[a.key + j] = 1;
    }
  }

 private:
  /// Keys key .. end-1 of a tile against its strips strip .. past-1.
  struct Piece {
    int key, end, strip, past;
    int size() const { return (end - key) * (past - strip); }
    Piece with(const Piece& o) const {
      return {std::min(key, o.key), std::max(end, o.end), std::min(strip, o.strip), std::max(past, o.past)};
    }
  };
  /// What a piece costs before its first pair, in keys of one strip: calls of the stages, and sums that are read and
  /// written again; a score that is no product has more to prepare (tables of relative positions).
  int piece_cost() const { return p->score.stage->is_product() ? 24 : 48; }

  /// Cuts a partial tile into pieces along the keys, in strips of queries: runs of keys that the same strips see, and
  /// those joined that cost less together.
  ///
  ///     a window's edge   1111        one key a query   1000        a global query   1000
  ///     (keys down,       0111                          0100                         1000
  ///     strips across)    0011                          0010                         1111
  ///
  /// It needs no more than bits, since a mask may know no more: its blocks may be smaller than a tile, or a lambda all
  /// there is.
  void cut(const Area& a) {
    pieces_.clear();
    const std::uint64_t all = ~std::uint64_t(0) >> (kLanes - a.queries);
    const int cost = piece_cost();
    const bool whole = !grad && p->normalizer.stage->walk() == Walk::whole_rows;
    for (int j = 0; j < a.keys; ++j) {
      std::uint64_t seen = bits[std::size_t(j)] & all;
      if (seen == 0) continue;
      if (whole) seen = all;
      const Piece key{j, j + 1, std::countr_zero(seen) / kStrip, (kLanes - 1 - std::countl_zero(seen)) / kStrip + 1};
      if (!pieces_.empty()) {
        Piece& run = pieces_.back();
        if (run.strip == key.strip && run.past == key.past && (j - run.end) * (key.past - key.strip) <= cost) {
          run.end = j + 1;
          continue;
        }
      }
      pieces_.push_back(key);
    }
    std::size_t n = 0;
    for (const Piece run : pieces_) {
      pieces_[n++] = run;
      for (; n > 1; --n) {
        const Piece joined = pieces_[n - 2].with(pieces_[n - 1]);
        if (joined.size() > pieces_[n - 2].size() + pieces_[n - 1].size() + cost) break;
        pieces_[n - 2] = joined;
      }
    }
    pieces_.resize(n);
  }
  /// The piece's bits, from its first query on; null if all of its queries see all of its keys.
  const std::uint64_t* bits_of(const Piece& p, int queries) {
    const std::uint64_t all = ~std::uint64_t(0) >> (kLanes - queries);
    bool full = true;
    for (int j = p.key; j < p.end; ++j) {
      std::uint64_t& b = bits[std::size_t(j)];
      b = b >> (p.strip * kStrip) & all;
      full = full && b == all;
    }
    return full ? nullptr : &bits[std::size_t(p.key)];
  }

  bool walks_back() const { return p->normalizer.stage->walk() == Walk::last_key_first; }
  int count_tiles(Range keys) const {
    return keys.end > keys.begin ? (keys.end - keys.begin + p->tile_keys - 1) / p->tile_keys : 0;
  }
  Call<T> call(std::size_t stage) { return {std::span<const Parameter<T>>(parts_[stage]), &scratch_, &ahead}; }

  std::vector<std::vector<Parameter<T>>> parts_;  // position, score, biases, normalizer
  std::vector<T> scratch_;
  std::vector<Piece> pieces_;  // of the tile at hand
  Numbers<T> rows_;
};

/// Maps the keys of all (batch, key head) in parallel, kKeyPiece rows a task.
template <class T>
KeyRows<T> map_keys(const Problem<T>& p) {
  constexpr int kKeyPiece = 512;
  const AttendShape& s = p.shape;
  KeyRows<T> r;
  r.p = &p;
  r.mid_width = p.position.stage ? p.position.stage->width(Side::key, s.key_dim) : 0;
  r.out_width = p.score.stage->width(Side::key, r.mid_width ? r.mid_width : s.key_dim);
  const std::size_t rows = std::size_t(s.batch_size) * s.num_kv_heads * s.num_keys;
  if (r.mid_width) r.mid_memory.resize(rows * r.mid_width);
  if (r.out_width) r.out_memory.resize(rows * r.out_width);
  if (!r.mid_width && !r.out_width) return r;
  const int pieces = (s.num_keys + kKeyPiece - 1) / kKeyPiece;
  parallel_for(std::int64_t(s.batch_size) * s.num_kv_heads * pieces, [&](std::int64_t t) {
    const int piece = int(t % pieces), kv = int(t / pieces % s.num_kv_heads), b = int(t / pieces / s.num_kv_heads);
    thread_local Task<T> k;
    k.reset(p, false);
    k.bind(b, kv * s.group(), nullptr);
    Area area = k.head;
    area.key = piece * kKeyPiece;
    area.keys = std::min(kKeyPiece, s.num_keys - area.key);
    auto writable = [](Matrix<const T> m) { return Matrix<T>{const_cast<T*>(m.data), m.rows, m.cols, m.stride}; };
    if (r.mid_width) {
      auto c = k.position_call();
      p.position.stage->map(Side::key, r.in(b, kv).part(area.key, area.keys),
                            writable(r.mid(b, kv)).part(area.key, area.keys), area, c);
    }
    if (r.out_width) {
      auto c = k.score_call();
      p.score.stage->map(Side::key, r.mid(b, kv).part(area.key, area.keys),
                         writable(r.out(b, kv)).part(area.key, area.keys), area, c);
    }
  });
  return r;
}

}  // namespace attune::engine
