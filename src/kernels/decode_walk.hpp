// How decoding walks over keys: tiles whose keys come from one or several places of a range in turn, and where their
// rows lie in an array or in the blocks of a cache. Plain C++, so that every kernel of decoding shares it.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/decode.hpp"

namespace attune::kernels {

/// Keys of a tile, places of the range from which they come key by key in turns, and tiles that are on their way while
/// one is worked on: enough bytes, in enough streams, to hide the way to memory.
template <class S>
constexpr int kTileKeys = sizeof(S) >= 4 ? 16 : 64;
template <class S>
constexpr int kStreams = sizeof(S) >= 4 ? 4 : 1;
template <class S>
constexpr int kAhead = sizeof(S) >= 4 ? 2 : 1;
/// Where the rows of a tile's keys are. Entries from `keys` on repeat the last row.
template <class S>
struct DecodeTile {
  static constexpr int kScales = sizeof(S) == 1 ? kTileKeys<S> : 1;
  const S *key[kTileKeys<S>], *value[kTileKeys<S>];
  float key_scale[kScales], value_scale[kScales];  // int8 only; 1 and 0 from `keys` on
  int keys = 0;
};

/// A place among the tokens: where the rows of the next one are.
template <class S>
struct DecodeStream {
  const S *key = nullptr, *value = nullptr;
  const float *key_scale = nullptr, *value_scale = nullptr;  // int8 only
  std::int64_t block = 0, left = 0;                          // tokens of this block from here on

  void seek(const DecodeRows& rows, std::int64_t token) {
    block = token / rows.block_tokens;
    enter(rows, token % rows.block_tokens);
  }
  void enter(const DecodeRows& rows, std::int64_t row) {
    const std::byte *keys = rows.keys[block], *values = rows.values[block];
    left = rows.block_tokens - row;
    key = reinterpret_cast<const S*>(keys + rows.key_offset + row * rows.key_stride);
    value = reinterpret_cast<const S*>(values + rows.value_offset + row * rows.value_stride);
    if constexpr (sizeof(S) == 1) {
      key_scale = reinterpret_cast<const float*>(keys + rows.key_scales) + row;
      value_scale = reinterpret_cast<const float*>(values + rows.value_scales) + row;
    }
  }
  /// Writes the next `count` tokens into entries first, first + step, ...
  void take(const DecodeRows& rows, DecodeTile<S>& to, int first, int step, int count) {
    const std::ptrdiff_t key_step = rows.key_stride / std::ptrdiff_t(sizeof(S)),
                         value_step = rows.value_stride / std::ptrdiff_t(sizeof(S));
    while (count > 0) {
      if (left == 0) ++block, enter(rows, 0);
      const int here = int(std::min<std::int64_t>(left, count));
      for (int i = 0, at = first; i < here; ++i, at += step) {
        to.key[at] = key + i * key_step, to.value[at] = value + i * value_step;
        if constexpr (sizeof(S) == 1) to.key_scale[at] = key_scale[i], to.value_scale[at] = value_scale[i];
      }
      key += here * key_step, value += here * value_step;
      if constexpr (sizeof(S) == 1) key_scale += here, value_scale += here;
      left -= here, count -= here, first += here * step;
    }
  }
};

/// The tiles of a range: whole ones whose keys come from kStreams places in turn, then what is left.
template <class S>
class DecodeWalk {
 public:
  DecodeWalk(const DecodeRows& rows, std::int64_t begin, std::int64_t end) : rows_(rows), end_(end) {
    tiles_ = std::max<std::int64_t>(0, end - begin) / kTileKeys<S>;
    const std::int64_t each = tiles_ * (kTileKeys<S> / kStreams<S>);  // keys of a stream
    rest_ = begin + each * kStreams<S>;
    for (int s = 0; s < kStreams<S> && tiles_ > 0; ++s) stream_[s].seek(rows, begin + s * each);
  }
  std::int64_t tiles() const { return tiles_ + (rest_ < end_ ? 1 : 0); }
  /// False if there is no further tile; `tile` is then as it was.
  bool next(DecodeTile<S>& tile) {
    if (tiles_ > 0) {
      --tiles_;
      for (int s = 0; s < kStreams<S>; ++s) stream_[s].take(rows_, tile, s, kStreams<S>, kTileKeys<S> / kStreams<S>);
      tile.keys = kTileKeys<S>;
      return true;
    }
    if (rest_ >= end_) return false;
    const int keys = int(end_ - rest_);
    DecodeStream<S>& at = stream_[0];
    at.seek(rows_, rest_);
    at.take(rows_, tile, 0, 1, keys);
    for (int i = keys; i < kTileKeys<S>; ++i) {
      tile.key[i] = tile.key[keys - 1], tile.value[i] = tile.value[keys - 1];
      if constexpr (sizeof(S) == 1) tile.key_scale[i] = 1, tile.value_scale[i] = 0;
    }
    tile.keys = keys;
    rest_ = end_;
    return true;
  }

 private:
  const DecodeRows& rows_;
  std::int64_t tiles_, rest_, end_;
  DecodeStream<S> stream_[kStreams<S>];
};

}  // namespace attune::kernels
