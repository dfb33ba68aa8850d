// The forward of the plain path: one block of queries against all its keys, tile by tile, with the online softmax
// (arXiv:1805.02867). The ladder: S by the broadcast product; its running maximum taken while it is still in registers;
// one pass for the exponentials and their sum; O by the same product, rescaled while its accumulator is loaded.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/plain_forward.cpp"
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/dispatch.hpp"
#include "kernels/plain_attention.hpp"
#include "kernels/plain_few.hpp"
#include "kernels/tile_plan.hpp"

#include "hwy/foreach_target.h"

#include "kernels/dropout-inl.h"
#include "kernels/plain-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// The block's memory; `width` is the number of its queries, rounded up to whole vectors. All of it is laid out by
/// pointers into the caller's workspace.
template <class T>
struct ForwardBlock {
  const PlainForward<T>& in;
  int width = 0;
  T* queries = nullptr;  // [head_dim][width], times scale * log2(e)
  T* weights = nullptr;  // [tile keys][width]
  T* out = nullptr;      // [value_dim][width], not yet divided by the sums
  T* maximum = nullptr;  // [width] of the logits so far, in powers of two
  T* next = nullptr;     // [width] with the present tile
  T* factor = nullptr;   // [width] 2^(maximum - next)
  T* sum = nullptr;      // [width] of 2^(logit - maximum)
  T* first = nullptr;    // [width] of 2^(logit - maximum) (logit - maximum); null unless the caller asks for moments
  T* second = nullptr;   // [width] the same with the square
  Dropped dropped;
};

/// Brings the moments of lanes first .. last-1 to the new maximum and adds the tile's, before its logits become
/// weights. A pass of its own: asking for moments changes no bit of anything else.
template <class T>
HWY_NOINLINE void add_moments(const ForwardBlock<T>& b, int keys, int first, int last) {
  constexpr int kL = kLaneCount<T>;
  const Vec<T> least = set(T(-2000));  // 2^-2000 is 0 and its products with 2000 are too, where -inf would give NaN
  for (int c = first; c < last; c += kL) {
    const Vec<T> top = load(b.next + c), old = hn::Max(hn::Sub(load(b.maximum + c), top), least), factor = exp2(old);
    Vec<T> sum = load(b.sum + c), one = load(b.first + c), two = load(b.second + c);
    two = hn::Mul(factor, hn::MulAdd(old, hn::MulAdd(old, sum, hn::Add(one, one)), two));
    one = hn::Mul(factor, hn::MulAdd(old, sum, one));
    for (int j = 0; j < keys; ++j) {
      const Vec<T> x = hn::Max(hn::Sub(load(b.weights + std::ptrdiff_t(j) * b.width + c), top), least);
      const Vec<T> ex = hn::Mul(exp2(x), x);
      one = hn::Add(one, ex);
      two = hn::MulAdd(ex, x, two);
    }
    store(one, b.first + c);
    store(two, b.second + c);
  }
}

/// Weights 2^(logit - maximum) in place, over kVectors columns of vectors; sum = sum * factor + their sum.
template <int kVectors, class T>
HWY_NOINLINE void exponentiate_columns(T* x, int keys, int width, T* maximum, const T* next, T* factor, T* sum) {
  constexpr int kL = kLaneCount<T>;
  Vec<T> top[kVectors], total[kVectors];
  ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
    top[v] = load(next + v * kL);
    const Vec<T> f = exp2(hn::Sub(load(maximum + v * kL), top[v]));
    store(f, factor + v * kL);
    store(top[v], maximum + v * kL);
    total[v] = hn::Mul(load(sum + v * kL), f);
  }
  for (int j = 0; j < keys; ++j) {
    T* row = x + std::ptrdiff_t(j) * width;
    ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) {
      const Vec<T> e = exp2(hn::Sub(load(row + v * kL), top[v]));
      total[v] = hn::Add(total[v], e);
      store(e, row + v * kL);
    }
  }
  ATTUNE_UNROLL for (int v = 0; v < kVectors; ++v) store(total[v], sum + v * kL);
}
/// The same for lanes first .. last-1.
template <class T>
HWY_INLINE void exponentiate(const ForwardBlock<T>& b, int keys, int first, int last) {
  constexpr int kL = kLaneCount<T>;
  if (b.first) add_moments(b, keys, first, last);
  int c = first;
  const auto columns = [&](auto vectors) HWY_ATTR {
    constexpr int kVectors = decltype(vectors)::value;
    for (; c + kVectors * kL <= last; c += kVectors * kL) {
      exponentiate_columns<kVectors>(b.weights + c, keys, b.width, b.maximum + c, b.next + c, b.factor + c, b.sum + c);
    }
  };
  columns(std::integral_constant<int, 4>());
  columns(std::integral_constant<int, 2>());
  columns(std::integral_constant<int, 1>());
}

/// Dropout of the weights of lanes first .. last-1, once their sums are taken.
template <class T>
HWY_INLINE void drop_weights(const ForwardBlock<T>& b, int key, int keys, int first, int last) {
  if (b.dropped.threshold < 65536)
    drop_tile(b.weights + first, b.width, b.dropped, b.in.dropout.query + first, last - first, key, keys);
}

/// Keys that every query of the block sees. ahead: what to fetch during the first and during the second product.
template <class T>
HWY_INLINE void full_tile(const ForwardBlock<T>& b, int key, int keys, bool first, Upcoming ahead0, Upcoming ahead1) {
  const PlainForward<T>& in = b.in;
  const T* k = in.key + key * in.key_stride;
  const T* v = in.value + key * in.value_stride;
  std::copy(b.maximum, b.maximum + b.width, b.next);
  product_into<Into::maximum>(keys, b.width, in.head_dim, k, in.key_stride, 1, b.queries, b.width, b.weights, b.width,
                              b.next, &ahead0);
  exponentiate(b, keys, 0, b.width);
  drop_weights(b, key, keys, 0, b.width);
  if (first) {
    product_into<Into::overwrite>(in.value_dim, b.width, keys, v, 1, in.value_stride, b.weights, b.width, b.out,
                                  b.width, static_cast<T*>(nullptr), &ahead1);
  } else {
    product_into<Into::rescale>(in.value_dim, b.width, keys, v, 1, in.value_stride, b.weights, b.width, b.out, b.width,
                                b.factor, &ahead1);
  }
}

/// Keys of the diagonal, key j seen by the queries from j - position on. Hidden logits become -inf before the maximum
/// is taken; if a value is not finite, the second product runs pair by pair over what is visible.
template <class T>
HWY_INLINE void partial_tile(const ForwardBlock<T>& b, int key, int keys) {
  constexpr int kL = kLaneCount<T>;
  const PlainForward<T>& in = b.in;
  const T* k = in.key + key * in.key_stride;
  const T* v = in.value + key * in.value_stride;
  const int from = key - in.position;  // the first query that sees the first key; negative if all do
  const int first = strip_lane(from);
  const Vec<T> hidden = set(-std::numeric_limits<T>::infinity());
  std::copy(b.maximum + first, b.maximum + b.width, b.next + first);
  for (int j0 = 0; j0 < keys; j0 += kStrip) {
    const int j1 = std::min(keys, j0 + kStrip), lane = strip_lane(from + j0);
    T* x = b.weights + std::ptrdiff_t(j0) * b.width;
    product_into<Into::overwrite>(j1 - j0, b.width - lane, in.head_dim, k + j0 * in.key_stride, in.key_stride, 1,
                                  b.queries + lane, b.width, x + lane, b.width);
    for (int c = lane; c < b.width; c += kL) {
      Vec<T> top = load(b.next + c);
      for (int j = j0; j < j1; ++j) {
        T* at = b.weights + std::ptrdiff_t(j) * b.width + c;
        const Vec<T> logit = hn::IfThenElse(sees<T>(c, from + j), load(at), hidden);
        store(logit, at);
        top = hn::Max(top, logit);
      }
      store(top, b.next + c);
    }
  }
  const bool finite = rows_finite(v, keys, in.value_dim, in.value_stride);
  for (int lane = first; lane < b.width; lane += kStrip) {
    const int last = std::min(b.width, lane + kStrip);
    const int seen = std::min(keys, lane + kStrip - from);  // by the strip's last query
    exponentiate(b, seen, lane, last);
    drop_weights(b, key, seen, lane, last);
    if (finite) {
      product_into<Into::rescale>(in.value_dim, last - lane, seen, v, 1, in.value_stride, b.weights + lane, b.width,
                                  b.out + lane, b.width, b.factor + lane);
      continue;
    }
    for (int d = 0; d < in.value_dim; ++d) {
      T* out = b.out + std::ptrdiff_t(d) * b.width;
      for (int i = lane; i < last; ++i) {
        out[i] *= b.factor[i];
        for (int j = 0; j < std::min(keys, i - from + 1); ++j)
          out[i] += v[j * in.value_stride + d] * b.weights[std::ptrdiff_t(j) * b.width + i];
      }
    }
  }
}

template <class T>
HWY_INLINE void forward(const PlainForward<T>& in, const TilePlan& plan, T* workspace) {
  constexpr int kL = kLaneCount<T>;
  const int width = whole_vectors<T>(in.queries);
  ForwardBlock<T> b{
      .in = in, .width = width, .dropped = {in.dropout.seed, in.dropout.batch, in.dropout.head, in.dropout.threshold}};
  b.queries = workspace;
  b.weights = b.queries + std::ptrdiff_t(in.head_dim) * width;
  b.out = b.weights + std::ptrdiff_t(plan.keys) * width;
  b.maximum = b.out + std::ptrdiff_t(in.value_dim) * width;
  b.next = b.maximum + width;
  b.factor = b.next + width;
  b.sum = b.factor + width;
  if (in.first) {
    b.first = b.sum + width;
    b.second = b.first + width;
    std::fill(b.first, b.second + width, T(0));
  }

  const T scale = T(double(in.scale) * kLog2E);
  transpose_into<false, false>(in.query, in.query_stride, in.queries, in.head_dim, b.queries, width, &scale);
  for (int d = 0; d < in.head_dim; ++d)
    std::fill(b.queries + std::ptrdiff_t(d) * width + in.queries, b.queries + std::ptrdiff_t(d + 1) * width, T(0));
  // The lowest finite number, not -infinity: a row that has seen no key yet then has a factor of 2^0 and weights of
  // 2^(-infinity - lowest) = 0, without a NaN.
  std::fill(b.maximum, b.maximum + width, std::numeric_limits<T>::lowest());
  std::fill(b.sum, b.sum + width, T(0));

  const Visible visible = visible_keys(in.causal, in.position, in.queries, in.num_keys);
  if (visible.full == 0) std::fill(b.out, b.out + std::ptrdiff_t(in.value_dim) * width, T(0));
  const Upcoming out = Upcoming::of(in.out, in.out_stride, in.queries, in.value_dim);
  const Upcoming next = Upcoming::of(in.next_query, in.query_stride, in.next_queries, in.head_dim);
  for (int key = 0; key < visible.full; key += plan.keys) {
    const bool last = key + plan.keys >= visible.full;
    full_tile(b, key, std::min(plan.keys, visible.full - key), key == 0, last ? out : Upcoming(),
              last ? next : Upcoming());
  }
  for (int key = visible.full; key < visible.end; key += plan.keys)
    partial_tile(b, key, std::min(plan.keys, visible.end - key));

  // A row that sees no key has sum 0: out 0 and lse -inf are chosen by its position, not computed.
  const int empty = visible.end == 0 ? in.queries : in.causal ? std::clamp(-in.position, 0, in.queries) : 0;
  if (in.lse) {
    for (int i = 0; i < width; i += kL) {
      const Vec<T> lse = hn::MulAdd(load(b.maximum + i), set(T(kLn2)), log(load(b.sum + i)));
      store_first(lse, in.lse + i, std::min(kL, in.queries - i));
    }
    std::fill(in.lse, in.lse + empty, -std::numeric_limits<T>::infinity());
  }
  if (in.first) {  // from powers of two to nats
    for (int i = 0; i < in.queries; ++i) {
      in.largest[i] = i < empty ? -std::numeric_limits<T>::infinity() : b.maximum[i] * T(kLn2);
      in.sum[i] = i < empty ? T(0) : b.sum[i];
      in.first[i] = i < empty ? T(0) : b.first[i] * T(kLn2);
      in.second[i] = i < empty ? T(0) : b.second[i] * T(kLn2 * kLn2);
    }
  }
  for (int i = 0; i < width; i += kL) store(hn::Div(set(T(1)), load(b.sum + i)), b.factor + i);
  std::fill(b.factor, b.factor + empty, T(0));
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
  if (is_few(in)) return plain_few(in, workspace);
  ATTUNE_DISPATCH(plain_forward_f32)
  (in, forward_plan<float>(in.head_dim, in.value_dim, in.causal), reinterpret_cast<float*>(workspace));
}
void plain_forward(const PlainForward<double>& in, std::byte* workspace) {
  if (is_few(in)) return plain_few(in, workspace);
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
  std::size_t most = plain_few_workspace<T>(value_dim);
  for (bool causal : {false, true}) {
    const TilePlan plan = forward_plan<T>(head_dim, value_dim, causal);
    const std::size_t rows = std::size_t(head_dim) + std::size_t(value_dim) + std::size_t(std::max(plan.keys, 16)) + 6;
    most = std::max(most, rows * std::size_t(plan.queries) * sizeof(T));
  }
  return most;
}
template std::size_t plain_forward_workspace<float>(int, int);
template std::size_t plain_forward_workspace<double>(int, int);

}  // namespace attune::kernels
#endif
