// A few queries against many keys, in arrays or in a cache: the way to the decoding kernel.
#pragma once
#include <cstdint>
#include <vector>

#include "attune/attention/attend.hpp"
#include "kernels/decode.hpp"

namespace attune::engine {

/// The keys and values of one batch entry: those of key head 0, and the bytes from head to head.
struct DecodeSource {
  kernels::DecodeRows rows;
  std::ptrdiff_t key_head = 0, value_head = 0, key_scale_head = 0, value_scale_head = 0;
};

/// One call: every batch entry has keys of its own. Row i of entry b sees keys ranges[b * Tq + i].
struct DecodeCall {
  ConstView query;  // [B, H, Tq, D]
  View out;         // [B, H, Tq, Dv], the query's dtype
  View lse;         // [B, H, Tq] contiguous or left out
  double scale = 1;
  int num_kv_heads = 1;
  std::vector<DecodeSource> sources;  // [B]
  std::vector<Range> ranges;          // [B * Tq]
};
void run_decode(const DecodeCall&);

/// True if the mask shows every query one run of keys, whatever its head: causal, window, padding, and these joined.
bool is_range(const AnyMask&);
/// The keys that query `query` of batch entry `batch` sees, within 0 .. num_keys. For masks that are ranges.
Range range_of(const AnyMask&, const AttendShape&, int batch, int query, int offset);

/// True if a call with these extents and options is decoding: run_decode then serves out and lse.
bool decodes(const AttendShape&, const AttendOptions&);
/// Bytes that such a call needs beside its arrays: what every range of keys found, [parts][rows][Dv] and more.
std::int64_t decode_bytes(const AttendShape&, DType);
/// Writes out and lse of a call that is decoding; false, and nothing done, if it is not or has mistakes in its views.
bool decode_forward(const AttendInputs&, const AttendOutputs&, const AttendOptions&);

}  // namespace attune::engine
