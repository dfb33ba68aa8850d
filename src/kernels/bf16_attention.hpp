// The plain path on bfloat16 numbers as they lie, for processors that multiply them in pairs (AVX-512 BF16: two
// products a lane and instruction, added in float32). The formulas, the rules for NaN and infinity and the meaning of
// every field are those of plain_attention.hpp; P and dS are rounded to bfloat16 for the products that read them,
// everything else is float32.
//
// Widths must be multiples of 16 and the scale positive (bf16_attention_fits); all else goes by float32.
#pragma once
#include <cstddef>
#include <cstdint>

#include "attune/base/dtype.hpp"
#include "kernels/plain_attention.hpp"

namespace attune::kernels {

/// Queries of one head against all keys of its key head, kBf16BlockQueries at a time. V is packed anew in each call, so
/// several blocks a call are better than one; how they are cut changes no bit.
struct Bf16Forward {
  const BFloat16* query = nullptr;  // [queries][head_dim]
  std::ptrdiff_t query_stride = 0;
  const BFloat16* key = nullptr;  // [num_keys][head_dim]
  std::ptrdiff_t key_stride = 0;
  const BFloat16* value = nullptr;  // [num_keys][value_dim]
  std::ptrdiff_t value_stride = 0;
  BFloat16* out = nullptr;  // [queries][value_dim], overwritten
  std::ptrdiff_t out_stride = 0;
  float* lse = nullptr;  // [queries] contiguous, nats; may be null
  int queries = 0, num_keys = 0, head_dim = 0, value_dim = 0;
  float scale = 1;
  bool causal = false;
  int position = 0;
  PlainDropout dropout;
  // First rows of the likely next call, with the same strides and extents: fetched meanwhile. May be null.
  const BFloat16 *next_query = nullptr, *next_key = nullptr, *next_value = nullptr;
};

/// One (batch, key head): all its query heads, whole sequences. Gradients are added to (+=); null is not computed.
struct Bf16Backward {
  const BFloat16* query = nullptr;  // [group][num_queries][head_dim]
  std::ptrdiff_t query_stride = 0, query_head = 0;
  const BFloat16* key = nullptr;  // [num_keys][head_dim]
  std::ptrdiff_t key_stride = 0;
  const BFloat16* value = nullptr;  // [num_keys][value_dim]
  std::ptrdiff_t value_stride = 0;
  const BFloat16* out = nullptr;  // [group][num_queries][value_dim]
  std::ptrdiff_t out_stride = 0, out_head = 0;
  const BFloat16* dout = nullptr;  // [group][num_queries][value_dim]
  std::ptrdiff_t dout_stride = 0, dout_head = 0;
  const float* lse = nullptr;  // [group][num_queries], rows contiguous, heads lse_head apart, nats
  std::ptrdiff_t lse_head = 0;
  const float* dlse = nullptr;  // [group][num_queries] with lse_head, or null
  float* dquery = nullptr;      // [group][num_queries][head_dim]
  std::ptrdiff_t dquery_stride = 0, dquery_head = 0;
  float* dkey = nullptr;  // [num_keys][head_dim]
  std::ptrdiff_t dkey_stride = 0;
  float* dvalue = nullptr;  // [num_keys][value_dim]
  std::ptrdiff_t dvalue_stride = 0;
  int group = 1, num_queries = 0, num_keys = 0, head_dim = 0, value_dim = 0;
  float scale = 1;
  bool causal = false;
  int position = 0;
  PlainDropout dropout;  // of the first head and row
};

/// Queries that bf16_forward takes together; whole blocks run fastest.
constexpr int kBf16BlockQueries = 64;
/// Keys of a tile of the forward: with 64 the rescaling of out costs 5 %, more than 256 gain nothing.
constexpr int kBf16TileKeys = 256;
/// Keys of a tile of the backward.
constexpr int kBf16BackwardTileKeys = 128;

/// True if this process may use the instruction and the kernels take these extents.
bool bf16_attention_fits(int head_dim, int value_dim, float scale);

/// Bytes of workspace that a call needs, aligned to 64. Nothing in it is kept between calls.
std::size_t bf16_forward_workspace(int num_keys, int head_dim, int value_dim);
std::size_t bf16_backward_workspace(int group, int num_queries, int head_dim, int value_dim);

/// Only where bf16_attention_fits; Error on a machine of another architecture.
void bf16_forward(const Bf16Forward&, std::byte* workspace);
void bf16_backward(const Bf16Backward&, std::byte* workspace);

}  // namespace attune::kernels
