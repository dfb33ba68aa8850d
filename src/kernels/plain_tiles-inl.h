// The tiles of the plain forward: keys that a whole block of queries sees, keys at an edge of a window, and pieces that
// a mask cut out. Each turns logits into weights and adds value^T weights to the output. Included once per target.
#if defined(ATTUNE_KERNELS_PLAIN_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_PLAIN_TILES_INL_H_
#undef ATTUNE_KERNELS_PLAIN_TILES_INL_H_
#else
#define ATTUNE_KERNELS_PLAIN_TILES_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/plain_pieces-inl.h"
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

/// The weights of a piece in one pass. False, with the sums as before, if some row's reference must change.
template <class T>
HWY_INLINE bool piece_weights_at_once(const ForwardBlock<T>& b, const PlainPiece& p, const T* k, int end,
                                      Upcoming* ahead) {
  if (b.misses >= kMisses || !begun(b, p.first, end)) return false;
  keep_sums(b, p.first, end);
  std::uint64_t all = ~std::uint64_t(0);  // lanes that see all keys
  for (int j = 0; p.bits && j < p.keys; ++j) all &= p.bits[j];
  const auto sees_all = [&](int c) { return (all >> c & lanes_between(0, kStrip)) == lanes_between(0, kStrip); };
  int from = p.first;
  while (from < end && !sees_all(from)) from += kStrip;
  int to = from;
  while (to < end && sees_all(to)) to += kStrip;
  weights_where_seen(
      b, p.keys, k, p.first, end, std::min(from, end), std::min(to, end),
      [&](int c) HWY_ATTR {
        return SeenBits<T>{p.bits, c};
      },
      b.weights, ahead);
  if (stands(b, p.first, end)) return true;
  ++b.misses;
  restore_sums(b, p.first, end);
  return false;
}

/// The same in several passes. Rows whose reference stays get the same bits as above.
template <class T>
HWY_NOINLINE void piece_weights_in_passes(const ForwardBlock<T>& b, const PlainPiece& p, const T* k, int end) {
  const PlainForward<T>& in = b.in;
  const Vec<T> hidden = set(-std::numeric_limits<T>::infinity());
  product_into<Into::begin, true>(p.keys, end - p.first, in.head_dim, k, in.key_stride, 1, b.queries + p.first, b.width,
                                  b.weights + p.first, b.width, b.start + p.first);
  for (int c = p.first; c < end; c += kLaneCount<T>) {
    const Vec<T> sum = load(b.sum + c), start = load(b.start + c);
    const bool fresh = hn::AllFalse(Lanes<T>(), hn::Gt(sum, zero<T>()));
    const SeenBits<T> see{p.bits, c};
    Vec<T> top = hidden, total = sum;
    T* at = b.weights + c;
    for (int j = 0; j < p.keys; ++j, at += b.width) {
      Vec<T> logit = load(at);
      if (p.bits) {
        logit = hn::IfThenElse(see(j), logit, hidden);
        store(logit, at);
      }
      top = hn::Max(top, logit);
      if (!fresh) total = hn::Add(total, exp2(logit));
    }
    const auto stays = hn::And(hn::Gt(sum, zero<T>()), hn::Le(total, set(T(kMostSum))));
    choose_reference<T>(b, c, start, top, hn::Or(stays, hn::Not(is_number<T>(top))));
  }
  exponentiate<true>(b, b.weights, p.keys, p.first, end);
  rescale_out(b, p.first, end);
}

/// Keys of which some lanes of the block see some; the first of them is row `key` of in.key. If a value is not finite,
/// the second product runs pair by pair over what is visible.
template <class T>
HWY_NOINLINE void piece_tile(const ForwardBlock<T>& b, const PlainPiece& p, int key, Upcoming* ahead) {
  const PlainForward<T>& in = b.in;
  const int end = std::min(p.end, b.width);
  const T *k = in.key + key * in.key_stride, *v = in.value + key * in.value_stride;
  if (!piece_weights_at_once(b, p, k, end, ahead)) piece_weights_in_passes(b, p, k, end);
  if (!p.bits || rows_finite(v, p.keys, in.value_dim, in.value_stride)) {
    product_into<Into::add, true>(in.value_dim, end - p.first, p.keys, v, 1, in.value_stride, b.weights + p.first,
                                  b.width, b.out + p.first, b.width, static_cast<T*>(nullptr), ahead);
    return;
  }
  for (int j = 0; j < p.keys; ++j) {
    for (int i = p.first; i < end; ++i) {
      if (!(p.bits[j] >> i & 1)) continue;
      const T weight = b.weights[std::ptrdiff_t(j) * b.width + i];
      for (int d = 0; d < in.value_dim; ++d)
        b.out[std::ptrdiff_t(d) * b.width + i] += v[j * in.value_stride + d] * weight;
    }
  }
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
