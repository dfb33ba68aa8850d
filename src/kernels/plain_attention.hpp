// The plain path: scaled dot product, softmax; every key visible, causal, a window, or what a mask cuts out; with no
// stage calls.
//
//   forward   S = scale * K Q^T [keys][queries],  P = exp(S - max),  out = (V^T P / sum)^T,  lse = max + log(sum)
//   backward  P = exp(S - lse),  dP = V dout^T,  dS = P (dP - delta),  delta = rowsum(dout * out) - dlse,
//             dV += P dout,  dK += scale * dS Q,  dQ += scale * dS^T K
//   dropout   P of out and dV, and dP, are multiplied by 65536 / threshold where kept, else 0; sums and lse are not
//
// FlashAttention-2 (arXiv:2307.08691) for the order of the tiles, turned so that queries lie in the vector lanes: the
// softmax's statistics need no horizontal sums, and K and V are read where they lie. P is kept in powers of two:
// scale * log2(e) is folded into Q.
//
// NaN and infinity of a key, value, query or dout reach no pair that does not see them. A row that sees no key has
// out 0, lse -inf and gradients 0. Callers hold a FlushDenormals (denormals.hpp) around their tasks.
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/plain_cut.hpp"
#include "kernels/turn.hpp"

namespace attune::kernels {

/// Dropout of the weights; none at threshold 65536. See base/dropout.hpp.
struct PlainDropout {
  std::uint32_t threshold = 65536;
  std::uint64_t seed = 0;
  int batch = 0, head = 0, query = 0;  // of the call's first row
};

/// One block of queries of one head against all keys of its key head. Rows are contiguous; strides are in elements
/// from row to row. queries <= plain_block_queries().
template <class T>
struct PlainForward {
  const T* query = nullptr;  // [queries][head_dim]
  std::ptrdiff_t query_stride = 0;
  const T* key = nullptr;  // [num_keys][head_dim]
  std::ptrdiff_t key_stride = 0;
  const T* value = nullptr;  // [num_keys][value_dim]
  std::ptrdiff_t value_stride = 0;
  T* out = nullptr;  // [queries][value_dim], overwritten
  std::ptrdiff_t out_stride = 0;
  T* lse = nullptr;  // [queries] contiguous, nats; may be null
  // Of each row, [queries] contiguous, all five or none: the largest and the smallest logit and the entropy, nats; the
  // variance of the logits under the probabilities, nats^2; the largest probability. Rounding may leave entropy and
  // variance a little below 0. A row that sees no key: -inf, +inf, 0, 0, 0. Where a visible logit is not finite, the
  // largest, entropy or variance is not either.
  T *largest = nullptr, *smallest = nullptr, *entropy = nullptr, *variance = nullptr, *largest_prob = nullptr;
  int queries = 0, num_keys = 0, head_dim = 0, value_dim = 0;
  T scale = 1;
  bool causal = false;
  int position = 0;         // causal: row i sees key j iff j <= position + i; may be negative
  int span = 0;             // and, where span > 0, iff j > position + i - span: a window
  PlainCut* cut = nullptr;  // or a mask, instead of causal, position and span, and of dropout
  PlainDropout dropout;
  // What the likely next call reads and this one does not, with the same strides: fetched meanwhile. May be null.
  const T *next_query = nullptr, *next_key = nullptr, *next_value = nullptr;
  int next_queries = 0, next_keys = 0;
};

/// What the likely next call reads first: fetched meanwhile. May be null.
template <class T>
struct PlainUpcoming {
  const T *query = nullptr, *dout = nullptr, *out = nullptr, *dquery = nullptr;
  const T *key = nullptr, *value = nullptr, *dkey = nullptr, *dvalue = nullptr;
  int queries = 0, keys = 0;
};

/// One (batch, key head): all its query heads, whole sequences; or a part of its keys. Gradients are added to (+=);
/// null is not computed.
///
/// Parts are whole tiles but for the last. Those of one key head add to the same rows of dquery, in their order whoever
/// computes them: a part waits before each block of queries until the part before it has passed there. So several
/// threads share a head, one block behind the other, with no sums of their own and no other bits.
template <class T>
struct PlainBackward {
  const T* query = nullptr;                         // [group][num_queries][head_dim]
  std::ptrdiff_t query_stride = 0, query_head = 0;  // elements from row to row, from head to head
  const T* key = nullptr;                           // [num_keys][head_dim]
  std::ptrdiff_t key_stride = 0;
  const T* value = nullptr;  // [num_keys][value_dim]
  std::ptrdiff_t value_stride = 0;
  const T* out = nullptr;  // [group][num_queries][value_dim]
  std::ptrdiff_t out_stride = 0, out_head = 0;
  const T* dout = nullptr;  // [group][num_queries][value_dim]
  std::ptrdiff_t dout_stride = 0, dout_head = 0;
  const T* lse = nullptr;  // [group][num_queries], rows contiguous, heads lse_head apart, nats
  std::ptrdiff_t lse_head = 0;
  const T* dlse = nullptr;  // [group][num_queries] with lse_head, or null: gradient of the loss with respect to lse
  T* dquery = nullptr;      // [group][num_queries][head_dim]
  std::ptrdiff_t dquery_stride = 0, dquery_head = 0;
  T* dkey = nullptr;  // [num_keys][head_dim]
  std::ptrdiff_t dkey_stride = 0;
  T* dvalue = nullptr;  // [num_keys][value_dim]
  std::ptrdiff_t dvalue_stride = 0;
  int group = 1, num_queries = 0, num_keys = 0, head_dim = 0, value_dim = 0;
  T scale = 1;
  bool causal = false;
  int position = 0, span = 0;  // as in PlainForward, of row 0 of every head
  PlainCut* cut = nullptr;     // as in PlainForward
  PlainDropout dropout;        // of the first head and row
  // A part: keys first_key .. end_key-1. Parts share deltas; a lone one needs none.
  int first_key = 0, end_key = std::numeric_limits<int>::max();
  T* deltas = nullptr;  // [group][num_queries], filled by the part that sees a query first
  Turn turn;
  PlainUpcoming<T> next;
};

/// Most queries that one call of plain_forward takes; whole blocks run fastest. Depends on the target and the widths.
template <class T>
int plain_block_queries(int head_dim, int value_dim, bool causal);

/// Bytes of workspace that a call needs, aligned to 64. Nothing in it is kept between calls.
template <class T>
std::size_t plain_forward_workspace(int head_dim, int value_dim);
template <class T>
std::size_t plain_backward_workspace(int num_queries, int head_dim, int value_dim);

void plain_forward(const PlainForward<float>&, std::byte* workspace);
void plain_forward(const PlainForward<double>&, std::byte* workspace);
void plain_backward(const PlainBackward<float>&, std::byte* workspace);
void plain_backward(const PlainBackward<double>&, std::byte* workspace);

}  // namespace attune::kernels
