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
//   6. any mask in pieces (plain_cut.hpp) instead of the stages' tiles: for each visible pair, a dilated window 2.1
//   times
//      faster, Longformer's 1.4, single random pairs 1.2
// What did not help: docs/decisions/0009-beside-the-products.md, 0016-backward-beside-the-products.md and
// 0027-masks-in-pieces.md.
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

#include "kernels/plain_gradients-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

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
HWY_NOINLINE void begin_block(BackwardBlock<T>& b, const T* lse, const T* deltas) {
  const PlainBackward<T>& in = b.in;
  const T scale2 = T(double(in.scale) * kLog2E);
  transpose_into<false, false>(b.query, in.query_stride, b.queries, in.head_dim, b.queries_t, b.width, &scale2);
  transpose_into<false, false>(b.dout, in.dout_stride, b.queries, in.value_dim, b.dout_t, b.width, &in.scale);
  for (int i = 0; i < b.width; ++i) {
    // Lanes past the last query hold nothing that is read; zeros keep them finite.
    b.lse[i] = i < b.queries ? T(lse[i] * T(kLog2E)) : T(0);
    b.delta[i] = i < b.queries ? deltas[i] : T(0);
  }
  b.far = false;
  for (int i = 0; i < b.queries; ++i) b.far |= std::abs(b.lse[i]) > kFarLse<T>;
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
