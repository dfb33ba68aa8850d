// Keys and values of past tokens, in blocks that sequences take from one pool, and attention over them.
//
//     cache.append({a, b}, key, value);                           // the new tokens of two sequences
//     attend_forward(query, cache, {a, b}, {.out = out});         // each over its own past, causal
//
// A sequence is a list of blocks of `block_tokens` tokens: it grows without moving what it has, gives its blocks back
// when it is removed, and a fork shares all of them until one of the two writes ("Efficient Memory Management for Large
// Language Model Serving with PagedAttention", arXiv:2309.06180). Numbers are stored as float32, a half type or int8
// and widened as they are read. One cache is one layer: a model keeps one per layer.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "attune/attention/attend.hpp"

namespace attune {

/// How a cache stores numbers. int8: a row of one token and head is scale * integers in -127 .. 127 with one float32
/// scale, its largest magnitude / 127; the error of a number is at most half a scale.
enum class CacheType : std::uint8_t { float32, bfloat16, float16, int8 };
/// "float32", "bfloat16", "float16", "int8".
std::string_view name_of(CacheType type);

struct KvCacheOptions {
  int num_kv_heads = 1;
  int head_dim = 0;       // of a key, 1 or more
  int value_dim = 0;      // of a value; 0: as head_dim
  int block_tokens = 64;  // 16 to 256, a multiple of 16
  CacheType type = CacheType::float32;
  std::int64_t max_blocks = 0;  // most blocks in use at a time; 0: as many as memory holds
  /// Keys are stored as this position makes them, once, when they are appended; attend_forward over the cache does the
  /// same to queries. None: rows are stored as they come. A position without learned arrays that leaves a key's width
  /// and does not change with the number of keys.
  AnyPosition position = {};
};

/// Sequences are numbers that add() and fork() hand out; a number is free for use again after remove(). Reading
/// (attend, read, length) may happen from several threads at a time, changes may not.
class KvCache {
 public:
  /// Throws Error for extents or block sizes out of range. Takes no memory yet.
  explicit KvCache(const KvCacheOptions&);
  ~KvCache();
  KvCache(KvCache&&) noexcept;
  KvCache& operator=(KvCache&&) noexcept;

  /// A new sequence without tokens.
  int add();
  /// A new sequence with the tokens of `sequence`, in the same blocks; the last one is copied when either grows.
  int fork(int sequence);
  /// Ends a sequence; blocks that no other one shares go back to the pool.
  void remove(int sequence);
  /// Drops all but the first `tokens` tokens.
  void truncate(int sequence, std::int64_t tokens);
  /// Adds T tokens to the end of each of N sequences (all different). key [N, Hkv, T, D], value [N, Hkv, T, Dv]: any
  /// dtype, any strides whose last is 1. Throws Error, and changes nothing, if max_blocks is not enough, or for a NaN
  /// or infinity where int8 is stored. Keys go through options().position first.
  void append(std::span<const int> sequences, const ConstView& key, const ConstView& value);
  void append(std::initializer_list<int> sequences, const ConstView& key, const ConstView& value) {
    append(std::span<const int>(sequences.begin(), sequences.size()), key, value);
  }
  /// Tokens first .. first + T - 1 as stored: key [Hkv, T, D], value [Hkv, T, Dv], float32, any strides whose last
  /// is 1.
  void read(int sequence, std::int64_t first, const View& key, const View& value) const;

  const KvCacheOptions& options() const;
  /// Tokens of a sequence.
  std::int64_t length(int sequence) const;
  int num_sequences() const;
  /// Blocks that sequences hold; one that several share counts once.
  std::int64_t blocks_in_use() const;
  /// Bytes of one block; of the blocks in use; of all memory that the pool has taken and keeps.
  std::int64_t block_bytes() const;
  std::int64_t bytes_in_use() const { return blocks_in_use() * block_bytes(); }
  std::int64_t bytes() const;

  struct Store;  // the library's own
  const Store& store() const { return *store_; }

 private:
  std::unique_ptr<Store> store_;
};

/// attend_forward where keys and values are those of a cache: entry b of the batch is attended to over all tokens of
/// sequences[b]. Causal always: the last query stands at the last token, so query i of Tq sees the tokens up to
/// length - Tq + i; options.mask hides further ones. A query before the first token sees none. Positions: best the
/// cache's own, so that decoding reads keys that have theirs; with options.position all keys are mapped in every call.
///
/// Shapes  query [B, H, Tq, D], out [B, H, Tq, Dv] in the query's dtype (float32, bfloat16 or float16); H a multiple of
///         the cache's heads; lse and entropy [B, H, Tq] float32. parameters: float32, as in AttendInputs.
/// Cost    Decoding (scaled dot, softmax, masks that show runs of keys, no options.position, Tq * H / Hkv at most 16):
///         one walk over the
///         stored blocks and no copy. Everything else: a float32 copy of the keys and values, padded to the longest
///         sequence, and attend_forward on it.
/// Throws  Error as attend_forward, for dropout, offsets, alignments or packed sequences in the options, and for a
///         position where the cache has one.
void attend_forward(const ConstView& query, const KvCache&, std::span<const int> sequences, const AttendOutputs&,
                    const AttendOptions& = {}, const std::vector<ConstView>& parameters = {});
inline void attend_forward(const ConstView& query, const KvCache& cache, std::initializer_list<int> sequences,
                           const AttendOutputs& out, const AttendOptions& options = {},
                           const std::vector<ConstView>& parameters = {}) {
  attend_forward(query, cache, std::span<const int>(sequences.begin(), sequences.size()), out, options, parameters);
}

}  // namespace attune
