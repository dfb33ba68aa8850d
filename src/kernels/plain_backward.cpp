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
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/plain_backward.cpp"
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/dispatch.hpp"
#include "kernels/plain_attention.hpp"
#include "kernels/tile_plan.hpp"

#include "hwy/foreach_target.h"

#include "kernels/dropout-inl.h"
#include "kernels/plain-inl.h"

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

/// probs = 2^(S - lse), dlogits = probs * (scale * dP - scale * delta), both in place, for keys first .. last-1 of the
/// tile and one vector of queries from lane c on that see all of them.
template <class T>
HWY_INLINE void differentiate(const BackwardBlock<T>& b, int first, int last, int c) {
  const Vec<T> lse = load(b.lse + c), delta = load(b.delta + c);
  std::ptrdiff_t at = std::ptrdiff_t(first) * b.width + c;
  for (int j = first; j < last; ++j, at += b.width) {
    const Vec<T> e = exp2(hn::Sub(load(b.probs + at), lse));
    store(e, b.probs + at);
    store(hn::Mul(e, hn::Sub(load(b.dlogits + at), delta)), b.dlogits + at);
  }
}
/// The same at an edge, for queries lane .. end-1: hidden pairs become 0 by selection.
template <class T>
HWY_INLINE void differentiate_visible(const BackwardBlock<T>& b, int first, int last, int from, int lane, int end) {
  constexpr int kL = kLaneCount<T>;
  for (int c = lane; c < end; c += kL) {
    if (all_see<T>(c, from + first, from + last - 1, b.in.span)) {
      differentiate(b, first, last, c);
      continue;
    }
    const Vec<T> lse = load(b.lse + c), delta = load(b.delta + c);
    std::ptrdiff_t at = std::ptrdiff_t(first) * b.width + c;
    for (int j = first; j < last; ++j, at += b.width) {
      const auto seen = sees<T>(c, from + j, b.in.span);
      const Vec<T> e = hn::IfThenElseZero(seen, exp2(hn::Sub(load(b.probs + at), lse)));
      store(e, b.probs + at);
      store(hn::IfThenElseZero(seen, hn::Mul(e, hn::Sub(load(b.dlogits + at), delta))), b.dlogits + at);
    }
  }
}

/// Drops what was dropped in the forward from keys first .. last-1 of a tile at `key`, queries lane .. end-1.
template <class T>
HWY_INLINE void drop_again(const BackwardBlock<T>& b, T* x, int key, int first, int last, int lane, int end) {
  if (b.dropped.threshold < 65536)
    drop_tile(x + std::ptrdiff_t(first) * b.width + lane, b.width, b.dropped, b.first_query + lane, end - lane,
              key + first, last - first);
}

/// Recomputes S and dP of keys first .. last-1 of the tile at `key`, for the queries lane .. end-1.
template <class T>
HWY_INLINE void logits_and_dprobs(const BackwardBlock<T>& b, int key, int first, int last, int lane, int end,
                                  Upcoming* ahead) {
  const PlainBackward<T>& in = b.in;
  const std::ptrdiff_t row = std::ptrdiff_t(first) * b.width + lane;
  product_into<Into::overwrite, true>(last - first, end - lane, in.head_dim, in.key + (key + first) * in.key_stride,
                                      in.key_stride, 1, b.queries_t + lane, b.width, b.probs + row, b.width,
                                      static_cast<T*>(nullptr), ahead);
  product_into<Into::overwrite, true>(last - first, end - lane, in.value_dim,
                                      in.value + (key + first) * in.value_stride, in.value_stride, 1, b.dout_t + lane,
                                      b.width, b.dlogits + row, b.width, static_cast<T*>(nullptr), ahead);
  drop_again(b, b.dlogits, key, first, last, lane, end);
}

/// dV += P dout and dK += dS Q for keys first .. last-1 of the tile, from the queries lane .. end-1.
template <class T>
HWY_INLINE void add_key_gradients(const BackwardBlock<T>& b, int key, int first, int last, int lane, int end) {
  const PlainBackward<T>& in = b.in;
  const std::ptrdiff_t row = std::ptrdiff_t(first) * b.width + lane;
  if (in.dvalue) {
    product_into<Into::add>(last - first, in.value_dim, end - lane, b.probs + row, b.width, 1,
                            b.dout + lane * in.dout_stride, in.dout_stride,
                            in.dvalue + (key + first) * in.dvalue_stride, in.dvalue_stride);
  }
  if (in.dkey) {
    product_into<Into::add>(last - first, in.head_dim, end - lane, b.dlogits + row, b.width, 1,
                            b.query + lane * in.query_stride, in.query_stride, in.dkey + (key + first) * in.dkey_stride,
                            in.dkey_stride);
  }
}

/// dQ += dS^T K for queries first .. last-1, from the tile's keys j0 .. j1-1.
template <class T>
HWY_INLINE void add_query_gradients(const BackwardBlock<T>& b, int key, int j0, int j1, int first, int last) {
  const PlainBackward<T>& in = b.in;
  if (!in.dquery) return;
  product_into<Into::add>(last - first, in.head_dim, j1 - j0, b.dlogits + std::ptrdiff_t(j0) * b.width + first, 1,
                          b.width, in.key + (key + j0) * in.key_stride, in.key_stride,
                          b.dquery + first * in.dquery_stride, in.dquery_stride);
}

/// All three pair by pair, for a tile at an edge with a NaN or infinity that some pair does not see: 0 * NaN never
/// happens because hidden pairs are not visited.
template <class T>
HWY_NOINLINE void add_visible_gradients(const BackwardBlock<T>& b, int key, int keys, int from) {
  const PlainBackward<T>& in = b.in;
  for (int j = 0; j < keys; ++j) {
    const int end = in.span > 0 ? std::min(b.queries, from + j + in.span) : b.queries;
    for (int i = std::max(0, from + j); i < end; ++i) {
      const T p = b.probs[std::ptrdiff_t(j) * b.width + i], s = b.dlogits[std::ptrdiff_t(j) * b.width + i];
      for (int d = 0; in.dvalue && d < in.value_dim; ++d)
        in.dvalue[(key + j) * in.dvalue_stride + d] += p * b.dout[i * in.dout_stride + d];
      for (int d = 0; in.dkey && d < in.head_dim; ++d)
        in.dkey[(key + j) * in.dkey_stride + d] += s * b.query[i * in.query_stride + d];
      for (int d = 0; in.dquery && d < in.head_dim; ++d)
        b.dquery[i * in.dquery_stride + d] += s * in.key[(key + j) * in.key_stride + d];
    }
  }
}

/// Keys at an edge of what is visible: key j is seen by the queries from j - position on, `span` of them where there is
/// a window.
template <class T>
HWY_INLINE void partial_tile(const BackwardBlock<T>& b, int key, int keys, Upcoming* ahead) {
  const PlainBackward<T>& in = b.in;
  const int from = key - b.position, first = strip_lane(from);
  const int last = std::min(b.queries, strip_end(from + keys - 1, in.span, b.width));
  if (first >= last) return;
  // Query rows outside of these strips take no part; any other may be hidden from some of these keys.
  const bool finite = rows_finite(in.key + key * in.key_stride, keys, in.head_dim, in.key_stride) &&
                      rows_finite(b.query + first * in.query_stride, last - first, in.head_dim, in.query_stride) &&
                      rows_finite(b.dout + first * in.dout_stride, last - first, in.value_dim, in.dout_stride);
  for (int j0 = 0; j0 < keys; j0 += kStrip) {
    const int j1 = std::min(keys, j0 + kStrip);
    const int lane = strip_lane(from + j0), end = strip_end(from + j1 - 1, in.span, b.width);
    if (lane >= end) continue;
    logits_and_dprobs(b, key, j0, j1, lane, end, ahead);
    differentiate_visible(b, j0, j1, from, lane, end);
    drop_again(b, b.probs, key, j0, j1, lane, end);
    if (finite) add_key_gradients(b, key, j0, j1, lane, std::min(end, b.queries));
  }
  if (!finite) return add_visible_gradients(b, key, keys, from);
  for (int i = first; i < last; i += kStrip) {
    const int j0 = in.span > 0 ? std::max(0, i - from - in.span + 1) : 0, j1 = std::min(keys, i + kStrip - from);
    if (j0 < j1) add_query_gradients(b, key, j0, j1, i, std::min(last, i + kStrip));
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

template <class T>
HWY_INLINE void backward(const PlainBackward<T>& in, const TilePlan& plan, T* workspace) {
  BackwardBlock<T> b{.in = in, .dropped = {in.dropout.seed, in.dropout.batch, in.dropout.head, in.dropout.threshold}};
  const int most = plan.queries;
  b.queries_t = workspace;
  b.dout_t = b.queries_t + std::ptrdiff_t(in.head_dim) * most;
  b.probs = b.dout_t + std::ptrdiff_t(in.value_dim) * most;
  b.dlogits = b.probs + std::ptrdiff_t(plan.keys) * most;
  b.lse = b.dlogits + std::ptrdiff_t(plan.keys) * most;
  b.delta = b.lse + most;
  T* deltas = b.delta + most;  // [num_queries] of one head, times scale
  const T scale2 = T(double(in.scale) * kLog2E);

  for (int head = 0; head < in.group; ++head) {
    b.dropped.head = std::uint32_t(in.dropout.head + head);
    const T* query = in.query + head * in.query_head;
    const T* dout = in.dout + head * in.dout_head;
    const T* out = in.out + head * in.out_head;
    const T* lse = in.lse + head * in.lse_head;
    const T* dlse = in.dlse ? in.dlse + head * in.lse_head : nullptr;
    for (int i = 0; i < in.num_queries; ++i) {
      const T delta = dot(out + i * in.out_stride, dout + i * in.dout_stride, in.value_dim);
      deltas[i] = in.scale * (dlse ? delta - dlse[i] : delta);
    }
    for (int super = 0; super < in.num_keys; super += plan.super_keys) {
      const int super_end = std::min(in.num_keys, super + plan.super_keys);
      // Where causal, the first query that sees the super-block's first key.
      const std::int64_t first = in.causal ? std::max<std::int64_t>(0, std::int64_t(super) - in.position) : 0;
      // And, in a window, past the last that sees its last key.
      const std::int64_t past =
          in.span > 0 ? std::min<std::int64_t>(in.num_queries, std::int64_t(super_end) - 1 - in.position + in.span)
                      : in.num_queries;
      for (std::int64_t q = first / plan.queries * plan.queries; q < past; q += plan.queries) {
        b.queries = int(std::min<std::int64_t>(plan.queries, in.num_queries - q));
        b.width = whole_vectors<T>(b.queries);
        b.position = in.position + int(q);
        b.first_query = in.dropout.query + int(q);
        b.query = query + q * in.query_stride;
        b.dout = dout + q * in.dout_stride;
        b.dquery = in.dquery ? in.dquery + head * in.dquery_head + q * in.dquery_stride : nullptr;
        const Visible visible = visible_keys(in.causal, b.position, b.queries, super_end, in.span);
        const int begin = std::max(super, visible.begin), full_begin = std::max(super, visible.full_begin);
        if (visible.end <= begin) continue;
        transpose_into<false, false>(b.query, in.query_stride, b.queries, in.head_dim, b.queries_t, b.width, &scale2);
        transpose_into<false, false>(b.dout, in.dout_stride, b.queries, in.value_dim, b.dout_t, b.width, &in.scale);
        for (int i = 0; i < b.width; ++i) {
          // Lanes past the last query hold nothing that is read; zeros keep them finite.
          b.lse[i] = i < b.queries ? T(lse[q + i] * T(kLog2E)) : T(0);
          b.delta[i] = i < b.queries ? deltas[q + i] : T(0);
        }
        for (int c = b.queries; c < b.width; ++c) {
          for (int d = 0; d < in.head_dim; ++d) b.queries_t[std::ptrdiff_t(d) * b.width + c] = T(0);
          for (int d = 0; d < in.value_dim; ++d) b.dout_t[std::ptrdiff_t(d) * b.width + c] = T(0);
        }
        // The next block's rows, or the next call's first.
        const bool more = q + plan.queries < in.num_queries;
        const std::int64_t rows = more ? std::min<std::int64_t>(plan.queries, in.num_queries - q - plan.queries)
                                       : std::min(plan.queries, in.num_queries);
        Upcoming ahead;
        ahead.add(more ? b.query + plan.queries * in.query_stride : in.next_query, in.query_stride, int(rows),
                  in.head_dim);
        ahead.add(more ? b.dout + plan.queries * in.dout_stride : in.next_dout, in.dout_stride, int(rows),
                  in.value_dim);
        if (!more && super_end == in.num_keys && head + 1 == in.group) {
          const int first_keys = std::min(in.num_keys, plan.keys);
          ahead.add(in.next_key, in.key_stride, first_keys, in.head_dim);
          ahead.add(in.next_value, in.value_stride, first_keys, in.value_dim);
          ahead.add(in.next_out, in.out_stride, int(rows), in.value_dim);
        }
        const int full = visible.full_end - full_begin;
        ahead.spread(2 * (std::max(0, full) / block_rows(kMaxVectors)) +
                     4 * ((visible.end - visible.full_end) / kStrip));
        int key = begin;
        for (; key < full_begin; key += plan.keys) partial_tile(b, key, std::min(plan.keys, full_begin - key), nullptr);
        for (key = full_begin; key < visible.full_end;) {
          const int keys = std::min(plan.keys, visible.full_end - key);
          logits_and_dprobs(b, key, 0, keys, 0, b.width, &ahead);
          for (int c = 0; c < b.width; c += kLaneCount<T>) differentiate(b, 0, keys, c);
          drop_again(b, b.probs, key, 0, keys, 0, b.width);
          add_key_gradients(b, key, 0, keys, 0, b.queries);
          add_query_gradients(b, key, 0, keys, 0, b.queries);
          key += keys;
        }
        for (; key < visible.end; key += plan.keys)
          partial_tile(b, key, std::min(plan.keys, visible.end - key), &ahead);
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
    const std::size_t rows =
        std::size_t(head_dim) + std::size_t(value_dim) + 2 * std::size_t(std::max(plan.keys, 16)) + 2;
    most = std::max(most, (rows * std::size_t(plan.queries) + std::size_t(num_queries)) * sizeof(T));
  }
  return most;
}
template std::size_t plain_backward_workspace<float>(int, int, int);
template std::size_t plain_backward_workspace<double>(int, int, int);

}  // namespace attune::kernels
#endif
