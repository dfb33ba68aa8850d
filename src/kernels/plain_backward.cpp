// The backward of the plain path, for all query heads of one key head: logits are recomputed tile by tile, P = 2^(S -
// lse), and five products per tile run on the broadcast kernel:
//
//   S  [keys][queries] = K Q^T            forward again
//   dP [keys][queries] = V dout^T         from out = P^T V
//   dV [keys][value_dim]  += P dout
//   dK [keys][head_dim]   += dS Q         dS = scale * P (dP - delta), from P = softmax(S)
//   dQ [queries][head_dim] += dS^T K
//
// Only Q and dout of one block are transposed; gradients are added where they lie. Keys are taken in super-blocks whose
// rows and gradients stay in the second-level cache while all blocks of queries pass.
//
// The ladder, in points of the multiply-add peak with AVX-512 at 8 heads of 1024 x 1024 x 64 (256 heads of 128 x 128 x
// 32; the same causal), interleaved runs on a busy machine:
//   1. five broadcast products a tile, one pass between them for P and dS; super-blocks; the next block's rows and the
//      next head's first ones fetched meanwhile: 87 to 90 (79 to 82; 62)
//   2. P and dS leave the registers where S and dP are: 0 to 3 more, by the addresses of the tiles (0 to 4; none)
//   3. delta taken where a block is met, gradients fetched too, in all products: 0 to 1 more (1.4; 0.7)
//   4. gradients at an edge in steps of a block of rows, and the next tile's keys fetched: causal 0.5 more (0.3; 3)
//   5. fetched by lines, not rows: none (2; 2)
// What did not help: docs/decisions/0009-beside-the-products.md and 0016-backward-beside-the-products.md.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/plain_backward.cpp"
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <type_traits>

#include "kernels/dispatch.hpp"
#include "kernels/plain_attention.hpp"
#include "kernels/tile_plan.hpp"

#include "hwy/foreach_target.h"

#include "kernels/dropout-inl.h"
#include "kernels/plain_pieces-inl.h"
#include "kernels/tile_product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// One block of queries of one head in the backward.
template <class T>
struct BackwardBlock {
  const PlainBackward<T>& in;
  int queries = 0, width = 0;  // width: rounded up to whole vectors
  Dropped dropped;
  int first_query = 0;                        // row 0 in dropout's counter
  int position = 0;                           // row i sees key j iff j <= position + i, where causal
  const T *query = nullptr, *dout = nullptr;  // the block's rows where they lie
  T* dquery = nullptr;
  T* queries_t = nullptr;  // [head_dim][width], times scale * log2(e)
  T* dout_t = nullptr;     // [value_dim][width], times scale
  T* probs = nullptr;      // [tile keys][width]
  T* dlogits = nullptr;    // [tile keys][width], times scale
  T* lse = nullptr;        // [width], in powers of two
  T* delta = nullptr;      // [width], times scale
};

/// What the products S and dP do to their sums in registers: probs = 2^(S - lse), then dlogits = probs * (scale * dP -
/// scale * delta). With dropout the gradients of kept weights come between, so that scale * dP is stored as it is.
template <class T>
struct Finish {
  T* to;                 // [tile keys][width], at the first key and lane
  std::ptrdiff_t width;  // elements from key to key
  const T* row;          // lse or delta [width], at the first lane; null: keep the sums
  const T* probs;        // for dlogits: the same place in probs; null: write probs
  template <class Sums>
  HWY_INLINE void operator()(const Sums& sum, int first, int column) const {
    constexpr int kRows = int(std::extent_v<Sums, 0>), kVectors = int(std::extent_v<Sums, 1>), kL = kLaneCount<T>;
    const std::ptrdiff_t at = first * width + column;
    T* c = to + at;
    if (!row) {
      ATTUNE_UNROLL for (int i = 0; i < kRows; ++i) {
        ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) store(sum[i][j], c + i * width + j * kL);
      }
      return;
    }
    const T* r = row + column;
    if (!probs) {
      ATTUNE_UNROLL for (int i = 0; i < kRows; ++i) {
        ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j)
            store(exp2(hn::Sub(sum[i][j], load(r + j * kL))), c + i * width + j * kL);
      }
    } else {
      const T* p = probs + at;
      ATTUNE_UNROLL for (int i = 0; i < kRows; ++i) {
        ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j)
            store(hn::Mul(load(p + i * width + j * kL), hn::Sub(sum[i][j], load(r + j * kL))), c + i * width + j * kL);
      }
    }
  }
};

/// Drops what was dropped in the forward from keys first .. last-1 of a tile at `key`, queries lane .. end-1.
template <class T>
HWY_INLINE void drop_again(const BackwardBlock<T>& b, T* x, int key, int first, int last, int lane, int end) {
  drop_tile(x + std::ptrdiff_t(first) * b.width + lane, b.width, b.dropped, b.first_query + lane, end - lane,
            key + first, last - first);
}

/// probs and dlogits of keys first .. last-1 of the tile at `key`, for the queries lane .. end-1.
template <class T>
HWY_NOINLINE void weights_and_dlogits(const BackwardBlock<T>& b, int key, int first, int last, int lane, int end,
                                      Upcoming* ahead) {
  const PlainBackward<T>& in = b.in;
  const bool drops = b.dropped.threshold < 65536;
  T* const probs = b.probs + std::ptrdiff_t(first) * b.width + lane;
  T* const dlogits = b.dlogits + std::ptrdiff_t(first) * b.width + lane;
  product_then(last - first, end - lane, in.head_dim, in.key + (key + first) * in.key_stride, in.key_stride, 1,
               b.queries_t + lane, b.width, Finish<T>{probs, b.width, b.lse + lane, nullptr}, ahead);
  product_then(last - first, end - lane, in.value_dim, in.value + (key + first) * in.value_stride, in.value_stride, 1,
               b.dout_t + lane, b.width, Finish<T>{dlogits, b.width, drops ? nullptr : b.delta + lane, probs}, ahead);
  if (!drops) return;
  drop_again(b, b.dlogits, key, first, last, lane, end);
  for (int j = first; j < last; ++j) {
    const std::ptrdiff_t row = std::ptrdiff_t(j) * b.width;
    for (int c = lane; c < end; c += kLaneCount<T>)
      store(hn::Mul(load(b.probs + row + c), hn::Sub(load(b.dlogits + row + c), load(b.delta + c))),
            b.dlogits + row + c);
  }
  drop_again(b, b.probs, key, first, last, lane, end);
}

/// At an edge: weights and gradients of hidden pairs become 0 by selection, for queries lane .. end-1.
template <class T>
HWY_INLINE void hide(const BackwardBlock<T>& b, int first, int last, int from, int lane, int end) {
  for (int c = lane; c < end; c += kLaneCount<T>) {
    if (all_see<T>(c, from + first, from + last - 1, b.in.span)) continue;
    std::ptrdiff_t at = std::ptrdiff_t(first) * b.width + c;
    for (int j = first; j < last; ++j, at += b.width) {
      const auto seen = sees<T>(c, from + j, b.in.span);
      store(hn::IfThenElseZero(seen, load(b.probs + at)), b.probs + at);
      store(hn::IfThenElseZero(seen, load(b.dlogits + at)), b.dlogits + at);
    }
  }
}

/// dV += P dout and dK += dS Q for keys first .. last-1 of the tile, from the queries lane .. end-1. Key j is seen by
/// the queries stairs.first + j .. stairs.end + j - 1.
template <class T>
HWY_NOINLINE void add_key_gradients(const BackwardBlock<T>& b, int key, int first, int last, int lane, int end,
                                    Stairs stairs, Upcoming* ahead) {
  const PlainBackward<T>& in = b.in;
  const std::ptrdiff_t row = std::ptrdiff_t(first) * b.width + lane;
  stairs.first += first - lane, stairs.end += first - lane;
  if (in.dvalue) {
    product_stairs(last - first, in.value_dim, end - lane, b.probs + row, b.width, 1, b.dout + lane * in.dout_stride,
                   in.dout_stride, in.dvalue + (key + first) * in.dvalue_stride, in.dvalue_stride, stairs, ahead);
  }
  if (in.dkey) {
    product_stairs(last - first, in.head_dim, end - lane, b.dlogits + row, b.width, 1, b.query + lane * in.query_stride,
                   in.query_stride, in.dkey + (key + first) * in.dkey_stride, in.dkey_stride, stairs, ahead);
  }
}

/// dQ += dS^T K for queries first .. last-1, from the tile's keys j0 .. j1-1. Query i sees the keys stairs.first + i ..
/// stairs.end + i - 1.
template <class T>
HWY_NOINLINE void add_query_gradients(const BackwardBlock<T>& b, int key, int j0, int j1, int first, int last,
                                      Stairs stairs, Upcoming* ahead) {
  const PlainBackward<T>& in = b.in;
  if (!in.dquery) return;
  stairs.first += first - j0, stairs.end += first - j0;
  product_stairs(last - first, in.head_dim, j1 - j0, b.dlogits + std::ptrdiff_t(j0) * b.width + first, 1, b.width,
                 in.key + (key + j0) * in.key_stride, in.key_stride, b.dquery + first * in.dquery_stride,
                 in.dquery_stride, stairs, ahead);
}

/// All three of key j of the tile at `key` and query i. Where a tile holds a NaN or infinity that some pair does not
/// see, its gradients are added pair by pair: 0 * NaN never happens because hidden pairs are not visited.
template <class T>
HWY_NOINLINE void add_pair_gradients(const BackwardBlock<T>& b, int key, int j, int i) {
  const PlainBackward<T>& in = b.in;
  const T p = b.probs[std::ptrdiff_t(j) * b.width + i], s = b.dlogits[std::ptrdiff_t(j) * b.width + i];
  for (int d = 0; in.dvalue && d < in.value_dim; ++d)
    in.dvalue[(key + j) * in.dvalue_stride + d] += p * b.dout[i * in.dout_stride + d];
  for (int d = 0; in.dkey && d < in.head_dim; ++d)
    in.dkey[(key + j) * in.dkey_stride + d] += s * b.query[i * in.query_stride + d];
  for (int d = 0; in.dquery && d < in.head_dim; ++d)
    b.dquery[i * in.dquery_stride + d] += s * in.key[(key + j) * in.key_stride + d];
}
template <class T>
HWY_NOINLINE void add_visible_gradients(const BackwardBlock<T>& b, int key, int keys, int from) {
  for (int j = 0; j < keys; ++j) {
    const int end = b.in.span > 0 ? std::min(b.queries, from + j + b.in.span) : b.queries;
    for (int i = std::max(0, from + j); i < end; ++i) add_pair_gradients(b, key, j, i);
  }
}

/// Keys at an edge of what is visible: key j is seen by the queries from j - position on, `span` of them where there is
/// a window.
template <class T>
HWY_NOINLINE void partial_tile(const BackwardBlock<T>& b, int key, int keys, Upcoming* keys_ahead, Upcoming* ahead) {
  const PlainBackward<T>& in = b.in;
  const int from = key - b.position, first = strip_lane(from);
  const int last = std::min(b.queries, strip_end(from + keys - 1, in.span, b.width));
  if (first >= last) return;
  const Stairs queries_of_key{from, in.span > 0 ? from + in.span : Stairs::kFar};
  const Stairs keys_of_query{in.span > 0 ? 1 - from - in.span : -Stairs::kFar, 1 - from};
  // Query rows outside of these strips take no part; any other may be hidden from some of these keys.
  const bool finite = rows_finite(in.key + key * in.key_stride, keys, in.head_dim, in.key_stride) &&
                      rows_finite(b.query + first * in.query_stride, last - first, in.head_dim, in.query_stride) &&
                      rows_finite(b.dout + first * in.dout_stride, last - first, in.value_dim, in.dout_stride);
  for (int j0 = 0; j0 < keys; j0 += kStrip) {
    const int j1 = std::min(keys, j0 + kStrip);
    const int lane = strip_lane(from + j0), end = strip_end(from + j1 - 1, in.span, b.width);
    if (lane >= end) continue;
    weights_and_dlogits(b, key, j0, j1, lane, end, keys_ahead);
    hide(b, j0, j1, from, lane, end);
    if (finite) add_key_gradients(b, key, j0, j1, lane, std::min(end, b.queries), queries_of_key, ahead);
  }
  if (!finite) return add_visible_gradients(b, key, keys, from);
  for (int i = first; i < last; i += kStrip) {
    const int j0 = in.span > 0 ? std::max(0, i - from - in.span + 1) : 0, j1 = std::min(keys, i + kStrip - from);
    if (j0 < j1) add_query_gradients(b, key, j0, j1, i, std::min(last, i + kStrip), keys_of_query, ahead);
  }
}

/// Keys of which some lanes of the block see some; the first of them is row `key` of in.key.
template <class T>
HWY_NOINLINE void piece_tile(const BackwardBlock<T>& b, const PlainPiece& p, int key, Upcoming* ahead) {
  const PlainBackward<T>& in = b.in;
  const int end = std::min(p.end, b.width), last = std::min(p.end, b.queries);
  weights_and_dlogits(b, key, 0, p.keys, p.first, end, ahead);
  bool finite = true;
  if (p.bits) {
    for (int c = p.first; c < end; c += kLaneCount<T>) {
      const SeenBits<T> see{p.bits, c};
      for (int j = 0; j < p.keys; ++j) {
        const std::ptrdiff_t at = std::ptrdiff_t(j) * b.width + c;
        store(hn::IfThenElseZero(see(j), load(b.probs + at)), b.probs + at);
        store(hn::IfThenElseZero(see(j), load(b.dlogits + at)), b.dlogits + at);
      }
    }
    finite = rows_finite(in.key + key * in.key_stride, p.keys, in.head_dim, in.key_stride) &&
             rows_finite(b.query + p.first * in.query_stride, last - p.first, in.head_dim, in.query_stride) &&
             rows_finite(b.dout + p.first * in.dout_stride, last - p.first, in.value_dim, in.dout_stride);
  }
  if (finite) {
    add_key_gradients(b, key, 0, p.keys, p.first, last, {}, ahead);
    add_query_gradients(b, key, 0, p.keys, p.first, last, {}, ahead);
    return;
  }
  for (int j = 0; j < p.keys; ++j) {
    for (int i = p.first; i < last; ++i) {
      if (p.bits[j] >> i & 1) add_pair_gradients(b, key, j, i);
    }
  }
}

/// The block against keys first_key .. end_key-1 as a mask cuts them. `in` is the call of the block b, whose rows stand
/// for those of a piece that is gathered into `memory`.
template <class T>
HWY_INLINE void walk_pieces(const BackwardBlock<T>& b, PlainBackward<T>& in, std::span<const PlainPiece> pieces,
                            int most, T* memory, Upcoming* ahead) {
  const PlainBackward<T> given = in;
  T* const values = memory + std::ptrdiff_t(most) * in.head_dim;
  T* const dkeys = values + std::ptrdiff_t(most) * in.value_dim;
  T* const dvalues = dkeys + std::ptrdiff_t(most) * in.head_dim;
  for (const PlainPiece& p : pieces) {
    if (!p.rows) {
      piece_tile(b, p, p.key, ahead);
      continue;
    }
    gather_rows(given.key, given.key_stride, p.rows, p.keys, in.head_dim, memory);
    gather_rows(given.value, given.value_stride, p.rows, p.keys, in.value_dim, values);
    in.key = memory, in.key_stride = in.dkey_stride = in.head_dim;
    in.value = values, in.value_stride = in.dvalue_stride = in.value_dim;
    std::fill(dkeys, dkeys + std::ptrdiff_t(p.keys) * in.head_dim, T(0));
    std::fill(dvalues, dvalues + std::ptrdiff_t(p.keys) * in.value_dim, T(0));
    in.dkey = given.dkey ? dkeys : nullptr, in.dvalue = given.dvalue ? dvalues : nullptr;
    piece_tile(b, p, 0, ahead);
    if (given.dkey) scatter_rows(dkeys, p.rows, p.keys, in.head_dim, given.dkey, given.dkey_stride);
    if (given.dvalue) scatter_rows(dvalues, p.rows, p.keys, in.value_dim, given.dvalue, given.dvalue_stride);
    in.key = given.key, in.key_stride = given.key_stride, in.value = given.value, in.value_stride = given.value_stride;
    in.dkey = given.dkey, in.dkey_stride = given.dkey_stride;
    in.dvalue = given.dvalue, in.dvalue_stride = given.dvalue_stride;
  }
}

template <class T>
HWY_INLINE T dot(const T* x, const T* y, int n) {
  constexpr int kL = kLaneCount<T>;
  Vec<T> sum = zero<T>();
  int c = 0;
  for (; c + kL <= n; c += kL) sum = hn::MulAdd(load(x + c), load(y + c), sum);
  if (c < n) sum = hn::MulAdd(load_first(x + c, n - c), load_first(y + c, n - c), sum);
  return hn::GetLane(hn::SumOfLanes(Lanes<T>(), sum));
}

/// delta[i] = scale * (rowsum(dout * out) - dlse) of the block's queries, kept in in.deltas for the parts that follow.
template <class T>
HWY_NOINLINE void block_deltas(const BackwardBlock<T>& b, const T* out, const T* dlse, T* deltas) {
  const PlainBackward<T>& in = b.in;
  for (int i = 0; i < b.queries; ++i) {
    const T delta = dot(out + i * in.out_stride, b.dout + i * in.dout_stride, in.value_dim);
    deltas[i] = in.scale * (dlse ? delta - dlse[i] : delta);
  }
}

/// Transposes the block's rows; lse and delta where the lanes find them.
template <class T>
HWY_NOINLINE void begin_block(const BackwardBlock<T>& b, const T* lse, const T* deltas) {
  const PlainBackward<T>& in = b.in;
  const T scale2 = T(double(in.scale) * kLog2E);
  transpose_into<false, false>(b.query, in.query_stride, b.queries, in.head_dim, b.queries_t, b.width, &scale2);
  transpose_into<false, false>(b.dout, in.dout_stride, b.queries, in.value_dim, b.dout_t, b.width, &in.scale);
  for (int i = 0; i < b.width; ++i) {
    // Lanes past the last query hold nothing that is read; zeros keep them finite.
    b.lse[i] = i < b.queries ? T(lse[i] * T(kLog2E)) : T(0);
    b.delta[i] = i < b.queries ? deltas[i] : T(0);
  }
  for (int c = b.queries; c < b.width; ++c) {
    for (int d = 0; d < in.head_dim; ++d) b.queries_t[std::ptrdiff_t(d) * b.width + c] = T(0);
    for (int d = 0; d < in.value_dim; ++d) b.dout_t[std::ptrdiff_t(d) * b.width + c] = T(0);
  }
}

/// What to fetch while a block's gradients are added: the next block's rows (their out too where delta is to come) ...
template <class T>
HWY_INLINE void add_next_block(const BackwardBlock<T>& b, const T* out, int rows, int most, Upcoming& ahead) {
  const PlainBackward<T>& in = b.in;
  ahead.add(b.query + most * in.query_stride, in.query_stride, rows, in.head_dim);
  ahead.add(b.dout + most * in.dout_stride, in.dout_stride, rows, in.value_dim);
  if (b.dquery) ahead.add(b.dquery + most * in.dquery_stride, in.dquery_stride, rows, in.head_dim);
  ahead.add(out, in.out_stride, rows, in.value_dim);
}
/// ... or the next call's first.
template <class T>
HWY_INLINE void add_next_call(const PlainBackward<T>& in, Upcoming& ahead) {
  const PlainUpcoming<T>& next = in.next;
  ahead.add(next.query, in.query_stride, next.queries, in.head_dim);
  ahead.add(next.dout, in.dout_stride, next.queries, in.value_dim);
  ahead.add(next.out, in.out_stride, next.queries, in.value_dim);
  ahead.add(next.dquery, in.dquery_stride, next.queries, in.head_dim);
  ahead.add(next.key, in.key_stride, next.keys, in.head_dim);
  ahead.add(next.value, in.value_stride, next.keys, in.value_dim);
  ahead.add(next.dkey, in.dkey_stride, next.keys, in.head_dim);
  ahead.add(next.dvalue, in.dvalue_stride, next.keys, in.value_dim);
}

/// The block against `keys` keys from `key` on: all of them seen by all queries, or at an edge. The next `rest` keys
/// are fetched during S and dP, since the first block of a super-block finds them in memory.
template <class T>
HWY_INLINE void tile(const BackwardBlock<T>& b, int key, int keys, bool full, int rest, Upcoming* ahead) {
  const PlainBackward<T>& in = b.in;
  Upcoming next;
  if (rest > 0) {
    const std::ptrdiff_t at = key + keys;
    next.add(in.key + at * in.key_stride, in.key_stride, rest, in.head_dim);
    next.add(in.value + at * in.value_stride, in.value_stride, rest, in.value_dim);
    if (in.dkey) next.add(in.dkey + at * in.dkey_stride, in.dkey_stride, rest, in.head_dim);
    if (in.dvalue) next.add(in.dvalue + at * in.dvalue_stride, in.dvalue_stride, rest, in.value_dim);
    next.spread(2 * keys / block_rows(2));
  }
  Upcoming* const keys_ahead = rest > 0 ? &next : nullptr;
  if (!full) return partial_tile(b, key, keys, keys_ahead, ahead);
  weights_and_dlogits(b, key, 0, keys, 0, b.width, keys_ahead);
  add_key_gradients(b, key, 0, keys, 0, b.queries, {}, ahead);
  add_query_gradients(b, key, 0, keys, 0, b.queries, {}, ahead);
}

template <class T>
HWY_INLINE void backward(const PlainBackward<T>& call, const TilePlan& plan, T* workspace) {
  PlainBackward<T> in = call;
  BackwardBlock<T> b{.in = in, .dropped = {in.dropout.seed, in.dropout.batch, in.dropout.head, in.dropout.threshold}};
  const int most = plan.queries, end_key = std::min(in.num_keys, in.end_key);
  b.queries_t = workspace;
  b.dout_t = b.queries_t + std::ptrdiff_t(in.head_dim) * most;
  b.probs = b.dout_t + std::ptrdiff_t(in.value_dim) * most;
  b.dlogits = b.probs + std::ptrdiff_t(plan.keys) * most;
  b.lse = b.dlogits + std::ptrdiff_t(plan.keys) * most;
  b.delta = b.lse + most;
  T* const gathered = b.delta + most;  // rows of keys and values of a tile and of their gradients
  T* const own_deltas = gathered + std::ptrdiff_t(plan.keys) * 2 * (in.head_dim + in.value_dim);  // [num_queries]
  const std::int64_t blocks = (in.num_queries + most - 1) / most;
  // Past the last query that sees a key before `key`.
  const auto past_of = [&](int key) {
    return in.span > 0 ? std::min<std::int64_t>(in.num_queries, std::int64_t(key) - 1 - in.position + in.span)
                       : std::int64_t(in.num_queries);
  };

  for (int head = 0; head < in.group; ++head) {
    b.dropped.head = std::uint32_t(in.dropout.head + head);
    const T* query = in.query + head * in.query_head;
    const T* dout = in.dout + head * in.dout_head;
    const T* out = in.out + head * in.out_head;
    const T* lse = in.lse + head * in.lse_head;
    const T* dlse = in.dlse ? in.dlse + head * in.lse_head : nullptr;
    T* const deltas = in.deltas ? in.deltas + std::ptrdiff_t(head) * in.num_queries : own_deltas;
    const std::int64_t earlier = in.first_key > 0 ? past_of(in.first_key) : 0;  // where parts before this one pass
    std::int64_t known = earlier;                                               // queries that have their delta
    for (int super = in.first_key; super < end_key; super += plan.super_keys) {
      const int super_end = std::min(end_key, super + plan.super_keys);
      // Where causal, the first query that sees the super-block's first key; in a window, past the last that sees its
      // last key.
      const std::int64_t first = in.causal ? std::max<std::int64_t>(0, std::int64_t(super) - in.position) : 0;
      const std::int64_t past = past_of(super_end);
      bool cold = true;  // the rows of keys and values
      for (std::int64_t q = first / most * most; q < past; q += most) {
        b.queries = int(std::min<std::int64_t>(most, in.num_queries - q));
        b.width = whole_vectors<T>(b.queries);
        b.position = in.position + int(q);
        b.first_query = in.dropout.query + int(q);
        b.query = query + q * in.query_stride;
        b.dout = dout + q * in.dout_stride;
        b.dquery = in.dquery ? in.dquery + head * in.dquery_head + q * in.dquery_stride : nullptr;
        if (q < earlier) in.turn.await(head * blocks + q / most);
        if (q >= known) {
          block_deltas(b, out + q * in.out_stride, dlse ? dlse + q : nullptr, deltas + q);
          known = q + b.queries;
        }
        std::span<const PlainPiece> pieces;
        if (in.cut) pieces = in.cut->pieces(head, int(q), b.queries, super, super_end, plan.keys);
        const Visible visible = visible_keys(in.causal, b.position, b.queries, super_end, in.span);
        const int begin = std::max(super, visible.begin), full_begin = std::max(super, visible.full_begin);
        if (in.cut ? pieces.empty() : visible.end <= begin) continue;
        begin_block(b, lse + q, deltas + q);
        Upcoming ahead;
        const std::int64_t next = q + most;
        if (next < past) {
          add_next_block(b, next < known ? nullptr : out + next * in.out_stride,
                         int(std::min<std::int64_t>(most, in.num_queries - next)), most, ahead);
        } else if (super_end == end_key && head + 1 == in.group) {
          add_next_call(in, ahead);
        }
        ahead.spread(3 * (visible.end - begin) / block_rows(2));
        if (in.cut) walk_pieces(b, in, pieces, plan.keys, gathered, &ahead);
        for (int key = begin; !in.cut && key < visible.end;) {
          const bool full = key >= full_begin && key < visible.full_end;
          const int end = full ? visible.full_end : key < full_begin ? full_begin : visible.end;
          const int keys = std::min(plan.keys, end - key);
          tile(b, key, keys, full, cold ? std::min(plan.keys, visible.end - key - keys) : 0, &ahead);
          key += keys;
        }
        cold = false;
        in.turn.pass(head * blocks + q / most);
      }
    }
  }
}

void plain_backward_f32(const PlainBackward<float>& in, const TilePlan& plan, float* workspace) {
  backward(in, plan, workspace);
}
void plain_backward_f64(const PlainBackward<double>& in, const TilePlan& plan, double* workspace) {
  backward(in, plan, workspace);
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

void plain_backward(const PlainBackward<float>& in, std::byte* workspace) {
  ATTUNE_DISPATCH(plain_backward_f32)
  (in, backward_plan<float>(in.head_dim, in.value_dim, in.causal), reinterpret_cast<float*>(workspace));
}
void plain_backward(const PlainBackward<double>& in, std::byte* workspace) {
  ATTUNE_DISPATCH(plain_backward_f64)
  (in, backward_plan<double>(in.head_dim, in.value_dim, in.causal), reinterpret_cast<double*>(workspace));
}

template <class T>
std::size_t plain_backward_workspace(int num_queries, int head_dim, int value_dim) {
  std::size_t most = 0;
  for (bool causal : {false, true}) {
    const TilePlan plan = backward_plan<T>(head_dim, value_dim, causal);
    const std::size_t widths = std::size_t(head_dim) + std::size_t(value_dim),
                      keys = std::size_t(std::max(plan.keys, 16));
    const std::size_t numbers = (widths + 2 * keys + 2) * std::size_t(plan.queries) + 2 * keys * widths;
    most = std::max(most, (numbers + std::size_t(num_queries)) * sizeof(T));
  }
  return most;
}
template std::size_t plain_backward_workspace<float>(int, int, int);
template std::size_t plain_backward_workspace<double>(int, int, int);

}  // namespace attune::kernels
#endif
