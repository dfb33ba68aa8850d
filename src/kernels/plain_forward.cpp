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
// What did not help: docs/decisions/0009-beside-the-products.md and 0015-a-reference-that-stays.md.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/plain_forward.cpp"
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/dispatch.hpp"
#include "kernels/plain_attention.hpp"
#include "kernels/tile_plan.hpp"

#include "hwy/foreach_target.h"

#include "kernels/plain_weights-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// Dropout of the weights of lanes first .. last-1, `keys` rows of weights from x on, once their sums are taken.
template <class T>
HWY_INLINE void drop_weights(const ForwardBlock<T>& b, T* x, int key, int keys, int first, int last) {
  if (b.dropped.threshold < 65536)
    drop_tile(x + first, b.width, b.dropped, b.in.dropout.query + first, last - first, key, keys);
}

/// out = out * factor for lanes first .. last-1; nothing to do where no reference changed.
template <class T>
HWY_NOINLINE void rescale_out(const ForwardBlock<T>& b, int first, int last) {
  bool same = true;
  for (int i = first; i < last; ++i) same &= b.factor[i] == T(1);
  if (same) return;
  for (int d = 0; d < b.in.value_dim; ++d) {
    T* out = b.out + std::ptrdiff_t(d) * b.width;
    for (int c = first; c < last; c += kLaneCount<T>) store(hn::Mul(load(out + c), load(b.factor + c)), out + c);
  }
}

/// Keys that every query of the block sees. ahead: what to fetch meanwhile; may be null.
template <class T>
HWY_NOINLINE void full_tile(const ForwardBlock<T>& b, int key, int keys, bool first, Upcoming* ahead) {
  const PlainForward<T>& in = b.in;
  const T* k = in.key + key * in.key_stride;
  const T* v = in.value + key * in.value_stride;
  if (b.misses >= kMisses || !weights_at_once(b, k, keys, first, ahead)) {
    weights_in_passes(b, k, keys, first);
    if (!first) rescale_out(b, 0, b.width);
  }
  drop_weights(b, b.weights, key, keys, 0, b.width);
  if (first) {
    std::fill(b.before, b.before + b.width, T(0));
    product_into<Into::begin, true>(in.value_dim, b.width, keys, v, 1, in.value_stride, b.weights, b.width, b.out,
                                    b.width, b.before, ahead);
  } else {
    product_into<Into::add, true>(in.value_dim, b.width, keys, v, 1, in.value_stride, b.weights, b.width, b.out,
                                  b.width, static_cast<T*>(nullptr), ahead);
  }
}

/// Keys at an edge of what is visible. If a value is not finite, the second product runs pair by pair over what is
/// visible.
template <class T>
HWY_NOINLINE void partial_tile(const ForwardBlock<T>& b, int key, int keys, Upcoming* ahead) {
  const PlainForward<T>& in = b.in;
  const int from = key - in.position;
  const EdgeTile<T> e{in.key + key * in.key_stride,
                      in.value + key * in.value_stride,
                      keys,
                      from,
                      strip_lane(from),
                      strip_end(from + keys - 1, in.span, b.width)};
  if (e.first >= e.end) return;
  const bool at_once = edge_weights_at_once(b, e, ahead);
  if (!at_once) edge_weights_in_passes(b, e, ahead);
  const bool finite = rows_finite(e.value, keys, in.value_dim, in.value_stride);
  const auto first_key = [&](int query) { return in.span > 0 ? std::max(0, query - from - in.span + 1) : 0; };
  for (int lane = e.first; lane < e.end; lane += kStrip) {
    const int last = std::min(e.end, lane + kStrip);
    const int j0 = first_key(lane), seen = std::min(keys, lane + kStrip - from) - j0;  // from its first to its last key
    if (seen <= 0) continue;
    T* x = b.weights + std::ptrdiff_t(j0) * b.width;
    if (!at_once) {
      exponentiate<true>(b, x, seen, lane, last);
      rescale_out(b, lane, last);
    }
    drop_weights(b, x, key + j0, seen, lane, last);
    const T* v = e.value + j0 * in.value_stride;
    if (finite) {
      product_into<Into::add, true>(in.value_dim, last - lane, seen, v, 1, in.value_stride, x + lane, b.width,
                                    b.out + lane, b.width, static_cast<T*>(nullptr), ahead);
      continue;
    }
    for (int d = 0; d < in.value_dim; ++d) {
      T* out = b.out + std::ptrdiff_t(d) * b.width;
      for (int i = lane; i < last; ++i) {
        for (int j = first_key(i); j < std::min(keys, i - from + 1); ++j)
          out[i] += e.value[j * in.value_stride + d] * b.weights[std::ptrdiff_t(j) * b.width + i];
      }
    }
  }
}

/// Entropy, variance and extremes of each row from its moments, relative to the largest logit: exact where logits are
/// large. Rows first .. last-1 see a key.
template <class T>
HWY_NOINLINE void describe_rows(const ForwardBlock<T>& b, int first, int last) {
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
    const Vec<T> weights = hn::Mul(exp2(shift), sum);  // relative to the largest, whose own is 1
    store_first(hn::Sub(log(weights), mean), in.entropy + i, n);
    store_first(hn::Div(set(T(1)), weights), in.largest_prob + i, n);
    store_first(hn::NegMulAdd(mean, mean, second), in.variance + i, n);
  }
  for (int i = 0; i < in.queries; ++i) {
    if (i >= first && i < last) continue;
    in.largest[i] = -kInfinity, in.smallest[i] = kInfinity, in.entropy[i] = in.variance[i] = in.largest_prob[i] = T(0);
  }
}

/// Of keys and values of one head: up to here the processor's own fetching keeps up (4096 keys of width 64 run as fast
/// as 1024, 16384 lose a tenth).
constexpr std::int64_t kNearBytes = std::int64_t(4) << 20;

template <class T>
HWY_INLINE void forward(const PlainForward<T>& in, const TilePlan& plan, T* workspace) {
  constexpr int kL = kLaneCount<T>;
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
  const Visible visible = visible_keys(in.causal, in.position, in.queries, in.num_keys, in.span);
  const bool fresh = visible.full_begin == visible.begin && visible.full_begin < visible.full_end;
  if (!fresh) std::fill(b.out, b.out + std::ptrdiff_t(in.value_dim) * width, T(0));
  for (int key = visible.begin; key < visible.full_begin; key += plan.keys)
    partial_tile(b, key, std::min(plan.keys, visible.full_begin - key), nullptr);
  // What this call writes and what the next one reads, during the last tile and those of the diagonal.
  Upcoming ahead;
  ahead.add(in.out, in.out_stride, in.queries, in.value_dim);
  ahead.add(in.next_query, in.query_stride, in.next_queries, in.head_dim);
  ahead.add(in.next_key, in.key_stride, std::min(in.next_keys, plan.keys), in.head_dim);
  ahead.add(in.next_value, in.value_stride, std::min(in.next_keys, plan.keys), in.value_dim);
  const int inner = visible.full_end - visible.full_begin, edge = visible.end - visible.full_end;
  const int last_keys = inner > 0 ? (inner - 1) % plan.keys + 1 : 0;
  ahead.spread((last_keys + (inner > 0 ? in.value_dim : 0)) / block_rows(kMaxVectors) +
               edge / kStrip * (2 + in.value_dim / block_rows(1)));
  // Keys and values beyond the nearer caches come from far away: the next tile is fetched during this one.
  const bool far = std::int64_t(in.num_keys) * (in.head_dim + in.value_dim) * int(sizeof(T)) > kNearBytes;
  for (int key = visible.full_begin; key < visible.full_end; key += plan.keys) {
    const bool first = fresh && key == visible.full_begin, last = key + plan.keys >= visible.full_end;
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
  for (int key = visible.full_end; key < visible.end; key += plan.keys)
    partial_tile(b, key, std::min(plan.keys, visible.end - key), &ahead);

  const int tiles = (visible.end - visible.begin + plan.keys - 1) / plan.keys;
  wary = wary > 0 ? wary - 1 : b.misses > 0 && b.misses >= std::min(tiles, kMisses) ? 8 : 0;

  // Rows that see no key, at the front and at the back, have sum 0: their out 0 and lse -inf are chosen by position,
  // not computed.
  int empty = 0, full = in.queries;  // rows empty .. full-1 see a key
  if (visible.end <= visible.begin) {
    full = 0;
  } else {
    if (in.causal) empty = std::clamp(-in.position, 0, in.queries);
    if (in.span > 0) {
      full = int(std::clamp<std::int64_t>(std::int64_t(in.num_keys) - in.position + in.span - 1, empty, in.queries));
    }
  }
  if (in.lse) {
    for (int i = 0; i < width; i += kL) {
      const Vec<T> lse = hn::NegMulAdd(load(b.start + i), set(T(kLn2)), log(load(b.sum + i)));
      store_first(lse, in.lse + i, std::min(kL, in.queries - i));
    }
    std::fill(in.lse, in.lse + empty, -std::numeric_limits<T>::infinity());
    std::fill(in.lse + full, in.lse + in.queries, -std::numeric_limits<T>::infinity());
  }
  if (in.entropy) describe_rows(b, empty, full);
  for (int i = 0; i < width; i += kL) store(hn::Div(set(T(1)), load(b.sum + i)), b.factor + i);
  std::fill(b.factor, b.factor + empty, T(0));
  std::fill(b.factor + full, b.factor + in.queries, T(0));
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
    const std::size_t rows = std::size_t(head_dim) + std::size_t(value_dim) + std::size_t(std::max(plan.keys, 16)) + 13;
    most = std::max(most, rows * std::size_t(plan.queries) * sizeof(T));
  }
  return most;
}
template std::size_t plain_forward_workspace<float>(int, int);
template std::size_t plain_forward_workspace<double>(int, int);

}  // namespace attune::kernels
#endif
