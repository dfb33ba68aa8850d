// The forward of the plain path: one block of queries against all its keys, tile by tile, with the online softmax
// (arXiv:1805.02867).
//
// The ladder, in points of the multiply-add peak with AVX-512 at 8 heads of 1024 x 1024 x 64 (256 heads of 128 x 128 x
// 32), interleaved runs on a busy machine:
//   1. S and O by the broadcast product; the running maximum taken while S is in registers; one pass for exponentials
//      and sums; O rescaled while its accumulator is loaded: 86 to 88 (64 to 68)
//   2. whole vectors leave a transpose, the next queries and the rows of the output are fetched during the last
//      products, and 2^x is guarded by a mask instead of a maximum: 2 more (5 to 7 more)
//   3. the next head's keys and values are fetched too, all of it spread evenly over the blocks of those products:
//      none (6 more)
//   4. weights leave the registers where the logits are (plain_weights-inl.h): a reference that stays instead of a
//      maximum that is followed, 2 more (2 more; 4 where caches hold it); even blocks of rows in products: 0.4 (1 more)
//   5. the squares of a causal diagonal likewise: 0.8 more where causal; short causal heads fetch the next head's keys
//      in their longest block instead of their last: none (4 more where causal)
//   6. any mask in pieces (plain_cut.hpp) instead of the stages' tiles: for each visible pair, a dilated window 2.0
//   times
//      faster, Longformer's 1.4, single random pairs 1.3
// What did not help: docs/decisions/0009-beside-the-products.md, 0015-a-reference-that-stays.md,
// 0027-masks-in-pieces.md.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/plain_forward.cpp"
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "kernels/dispatch.hpp"
#include "kernels/plain_attention.hpp"
#include "kernels/tile_plan.hpp"

#include "hwy/foreach_target.h"

#include "kernels/plain_tiles-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// Entropy, variance and extremes of each row from its moments, relative to the largest logit: exact where logits are
/// large, until they are so large that rounding is all there is: then still within what a row of so many keys can have.
/// Bit i of `seeing`: row i sees a key.
template <class T>
HWY_NOINLINE void describe_rows(const ForwardBlock<T>& b, std::uint64_t seeing) {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const PlainForward<T>& in = b.in;
  const Vec<T> nats = set(T(kLn2));
  for (int i = 0; i < b.width; i += kLaneCount<T>) {
    const int n = std::min(kLaneCount<T>, in.queries - i);
    const Vec<T> sum = load(b.sum + i), largest = load(b.largest + i), one = load(b.first + i);
    const Vec<T> shift = hn::Neg(hn::Add(load(b.start + i), largest)), moved = hn::MulAdd(shift, sum, one);
    const Vec<T> square = hn::MulAdd(shift, hn::Add(one, moved), load(b.second + i));
    const Vec<T> mean = hn::Mul(hn::Div(moved, sum), nats);
    const Vec<T> second = hn::Mul(hn::Div(square, sum), set(T(kLn2 * kLn2)));
    store_first(hn::Mul(largest, nats), in.largest + i, n);
    store_first(hn::Mul(load(b.smallest + i), nats), in.smallest + i, n);
    // Relative to the largest, whose own is 1.
    const Vec<T> weights = clamp_keep_nan<T>(hn::Mul(exp2(shift), sum), T(1), T(in.num_keys));
    const T most = std::log(T(in.num_keys));
    store_first(clamp_keep_nan<T>(hn::Sub(log(weights), mean), T(0), most), in.entropy + i, n);
    store_first(hn::Div(set(T(1)), weights), in.largest_prob + i, n);
    store_first(clamp_keep_nan<T>(hn::NegMulAdd(mean, mean, second), T(0), kInfinity), in.variance + i, n);
  }
  for (int i = 0; i < in.queries; ++i) {
    if (seeing >> i & 1) continue;
    in.largest[i] = -kInfinity, in.smallest[i] = kInfinity, in.entropy[i] = in.variance[i] = in.largest_prob[i] = T(0);
  }
}

/// Numbers of a row: ForwardBlock's from `sum` on.
constexpr int kRowNumbers = 13;

/// Of keys and values of one head: up to here the processor's own fetching keeps up (4096 keys of width 64 run as fast
/// as 1024, 16384 lose a tenth).
constexpr std::int64_t kNearBytes = std::int64_t(4) << 20;

/// What a call writes and the next one reads, within the products of so many rows.
template <class T>
HWY_INLINE void fetch_for_next(const PlainForward<T>& in, const TilePlan& plan, int rows, Upcoming& ahead) {
  ahead.add(in.out, in.out_stride, in.queries, in.value_dim);
  ahead.add(in.next_query, in.query_stride, in.next_queries, in.head_dim);
  ahead.add(in.next_key, in.key_stride, std::min(in.next_keys, plan.keys), in.head_dim);
  ahead.add(in.next_value, in.value_stride, std::min(in.next_keys, plan.keys), in.value_dim);
  ahead.spread(rows);
}

/// Of a block: which rows see a key, and in how many tiles the keys were.
struct Walked {
  std::uint64_t seeing;
  int tiles;
};

/// The tiles of a block: all, causal or a window.
template <class T>
HWY_INLINE Walked walk_range(const ForwardBlock<T>& b, const TilePlan& plan) {
  const PlainForward<T>& in = b.in;
  const Visible visible = visible_keys(in.causal, in.position, in.queries, in.num_keys, in.span);
  // Tiles that all queries see come first: they begin the output, and rows that have a reference go faster.
  if (visible.full_begin >= visible.full_end) std::fill(b.out, b.out + std::ptrdiff_t(in.value_dim) * b.width, T(0));
  // During the last tile and those of the diagonal.
  Upcoming ahead;
  const int inner = visible.full_end - visible.full_begin,
            edge = visible.end - visible.full_end + visible.full_begin - visible.begin;
  const int last_keys = inner > 0 ? (inner - 1) % plan.keys + 1 : 0;
  fetch_for_next(in, plan,
                 (last_keys + (inner > 0 ? in.value_dim : 0)) / block_rows(kMaxVectors) +
                     edge / kStrip * (2 + in.value_dim / block_rows(1)),
                 ahead);
  // Keys and values beyond the nearer caches come from far away: the next tile is fetched during this one.
  const bool far = std::int64_t(in.num_keys) * (in.head_dim + in.value_dim) * int(sizeof(T)) > kNearBytes;
  for (int key = visible.full_begin; key < visible.full_end; key += plan.keys) {
    const bool first = key == visible.full_begin, last = key + plan.keys >= visible.full_end;
    Upcoming tile;
    if (far && !last) {
      const std::ptrdiff_t next = std::ptrdiff_t(key) + plan.keys;
      const int rows = std::min(plan.keys, visible.full_end - int(next));
      tile.add(in.key + next * in.key_stride, in.key_stride, rows, in.head_dim);
      tile.add(in.value + next * in.value_stride, in.value_stride, rows, in.value_dim);
      tile.spread((plan.keys + in.value_dim) / block_rows(kMaxVectors));
    }
    full_tile(b, key, std::min(plan.keys, visible.full_end - key), first, last ? &ahead : far ? &tile : nullptr);
  }
  for (int key = visible.begin; key < visible.full_begin; key += plan.keys)
    partial_tile(b, key, std::min(plan.keys, visible.full_begin - key), &ahead);
  for (int key = visible.full_end; key < visible.end; key += plan.keys)
    partial_tile(b, key, std::min(plan.keys, visible.end - key), &ahead);

  // Rows that see no key are some at the front and at the back.
  const int tiles = (visible.end - visible.begin + plan.keys - 1) / plan.keys;
  if (tiles <= 0) return {0, 0};
  const int empty = in.causal ? std::clamp(-in.position, 0, in.queries) : 0;
  const std::int64_t past = in.span > 0 ? std::int64_t(in.num_keys) - in.position + in.span - 1 : in.queries;
  return {lanes_between(empty, int(std::clamp<std::int64_t>(past, empty, in.queries))), tiles};
}

/// The tiles that a mask cut. `in` is the call of the block b, whose keys and values stand for those of a piece that is
/// gathered into `memory`.
template <class T>
HWY_INLINE Walked walk_pieces(const ForwardBlock<T>& b, PlainForward<T>& in, const TilePlan& plan, T* memory) {
  const PlainForward<T> given = in;
  const std::span<const PlainPiece> pieces = in.cut->pieces(0, 0, in.queries, 0, in.num_keys, plan.keys);
  // A piece that all lanes see, if there is one, comes first and begins the output.
  const auto whole = [&](const PlainPiece& p) { return !p.bits && p.first == 0 && p.end >= b.width; };
  const bool fresh = !pieces.empty() && whole(pieces.front());
  if (!fresh) std::fill(b.out, b.out + std::ptrdiff_t(in.value_dim) * b.width, T(0));
  int rows = 0;
  for (const PlainPiece& p : pieces) rows += p.keys + in.value_dim;
  Upcoming ahead;
  fetch_for_next(in, plan, rows / block_rows(kMaxVectors), ahead);
  std::uint64_t seeing = 0;
  for (const PlainPiece& p : pieces) {
    if (p.rows) {
      T* const values = memory + std::ptrdiff_t(plan.keys) * in.head_dim;
      gather_rows(given.key, given.key_stride, p.rows, p.keys, in.head_dim, memory);
      gather_rows(given.value, given.value_stride, p.rows, p.keys, in.value_dim, values);
      in.key = memory, in.key_stride = in.head_dim, in.value = values, in.value_stride = in.value_dim;
    }
    const int key = p.rows ? 0 : p.key;
    if (whole(p)) {
      full_tile(b, key, p.keys, fresh && &p == pieces.data(), &ahead);
    } else {
      piece_tile(b, p, key, &ahead);
    }
    if (p.rows)
      in.key = given.key, in.key_stride = given.key_stride, in.value = given.value,
      in.value_stride = given.value_stride;
    std::uint64_t seen = p.bits ? 0 : ~std::uint64_t(0);
    for (int j = 0; p.bits && j < p.keys; ++j) seen |= p.bits[j];
    seeing |= seen & lanes_between(p.first, std::min(p.end, in.queries));
  }
  return {seeing, int(pieces.size())};
}

template <class T>
HWY_INLINE void forward(const PlainForward<T>& call, const TilePlan& plan, T* workspace) {
  constexpr int kL = kLaneCount<T>;
  PlainForward<T> in = call;
  const int width = whole_vectors<T>(in.queries);
  ForwardBlock<T> b{
      .in = in, .width = width, .dropped = {in.dropout.seed, in.dropout.batch, in.dropout.head, in.dropout.threshold}};
  // Neighbouring blocks are alike: after one whose tiles had to be done twice, a few do not try. This changes no bit.
  static thread_local int wary = 0;
  b.misses = wary > 0 ? kMisses : 0;
  b.queries = workspace;
  b.weights = b.queries + std::ptrdiff_t(in.head_dim) * width;
  b.out = b.weights + std::ptrdiff_t(plan.keys) * width;
  b.sum = b.out + std::ptrdiff_t(in.value_dim) * width;
  b.start = b.sum + width;
  b.next = b.start + width;
  b.factor = b.next + width;
  b.before = b.factor + width;
  std::fill(b.sum, b.sum + 2 * width, T(0));  // and the references
  if (in.entropy) {
    b.first = b.sum + kMomentsBehind * width;
    b.second = b.first + width;
    b.smallest = b.second + width;
    b.largest = b.smallest + width;
    b.kept = b.largest + width;
    clear_moments(b);
  }

  const T scale = T(double(in.scale) * kLog2E);
  transpose_into<false, false>(in.query, in.query_stride, in.queries, in.head_dim, b.queries, width, &scale);
  for (int d = 0; d < in.head_dim; ++d)
    std::fill(b.queries + std::ptrdiff_t(d) * width + in.queries, b.queries + std::ptrdiff_t(d + 1) * width, T(0));
  const auto [seeing, tiles] =
      in.cut ? walk_pieces(b, in, plan, b.sum + std::ptrdiff_t(kRowNumbers) * width) : walk_range(b, plan);
  wary = wary > 0 ? wary - 1 : b.misses > 0 && b.misses >= std::min(tiles, kMisses) ? 8 : 0;

  // Of rows that see no key, out 0 and lse -inf are chosen, not computed.
  const bool all = seeing == lanes_between(0, in.queries);
  if (in.lse) {
    for (int i = 0; i < width; i += kL) {
      const Vec<T> lse = hn::NegMulAdd(load(b.start + i), set(T(kLn2)), log(load(b.sum + i)));
      store_first(lse, in.lse + i, std::min(kL, in.queries - i));
    }
    for (int i = 0; !all && i < in.queries; ++i) {
      if (!(seeing >> i & 1)) in.lse[i] = -std::numeric_limits<T>::infinity();
    }
  }
  if (in.entropy) describe_rows(b, seeing);
  for (int i = 0; i < width; i += kL) store(hn::Div(set(T(1)), load(b.sum + i)), b.factor + i);
  for (int i = 0; !all && i < in.queries; ++i) {
    if (!(seeing >> i & 1)) b.factor[i] = T(0);
  }
  transpose_into<false, true>(b.out, width, in.value_dim, in.queries, in.out, in.out_stride, b.factor);
}

void plain_forward_f32(const PlainForward<float>& in, const TilePlan& plan, float* workspace) {
  forward(in, plan, workspace);
}
void plain_forward_f64(const PlainForward<double>& in, const TilePlan& plan, double* workspace) {
  forward(in, plan, workspace);
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

void plain_forward(const PlainForward<float>& in, std::byte* workspace) {
  ATTUNE_DISPATCH(plain_forward_f32)
  (in, forward_plan<float>(in.head_dim, in.value_dim, in.causal), reinterpret_cast<float*>(workspace));
}
void plain_forward(const PlainForward<double>& in, std::byte* workspace) {
  ATTUNE_DISPATCH(plain_forward_f64)
  (in, forward_plan<double>(in.head_dim, in.value_dim, in.causal), reinterpret_cast<double*>(workspace));
}

template <class T>
int plain_block_queries(int head_dim, int value_dim, bool causal) {
  return forward_plan<T>(head_dim, value_dim, causal).queries;
}
template int plain_block_queries<float>(int, int, bool);
template int plain_block_queries<double>(int, int, bool);

template <class T>
std::size_t plain_forward_workspace(int head_dim, int value_dim) {
  std::size_t most = 0;
  for (bool causal : {false, true}) {
    const TilePlan plan = forward_plan<T>(head_dim, value_dim, causal);
    const std::size_t widths = std::size_t(head_dim) + std::size_t(value_dim),
                      keys = std::size_t(std::max(plan.keys, 16));
    most = std::max(most, ((widths + keys + 13) * std::size_t(plan.queries) + keys * widths) * sizeof(T));
  }
  return most;
}
template std::size_t plain_forward_workspace<float>(int, int);
template std::size_t plain_forward_workspace<double>(int, int);

}  // namespace attune::kernels
#endif
