// The tiles of the plain backward: P and dS of a tile, and what it adds to the gradients, for keys that a whole block
// of queries sees, keys at an edge of a window, and pieces that a mask cut out. Included once per target.
#if defined(ATTUNE_KERNELS_PLAIN_GRADIENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_PLAIN_GRADIENTS_INL_H_
#undef ATTUNE_KERNELS_PLAIN_GRADIENTS_INL_H_
#else
#define ATTUNE_KERNELS_PLAIN_GRADIENTS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

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
  bool far = false;        // some lse is: see kFarLse
};

/// An lse of this size is rounded by 2^-11 and more, and so are the logits that are to be taken relative to it: a
/// weight may come out above 1, and far above where logits reach 1e9 in float32. From here on weights are cut at 1.
template <class T>
constexpr T kFarLse = T(1) / (T(2048) * std::numeric_limits<T>::epsilon());

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

/// Logits of such a block to probs, keys first .. last-1 of a tile, queries lane .. end-1.
template <class T>
HWY_NOINLINE void weights_of_far(const BackwardBlock<T>& b, int first, int last, int lane, int end) {
  for (int j = first; j < last; ++j) {
    for (int c = lane; c < end; c += kLaneCount<T>) {
      T* at = b.probs + std::ptrdiff_t(j) * b.width + c;
      const Vec<T> power = hn::Sub(load(at), load(b.lse + c));
      store(exp2(hn::IfThenElse(hn::Gt(power, zero<T>()), zero<T>(), power)), at);  // NaN stays
    }
  }
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
               b.queries_t + lane, b.width, Finish<T>{probs, b.width, b.far ? nullptr : b.lse + lane, nullptr}, ahead);
  if (b.far) weights_of_far(b, first, last, lane, end);
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

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
