// Decoding: a handful of query rows against many keys of one key head. Bound by reading keys and values, once.
//
//   x = query . key (powers of two),  weight = 2^(x - maximum),  out += weight value,  sum += weight
//
// Keys and values lie in one array or in the blocks of a cache, in the type that stores them, and are widened on load.
// A call serves one range of keys; long ranges are cut every kDecodeSplit keys, so that one head keeps several threads
// busy, and merge_decoded joins the parts in the order of the keys. The cut and the order depend on the problem alone.
// Flash-Decoding (split keys); the merge is that of the online softmax, arXiv:1805.02867.
#pragma once
#include <cstddef>
#include <cstdint>

namespace attune::kernels {

/// How numbers are stored. int8: number = scale * integer, one float32 scale per token and head.
enum class Stored : std::uint8_t { float32, float64, bfloat16, float16, int8 };

/// Keys and values of one key head. Token j is row j % block_tokens of block j / block_tokens. Offsets and strides in
/// bytes.
struct DecodeRows {
  const std::byte* const* keys = nullptr;    // [blocks]: a row starts at keys[block] + key_offset + row * key_stride
  const std::byte* const* values = nullptr;  // [blocks], likewise
  std::ptrdiff_t key_offset = 0, key_stride = 0, value_offset = 0, value_stride = 0;
  std::ptrdiff_t key_scales = 0, value_scales = 0;  // int8: float [block_tokens] at keys[block] + key_scales, ...
  std::int64_t block_tokens = 1;                    // a multiple of 4, unless there is one block
  Stored stored = Stored::float32;
};

/// One query row: the keys it sees, begin .. end - 1, and what the online softmax knows of it.
template <class T>
struct DecodeRow {
  const T* query = nullptr;  // [head_dim] times scale * log2(e)
  T* out = nullptr;          // [decode_padded(value_dim)]: sum of weights times values; overwritten
  std::int64_t begin = 0, end = 0;
  T maximum = 0, sum = 0;  // overwritten; the maximum in powers of two. A row that saw no key has sum 0
};

template <class T>
struct Decode {
  DecodeRows rows;
  int head_dim = 0, value_dim = 0;
  std::int64_t begin = 0, end = 0;  // the keys of this call; a row sees those that lie in its own range too
  DecodeRow<T>* row = nullptr;      // [num_rows]; rows that see the same keys stand together
  int num_rows = 0;
  T* spare = nullptr;  // [decode_padded(value_dim)], contents undefined
  // The queries were rounded to a half type: what is computed may be to within a twentieth of that.
  bool half_queries = false;
  // What this thread is likely to be asked for next, keys next_begin .. next_end - 1 of `next`: the first of them are
  // fetched towards the end of this call. Changes no bit.
  DecodeRows next;
  std::int64_t next_begin = 0, next_end = 0;
};

/// Keys from one cut to the next: enough work for a task, few enough that a head of 8k keys feeds eight threads.
inline constexpr std::int64_t kDecodeSplit = 1024;
/// Most rows that are better served here than by the tiles of the plain path, whose lanes they would not fill.
inline constexpr int kDecodeRows = 16;
/// Numbers in a row of `out`: whole vectors of every target.
constexpr int decode_padded(int dim) { return (dim + 15) / 16 * 16; }

void decode(const Decode<float>&);
void decode(const Decode<double>&);  // Stored::float64 only
/// Stored::int8 in products of integers: `rows` (1 or 4) rows over keys begin .. end - 1, all of which all of them see.
/// False, and nothing done, without AVX-512 VNNI, for widths over 256 and for queries below 1e-30.
bool decode_digits(const Decode<float>&, DecodeRow<float>* const* row, int rows, std::int64_t begin, std::int64_t end);

/// What parts of a row found, in the order of the keys: out [value_dim] = sum of weights times values over all parts,
/// divided by the sum of weights. Returns the log-sum-exp in nats; -infinity and zeros if no part saw a key.
template <class T>
T merge_decoded(const DecodeRow<T>* const* parts, int num_parts, int value_dim, T* out);

}  // namespace attune::kernels
